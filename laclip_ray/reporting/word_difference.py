"""How a rewrite differs from its caption, word by word. Pure.

A word of the rewrite is new if the caption has it less often; letter case does not count, nor does the order. A caption
is mostly rewritten as a whole, so an alignment of the two would mark almost everything.
"""

import re
from collections import Counter
from dataclasses import dataclass

_PIECES = re.compile(r"\w+(?:['’.-]\w+)*|\W+?(?=\w)|\W+")


@dataclass(frozen=True)
class Piece:
    """A part of a text."""

    text: str
    is_new: bool
    """Whether the other text lacks these words."""


@dataclass(frozen=True)
class WordDifference:
    """A rewrite beside its caption."""

    pieces: tuple[Piece, ...]
    """The rewrite; joined, they are its text."""
    dropped: tuple[str, ...]
    """Words of the caption that the rewrite lacks, in order."""


def word_difference(caption: str, rewrite: str) -> WordDifference:
    """Compare a rewrite with its caption.

    >>> word_difference("red cup kitchen 4821", "A red cup in a kitchen.")
    ... # doctest: +NORMALIZE_WHITESPACE
    WordDifference(pieces=(Piece(text='A', is_new=True), Piece(text=' red cup ', is_new=False), Piece(text='in a',
    is_new=True), Piece(text=' kitchen.', is_new=False)), dropped=('4821',))
    """
    of_caption = [text for text in _PIECES.findall(caption) if _is_word(text)]
    left = Counter(map(str.casefold, of_caption))
    pieces: list[Piece] = []
    for text in _PIECES.findall(rewrite):
        is_new = False
        if _is_word(text):
            is_new = not left[text.casefold()]
            left[text.casefold()] -= not is_new
        pieces.append(Piece(text, is_new))
    dropped = []
    for text in reversed(of_caption):  # of a word that is repeated less often, the last ones are dropped
        if left[text.casefold()] > 0:
            left[text.casefold()] -= 1
            dropped.append(text)
    return WordDifference(tuple(_joined(pieces)), tuple(reversed(dropped)))


def _is_word(text: str) -> bool:
    return text[0].isalnum() or text[0] == "_"


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join neighbours of a kind; white space between new words is new."""
    joined: list[Piece] = []
    for number, piece in enumerate(pieces):
        is_between = (
            0 < number < len(pieces) - 1
            and piece.text.isspace()
            and pieces[number - 1].is_new
            and pieces[number + 1].is_new
        )
        is_new = piece.is_new or is_between
        if joined and joined[-1].is_new == is_new:
            joined[-1] = Piece(joined[-1].text + piece.text, is_new)
        else:
            joined.append(Piece(piece.text, is_new))
    return joined
