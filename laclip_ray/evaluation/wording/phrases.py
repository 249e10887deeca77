"""Noun phrases of a caption, found by closed word lists; English only.

    the  two  small  white      dogs
    determiners      modifiers  head

A phrase counts only if both of its ends are certain: no unknown word may belong to it. So it misses phrases of most
captions, and finds wrong phrases in few.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from laclip_ray.evaluation.wording.word_lists import (
    DETERMINERS,
    FOLLOWERS,
    INTRANSITIVE,
    INTRANSITIVE_FINITE,
    MODIFIERS,
    NOUNS,
    NOUNS_IN_ING,
    PLURAL_DETERMINERS,
    POSSESSIVES,
    PREPOSITIONS,
    SUBSTANCES,
    TRANSITIVE,
    TRANSITIVE_FINITE,
    Noun,
)

_TOKEN = re.compile(r"['\u2019]s\b|[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*|\d(?:[\w.,:/]*\w)?|[^\w\s]|_")
_POSSESSIVE = ("'s", "\u2019s")
_JOINING = (*_POSSESSIVE, "-", "\u2013", "/", "&", "_", "#", "'", "\u2019")
"""Signs after which a noun may continue: "dog - friendly"."""
_MOST_UNKNOWN = 2
"""Upper bound on unknown words between an article and a noun, taken for modifiers."""
_SHORTEST_PARTICIPLE = 6
_LISTING = ("and", "or", "&", ",")
_VERBS = TRANSITIVE | TRANSITIVE_FINITE | INTRANSITIVE | INTRANSITIVE_FINITE
_KNOWN_NON_NOUNS = FOLLOWERS | _VERBS | PREPOSITIONS | DETERMINERS | PLURAL_DETERMINERS | {"of", "not", "be", "been"}


@dataclass(frozen=True)
class Token:
    """A word or sign of a text."""

    text: str
    start: int
    """Position of its first character."""

    @property
    def word(self) -> str:
        """In lower case."""
        return self.text.lower()

    @property
    def end(self) -> int:
        """Position after its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Phrase:
    """A noun phrase: `tokens[start:end]`."""

    start: int
    """The first determiner, or `body` without one."""
    body: int
    """The first modifier, or the head."""
    head: int
    end: int
    """After the head, or after its complement: "cup of coffee"."""
    noun: Noun
    determiners: tuple[str, ...]
    """In lower case."""


def tokens_of(text: str) -> list[Token]:
    """The words and signs of a text, with their places."""
    return [Token(match.group(), match.start()) for match in _TOKEN.finditer(text)]


def is_word(token: Token) -> bool:
    """Whether a token is a word, not a sign or a number."""
    return token.text[0].isalpha()


def head_from(tokens: Sequence[Token], start: int) -> int | None:
    """The head of the noun phrase whose modifiers begin at `start`; None: uncertain.

    One unknown word may stand before the nouns: "a red sports car".
    """
    position, unknown = start, 0
    while position < len(tokens) and tokens[position].word not in NOUNS:
        word = tokens[position].word
        if word not in MODIFIERS:
            unknown += 1
            if (
                unknown > 1
                or not is_word(tokens[position])
                or word in _KNOWN_NON_NOUNS
                or word in NOUNS_IN_ING - {"wedding"}
            ):
                return None
        position += 1
    if position == len(tokens):
        return None
    while position + 1 < len(tokens) and tokens[position + 1].word in NOUNS:
        position += 1
    return position if ends_phrase(tokens, position + 1) else None


def ends_phrase(tokens: Sequence[Token], position: int) -> bool:
    """Whether a noun before `position` is the last word of its phrase."""
    if position == len(tokens):
        return True
    token = tokens[position]
    if not is_word(token):
        return not token.text.isdigit() and token.text not in _JOINING
    if token.word in FOLLOWERS or token.word in _VERBS or token.word in PREPOSITIONS:
        return True
    is_participle = len(token.word) >= _SHORTEST_PARTICIPLE and token.word.endswith(("ing", "ed"))
    return is_participle and token.word not in NOUNS_IN_ING and token.word not in MODIFIERS


def phrases_of(tokens: Sequence[Token]) -> list[Phrase]:
    """The noun phrases, in order."""
    phrases = []
    for head, token in enumerate(tokens):
        noun = NOUNS.get(token.word)
        if noun is None or (head + 1 < len(tokens) and tokens[head + 1].word in NOUNS):
            continue
        end = _end(tokens, head)
        begin = _begin(tokens, head)
        if end is not None and begin is not None:
            start, body = begin
            determiners = tuple(token.word for token in tokens[start:body])
            phrases.append(Phrase(start, body, head, end, noun, determiners))
    return phrases


def _end(tokens: Sequence[Token], head: int) -> int | None:
    """The end of a phrase with this head; None if it is not certain."""
    if head + 2 < len(tokens) and tokens[head + 1].word == "of":
        of = tokens[head + 2].word
        if of in SUBSTANCES or (of in NOUNS and (NOUNS[of].is_plural or NOUNS[of].is_mass)):
            return head + 3 if ends_phrase(tokens, head + 3) else None
        return None
    return head + 1 if ends_phrase(tokens, head + 1) else None


def _begin(tokens: Sequence[Token], head: int) -> tuple[int, int] | None:
    """The first determiner and the first modifier of a phrase with this head; None if they are not certain."""
    body = head
    while body > 0 and (tokens[body - 1].word in MODIFIERS or tokens[body - 1].word in NOUNS):
        body -= 1
    start = _first_determiner(tokens, body)
    if start < body:
        return start, body
    if body == 0 or not is_word(tokens[body - 1]) or tokens[body - 1].word in _KNOWN_NON_NOUNS:
        # "big and white horse", "a man and woman": the phrase begins before the word that joins.
        return None if body > 1 and tokens[body - 1].word in _LISTING and _is_part(tokens[body - 2]) else (body, body)
    for modifier in range(body - 1, max(-1, body - 1 - _MOST_UNKNOWN), -1):
        word = tokens[modifier].word
        if not is_word(tokens[modifier]) or word in _KNOWN_NON_NOUNS:
            return None
        start = _first_determiner(tokens, modifier)
        if start < modifier:
            return start, modifier
    return None


def _is_part(token: Token) -> bool:
    return token.word in NOUNS or token.word in MODIFIERS


def _first_determiner(tokens: Sequence[Token], body: int) -> int:
    """The first of the determiners directly before `body`; `body` without one."""
    start = body
    while start > 0 and _is_determiner(tokens, start - 1):
        start -= 1
    return start


def _is_determiner(tokens: Sequence[Token], position: int) -> bool:
    word = tokens[position].word
    if word in _POSSESSIVE:
        return position > 0 and tokens[position - 1].word in NOUNS
    return word in DETERMINERS or word in PLURAL_DETERMINERS or word in POSSESSIVES
