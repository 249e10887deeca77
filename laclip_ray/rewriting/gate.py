"""The gate: which rewrites may be shown in training, and for every other one a named reason.

Pure functions over text. A rewrite is checked in the order of `Rejection`; the first check it fails is its reason.
Whether a rewrite is *true* of the picture, or keeps the caption's every fact, is not covered.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from laclip_ray.config import GateConfig
from laclip_ray.rewriting.prompts import INSTRUCTION, SEPARATOR, ExamplePair

VERSION = 1
"""Part of the gate's fingerprint; raised with every change of what a check does."""

_STEM_LETTERS = 4
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "and are for from has have her his into its near next not off one out over she some that the their there this "
        "under was were while who with",
    )
)


class Rejection(StrEnum):
    """Why the gate refuses a rewrite."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    PROMPT_ECHO = "prompt_echo"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    COPY_OF_CAPTION = "copy_of_caption"
    COPY_OF_EXAMPLE = "copy_of_example"
    LOOPING = "looping"
    UNRELATED = "unrelated"


@dataclass(frozen=True)
class Candidate:
    """A rewrite to judge, and what it is judged against."""

    text: str
    caption: str
    truncated: bool
    """Whether the token limit cut it off."""
    pairs: tuple[ExamplePair, ...]
    """The example pairs of its prompt."""


def judge(candidate: Candidate, gate: GateConfig, count_tokens: Callable[[str], int]) -> Rejection | None:
    """The reason to refuse `candidate`, or None to accept it.

    Args:
        candidate: the rewrite with its context.
        gate: which checks are on, and their thresholds.
        count_tokens: the number of tokens of a text for the CLIP model's text tower, special tokens included.
    """
    words = candidate.text.split()
    if not words:
        return Rejection.EMPTY
    if gate.drop_truncated and candidate.truncated:
        return Rejection.TRUNCATED
    if gate.drop_prompt_echo and (SEPARATOR in candidate.text or _plain(INSTRUCTION) in _plain(candidate.text)):
        return Rejection.PROMPT_ECHO
    if len(words) < gate.min_words:
        return Rejection.TOO_SHORT
    if gate.max_context_tokens is not None and _exceeds(candidate.text, gate.max_context_tokens, count_tokens):
        return Rejection.TOO_LONG
    plain = _plain(candidate.text)
    if gate.drop_copies and plain == _plain(candidate.caption):
        return Rejection.COPY_OF_CAPTION
    if gate.drop_prompt_echo and any(plain in (_plain(pair.source), _plain(pair.target)) for pair in candidate.pairs):
        return Rejection.COPY_OF_EXAMPLE
    if gate.max_repeated_words and _longest_run(plain.split()) > gate.max_repeated_words:
        return Rejection.LOOPING
    if _shared_stems(candidate) < gate.min_shared_words:
        return Rejection.UNRELATED
    return None


def _exceeds(text: str, limit: int, count_tokens: Callable[[str], int]) -> bool:
    # A byte-pair tokeniser gives at most one token a byte, and two special ones: most texts need no counting.
    return len(text.encode("utf-8", "replace")) + 2 > limit and count_tokens(text) > limit


def _plain(text: str) -> str:
    """Lower case, words only: what two texts are compared by."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _shared_stems(candidate: Candidate) -> float:
    """How many content words of the caption the rewrite has too; infinite where the caption has none.

    Words are compared by their first letters, which takes plurals and tenses for one word, and a few different words
    too. A synonym is a different word.
    """
    wanted = _stems(candidate.caption)
    return len(wanted & _stems(candidate.text)) if wanted else math.inf


def _stems(text: str) -> set[str]:
    words = (word for word in _plain(text).split() if len(word) > 2 and word not in _FUNCTION_WORDS)
    return {word.removesuffix("s")[:_STEM_LETTERS] for word in words}


def _longest_run(words: Sequence[str]) -> int:
    return max((len(list(run)) for _, run in groupby(words)), default=0)
