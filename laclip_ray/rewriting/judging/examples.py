"""Find words that a rewrite took from the example pairs of its prompt; part of the gate.

A small model writes "a door handle has a cake for her 90th birthday" behind an example about a birthday cake. A word
that stands in the examples, in the rewrite, and not in the caption may also be there by chance, so frequent words of
captions do not count, and one rare word alone is not enough. A rewrite is refused for

- a number of the examples, or a name;
- two different rare words of the examples;
- one rare word together with its neighbours in an example: another word of content beside it, or two words.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from laclip_ray.rewriting.judging.text import base_of, bases_of, units_of, words_of
from laclip_ray.rewriting.prompting.prompts import ExamplePair

_FREQUENT_WORDS = (
    "about across actor after against air all along and animal another are area arms around arrives art artist as at "
    "attend award baby back background ball baseball basketball be beach beautiful before behind bench beside bicycle "
    "big bike biker biological bird black blond blue boat book boy brown building business but by camera can car "
    "carrying catch character chases child christmas city climbing close clothes coat color contain country couple "
    "covered crowd cut dance dark day design dirt does dog down dress during each event face family fashion feature "
    "fence festival field film first flag flies flowers food football for four from front game get girl glass go grass "
    "grassy green ground group guy hair hand hanging has hat have he head helmet her high hill him his holding holiday "
    "home horse house how if illustration image in instrument into is isolated it jacket jeans jumps just kid lady "
    "lake large laying leaps leaves light like line little live long look love made make man match may model mountain "
    "mouth musical my near new next night not ocean of off old on open or orange other our out outside over painted "
    "pants park part path pattern people performs person photo picture pink player playing politician pool pop "
    "portrait pose premiere purple race ramp red rides river road rock rocky room rope running sand sea seen set she "
    "shirt shorts shot show side sidewalk sign sitting skateboard sky slide small smiling snow snowy soccer some "
    "something splashes sports stage standing stick street style suit summer sunset swimming swing table take tan team "
    "tennis that their these they this three through time to together top tourist towards toy track train tree trees "
    "trick tries two uniform up us vector view walking wall was watch water wave way we wearing wedding what when "
    "which while white who will window winter with woman wood wooden work world year yellow you young your"
)
"""Words of at least one in 150 captions of CC3M's validation set or of Flickr8k."""
_FREQUENT = frozenset(map(base_of, _FREQUENT_WORDS.split()))
_FUNCTION_WORDS = (
    "about across after against all along and are around as at be before behind beside but by down during for from has "
    "have he her him his how if in into is it my near next not of off on or our out over she some that their these "
    "they this through to towards up us was we what when which while who will with you your"
)
_FUNCTION = frozenset(map(base_of, _FUNCTION_WORDS.split()))
_STEM_LETTERS = 4
_SHORT_PHRASE_WORDS = 2
_CHANCE_PAIRS = 3
"""Pairs of characters that two texts share by chance; a word of four characters has three."""
_SENTENCE_ENDS = (".", "!", "?", ":")


class Examples:
    """The example pairs of a prompt head, as rewrites are compared with them."""

    def __init__(self, pairs: Iterable[ExamplePair]) -> None:
        self._pairs = tuple(pairs)
        units = {unit for text in self._texts() for unit in units_of(words_of(text))}
        self.rare = frozenset(unit for unit in units - _FREQUENT if len(unit) > 1)
        """The words that captions rarely have, in their base form, and pairs of characters."""
        self.has_pairs = not all(text.isascii() for text in self._texts())
        """Whether `rare` may have pairs of characters."""

    def _texts(self) -> list[str]:
        return [text for pair in self._pairs for text in (pair.source, pair.target)]

    def leaked(
        self, text: str, bases: Sequence[str], caption: frozenset[str], numbers: Sequence[frozenset[str]]
    ) -> bool:
        """Whether a rewrite took words from the examples. Call it for a rewrite with one of the words in `rare`.

        Args:
            text: the rewrite.
            bases: its words in their base form, in order, and behind them its pairs of characters.
            caption: the words of its caption in their base form, and pairs of characters.
            numbers: for each number of the caption, the values that keep it.
        """
        stems = {base[:_STEM_LETTERS] for base in caption}
        found = {base for base in self.rare.intersection(bases) if base[:_STEM_LETTERS] not in stems}
        if len(found) > (1 if text.isascii() else _CHANCE_PAIRS):
            return True
        return any(
            not any(base in values for values in numbers)
            if any(character.isdigit() for character in base)
            else (base in self._names() and base in _names_of(text)) or self._has_phrase(base, bases, caption)
            for base in found
        )

    def _names(self) -> set[str]:
        return {name for text in self._texts() if not _is_title(text) for name in _names_of(text)}

    def _has_phrase(self, base: str, bases: Sequence[str], caption: frozenset[str]) -> bool:
        """Whether a word stands in a phrase of an example whose other words are not in the caption either."""
        phrases: set[tuple[str, ...]] = set()
        for text in self._texts():
            phrases.update(_phrases_of(bases_of(words_of(text))))
        return any(
            base in phrase
            and phrase in phrases
            and "" not in phrase
            and caption.isdisjoint(phrase)
            and (len(phrase) > _SHORT_PHRASE_WORDS or _FUNCTION.isdisjoint(phrase))
            for phrase in _phrases_of(bases)
        )


def _phrases_of(bases: Sequence[str]) -> list[tuple[str, ...]]:
    """Two or three words in a row."""
    return [*pairwise(bases), *zip(bases, bases[1:], bases[2:], strict=False)]


def _names_of(text: str) -> set[str]:
    """The capitalised words inside the sentences of a text, in their base form. Words in capitals shout."""
    return {
        base
        for before, piece in pairwise(text.split())
        if piece[0].isupper() and not piece.isupper() and not before.endswith(_SENTENCE_ENDS)
        for base in bases_of(words_of(piece))[:1]
    }


def _is_title(text: str) -> bool:
    """Whether most words of a text are capitalised."""
    pieces = text.split()
    return 2 * sum(piece[0].isupper() for piece in pieces) > len(pieces)
