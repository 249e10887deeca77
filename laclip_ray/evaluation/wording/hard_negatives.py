"""Wrong captions made from captions, which tell a model that reads from one that looks for a few words.

    objects_exchanged       a dog on a table            a table on a dog
    attributes_exchanged    a red car and a blue bus    a blue car and a red bus
    attribute_replaced      a young woman               an elderly woman
    number_changed          two dogs                    three dogs

A model that ignores the order of words cannot tell the first two kinds apart from their captions, and one that ignores
words cannot tell any. Such a model looks robust to paraphrases, so its low drop there is no merit.

The rules are English and know no grammar but their word lists. They skip a caption if its wrong caption might be true
or broken. Most captions are skipped. A wrong caption is grammatical, though it may say something odd: CLIP compares
texts with a picture, so oddness does not help (unlike to language models, see SugarCrepe, arXiv 2306.14610).

Not covered: other languages, relations that hold both ways ("near", "with", "and"), and numbers above ten.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from laclip_ray.evaluation.wording.phrases import (
    Phrase,
    Token,
    head_from,
    is_word,
    phrases_of,
    tokens_of,
)
from laclip_ray.evaluation.wording.word_lists import (
    ANIMATE,
    ARTICLES,
    ATTRIBUTES,
    DEPICTIONS,
    HUMANS,
    IDIOMS,
    IN_USE,
    INTRANSITIVE,
    INTRANSITIVE_FINITE,
    NOUNS,
    NUMBERS,
    PLACES,
    PLURAL_DETERMINERS,
    POSSESSIVES,
    PREPOSITIONS,
    PROPER,
    SHADES,
    SOFTENING,
    TRANSITIVE,
    TRANSITIVE_FINITE,
    Noun,
)
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.judging.text import plain_text

KINDS = ("objects_exchanged", "attributes_exchanged", "attribute_replaced", "number_changed")


@dataclass(frozen=True)
class HardNegative:
    """A caption that says something else than the picture."""

    kind: str
    """One of `KINDS`."""
    text: str


def hard_negatives(caption: str, seed: int, caption_id: str) -> list[HardNegative]:
    """Make wrong captions of a caption, at most one of each kind.

    Args:
        caption: English text. Other text has no wrong captions.
        seed: decides with `caption_id` which one of several is taken.
        caption_id: of the caption.
    """
    tokens = tokens_of(caption)
    if any(len(token.text) > 1 and token.text.isupper() and token.word in NOUNS for token in tokens):
        return []
    found = []
    plain = plain_text(caption)
    for kind, make in _MAKERS.items():
        texts = [text for edits in make(tokens) if plain_text(text := _edited(caption, tokens, edits)) != plain]
        if texts:
            found.append(HardNegative(kind, texts[hash64(seed, caption_id, kind) % len(texts)]))
    return found


@dataclass(frozen=True)
class Edit:
    """Puts words in the place of `tokens[start:end]`."""

    start: int
    end: int
    words: tuple[str, ...]


# --- objects exchanged


def _exchanged_objects(tokens: Sequence[Token]) -> Iterator[list[Edit]]:
    """Exchange two noun phrases around a relation that does not hold the other way round.

    Determiners stay: "a dog on the table" becomes "a table on the dog".
    """
    phrases = phrases_of(tokens)
    by_start = {phrase.start: phrase for phrase in phrases}
    for first in phrases:
        for after, relation in _relations(tokens, first):
            second = by_start.get(after)
            if second is not None and _may_exchange(tokens, first, second, relation):
                bodies = [tuple(token.text for token in tokens[part.body : part.end]) for part in (first, second)]
                yield [Edit(first.body, first.end, bodies[1]), Edit(second.body, second.end, bodies[0])]


def _relations(tokens: Sequence[Token], first: Phrase) -> Iterator[tuple[int, str]]:
    """The ends of relations that begin after a phrase, with the word that decides what may stand on both sides."""
    words = [token.word for token in tokens[first.end : first.end + 5]] + [""] * 5
    skipped = 0
    if words[0] in ("is", "are"):
        words, skipped = words[1:], 1
    if words[0] in TRANSITIVE or (not skipped and words[0] in TRANSITIVE_FINITE):
        yield first.end + skipped + 1, words[0]
        return
    if words[0] in INTRANSITIVE or (not skipped and words[0] in INTRANSITIVE_FINITE):
        words, skipped = words[1:], skipped + 1
    if words[:3] == ["on", "top", "of"]:
        yield first.end + skipped + 3, "on"
    elif words[0] in PREPOSITIONS:
        yield first.end + skipped + 1, words[0]


def _may_exchange(tokens: Sequence[Token], first: Phrase, second: Phrase, relation: str) -> bool:
    a, b = first.noun, second.noun
    if a.singular == b.singular or a.is_plural != b.is_plural or a.is_mass or {a.kind, b.kind} & _NOT_EXCHANGED:
        return False
    if relation in PREPOSITIONS:
        if f"{relation} {b.singular}" in IN_USE:
            return False
    elif a.kind not in ANIMATE or b.kind in PLACES or b.is_mass:
        return False
    return (
        _is_free(tokens, first)
        and (_takes(first.determiners, b) or _is_headline(tokens, first))
        and _takes(second.determiners, a)
        and not POSSESSIVES.intersection(second.determiners)  # "a man on his horse": his would be the horse's
    )


_NOT_EXCHANGED = {"backdrop", "hair", "eyes", "cloud"}


def _is_free(tokens: Sequence[Token], phrase: Phrase) -> bool:
    """Whether a phrase is not part of a larger one that begins before it ("a group of dogs")."""
    if phrase.start == 0:
        return True
    before = tokens[phrase.start - 1]
    if before.word == "of":
        return phrase.start > 1 and tokens[phrase.start - 2].word in DEPICTIONS
    return before.text not in ("-", "/", "#", "&")


def _is_headline(tokens: Sequence[Token], phrase: Phrase) -> bool:
    """Whether a phrase begins a caption without an article: "dog on a table"."""
    if phrase.determiners:
        return False
    before = tokens[phrase.start - 1] if phrase.start else None
    return before is None or before.word == "of" or before.text in (".", ",", ":", "!", "?", ";", '"')


def _takes(determiners: Sequence[str], noun: Noun) -> bool:
    """Whether a noun may stand after these determiners."""
    if not determiners:
        return noun.is_plural
    if any(word in PLURAL_DETERMINERS for word in determiners):
        return noun.is_plural
    if any(word in _SINGULAR_DETERMINERS for word in determiners):
        return not noun.is_plural and not noun.is_mass and noun.kind != "sky"
    return True


_SINGULAR_DETERMINERS = ARTICLES | {"each", "every", "another", "one"}


# --- attributes


@dataclass(frozen=True)
class _Described:
    """An attribute of a noun."""

    position: int
    """Of the attribute."""
    head: int
    """Of the noun."""
    noun: Noun
    name: str
    """Of the kind of attribute."""
    others: tuple[str, ...]
    """Words that say something else of this noun."""
    is_joined: bool
    """One of several: "red and white", "red white"."""
    is_softened: bool
    """As in "light blue"."""


def _described(tokens: Sequence[Token]) -> list[_Described]:
    """The attributes of nouns, in order."""
    found = []
    for position in range(len(tokens) - 1):
        described = _attribute_at(tokens, position)
        if described is not None:
            found.append(described)
    return found


def _attribute_at(tokens: Sequence[Token], position: int) -> _Described | None:
    word = tokens[position].word
    candidates = [attribute for attribute in ATTRIBUTES if word in attribute.alternatives]
    if not candidates or (position and not _may_precede(tokens[position - 1])):
        return None
    after, is_joined = position + 1, _follows_attribute(tokens, position)
    if tokens[after].word == "and" and after + 1 < len(tokens):
        if not any(tokens[after + 1].word in attribute.alternatives for attribute in candidates):
            return None
        after, is_joined = after + 2, True
    head = head_from(tokens, after)
    if head is None:
        return None
    noun = NOUNS[tokens[head].word]
    if any(NOUNS[token.word].kind in HUMANS for token in tokens[after:head] if token.word in NOUNS):
        return None  # "our little girls room"
    if is_joined and "white" in (word, tokens[head - 1].word) and noun.kind in PLACES:
        return None  # a black and white photograph
    is_softened = position > 0 and tokens[position - 1].word in SOFTENING
    for attribute in candidates:
        if noun.kind in attribute.kinds and f"{word} {noun.singular}" not in IDIOMS:
            others = [other for other in attribute.alternatives[word] if not (is_softened and other in _UNSHADED)]
            is_joined |= _are_of_one_kind(word, tokens[position + 1].word)
            return _Described(position, head, noun, attribute.name, tuple(others), is_joined, is_softened)
    return None


_UNSHADED = ("black", "white")


def _follows_attribute(tokens: Sequence[Token], position: int) -> bool:
    """Whether an attribute is not the first of several: "white" in "black and white" and in "black white"."""
    before = position - 1
    if before > 0 and tokens[before].word in ("and", "or", ",", "&"):
        before -= 1
    return before >= 0 and _are_of_one_kind(tokens[position].word, tokens[before].word)


def _are_of_one_kind(*words: str) -> bool:
    """Whether words are attributes of one kind, such as colours."""
    kinds = ({attribute.name for attribute in ATTRIBUTES if word in attribute.alternatives} for word in words)
    return bool(set.intersection(*kinds))


def _may_precede(token: Token) -> bool:
    """Whether an attribute after this token stands for itself: not "off - white", "royal blue", "6 year old"."""
    return token.text not in ("-", "/", "#", "&") and token.word not in SHADES


def _replaced_attributes(tokens: Sequence[Token]) -> Iterator[list[Edit]]:
    """Replace an attribute by one that the caption does not have."""
    words = {token.word for token in tokens}
    for described in _described(tokens):
        for other in described.others:
            if other not in words and f"{other} {described.noun.singular}" not in IDIOMS:
                yield [Edit(described.position, described.position + 1, (other,))]


def _exchanged_attributes(tokens: Sequence[Token]) -> Iterator[list[Edit]]:
    """Exchange two attributes of one kind between two different nouns, where each may have the other's."""
    described = [one for one in _described(tokens) if not one.is_joined and not one.is_softened]
    for number, first in enumerate(described):
        for second in described[number + 1 :]:
            words = [tokens[one.position].word for one in (first, second)]
            if (
                first.head < second.position
                and first.name == second.name
                and first.noun.singular != second.noun.singular
                and _differ(first, second, *words)
                and _fits(words[0], second.noun)
                and _fits(words[1], first.noun)
            ):
                yield [
                    Edit(first.position, first.position + 1, (tokens[second.position].text,)),
                    Edit(second.position, second.position + 1, (tokens[first.position].text,)),
                ]


def _differ(first: _Described, second: _Described, word: str, other: str) -> bool:
    """Whether two attributes of one kind are not nearly the same, as "small" and "little" are."""
    if first.name == "colour":
        return word[:2] != other[:2]  # gray and grey, blond and blonde
    return word in second.others or other in first.others


def _fits(word: str, noun: Noun) -> bool:
    return f"{word} {noun.singular}" not in IDIOMS and any(
        word in attribute.alternatives and noun.kind in attribute.kinds for attribute in ATTRIBUTES
    )


# --- numbers

_LARGER = 4
"""A number grows by this at most. It never shrinks: where three dogs are, two dogs are."""
_NO_COUNT = frozenset(
    {"than", "least", "most", "to", "about", "nearly", "almost", "over", "number", "top", "of", "page"}
)
"""Words before an inexact number."""
_BOUND_TO_TWO = frozenset({"both", "each", "other", "pair", "twin", "twins", "either", "neither", "between", "couple"})


def _changed_numbers(tokens: Sequence[Token]) -> Iterator[list[Edit]]:
    """Replace a number of things by a larger one."""
    words = {token.word for token in tokens}
    if words & _BOUND_TO_TWO:
        return
    for position in range(len(tokens) - 1):
        token = tokens[position]
        before = tokens[position - 1] if position else None
        if before is not None and (before.word in _NO_COUNT or (not is_word(before) and before.text not in ',.:;("')):
            continue
        head = head_from(tokens, position + 1)
        if head is None or not NOUNS[tokens[head].word].is_plural:
            continue
        for other in _larger(token.word):
            if other not in words:
                yield [Edit(position, position + 1, (other,))]


def _larger(number: str) -> list[str]:
    """The next numbers in the same spelling; none for another word, for 1 and for numbers from 10."""
    if number in NUMBERS:
        at = NUMBERS.index(number)
        return list(NUMBERS[at + 1 : at + 1 + _LARGER])
    if number.isdecimal() and len(number) == 1 and int(number) > 1:
        return [str(int(number) + more) for more in range(1, _LARGER + 1)]
    return []


_MAKERS: dict[str, Callable[[Sequence[Token]], Iterator[list[Edit]]]] = dict(
    zip(KINDS, (_exchanged_objects, _exchanged_attributes, _replaced_attributes, _changed_numbers), strict=True)
)


# --- text


def _edited(caption: str, tokens: Sequence[Token], edits: Sequence[Edit]) -> str:
    """The caption with the edits, with articles and the first capital set right."""
    text, is_title = caption, _is_title(tokens)
    for edit in sorted(edits, key=lambda edit: -edit.start):
        words = list(edit.words)
        if is_title or (edit.start == 0 and tokens[0].text[0].isupper()):
            words[0] = words[0][0].upper() + words[0][1:]
        elif words[0] == tokens[0].text and words[0].lower() not in PROPER:
            words[0] = words[0].lower()  # it began the sentence
        text = text[: tokens[edit.start].start] + " ".join(words) + text[tokens[edit.end - 1].end :]
        before = tokens[edit.start - 1] if edit.start else None
        if before is not None and before.word in ARTICLES:
            text = text[: before.start] + _article(words[0], before.text) + text[before.end :]
    return text


def _is_title(tokens: Sequence[Token]) -> bool:
    """Whether every longer word has a capital, as in a headline."""
    longer = [token for token in tokens if len(token.text) > _LONGEST_FUNCTION_WORD_LETTERS and is_word(token)]
    return len(longer) > 1 and all(token.text[0].isupper() for token in longer)


_LONGEST_FUNCTION_WORD_LETTERS = 4


def _article(word: str, old: str) -> str:
    spoken = word.lower()
    is_vowel = spoken.startswith(_SILENT_H) or (spoken[0] in "aeiou" and not spoken.startswith(_LIKE_YOU))
    article = "an" if is_vowel else "a"
    return article.capitalize() if old[0].isupper() else article


_SILENT_H = ("hour", "honest", "honor", "honour", "heir")


_LIKE_YOU = ("unic", "unif", "univ", "uniq", "unit", "euro", "one", "use", "ukulele")
"""Beginnings of words written with a vowel and spoken with a consonant."""
