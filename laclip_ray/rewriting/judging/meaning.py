"""The meaning gate: refuse a rewrite that says something else than its caption.

Two scores compare a caption and its rewrite, by the vectors of a sentence encoder:

    meaning  cosine similarity of the two texts
    added    over the words of the rewrite that the caption does not have: the sum of 1 - closeness, where closeness is
             the largest cosine similarity of the word with a word of the caption, or with the whole caption. A number
             that the caption does not have counts in full

A rewrite is faithful enough if `meaning - added_weight * added >= min_faithfulness`. If the engine gave its mean
log-probability, what lies below `typical_log_probability` costs as well: a sampler that had to take unlikely tokens
writes nonsense in the caption's own words, which no vector shows. A similarity alone does not see an
invented detail in a long sentence; the words alone do not see that a sentence turned around. Soft matching of words by
vectors is as in BERTScore (Zhang et al., ICLR 2020), here in one direction, summed instead of averaged, and with words
encoded alone, so each is encoded once for all captions.

Guarantees: pure functions, apart from the encoder that the caller gives. A score depends on its pair alone, not on the
other pairs of a call (up to the encoder's rounding).

Not covered: who does what to whom ("a man gives a woman" and "a woman gives a man"); a word of the caption in another
sense; words in scripts without spaces (`added` is 0).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from laclip_ray.config import MeaningGateConfig
from laclip_ray.rewriting.judging.meaning_words import content_words, foreign_words, is_number, words_of

MEANING_LOST = "meaning_lost"
"""The reason of a rewrite that is unlike its caption, even without its added words."""
MEANING_ADDED = "meaning_added"
"""The reason of a rewrite that resembles its caption and adds too much."""
UNLIKELY = "unlikely"
"""The reason of a rewrite that would be accepted, had its model not found it unlikely."""
VERSION = 1
"""Part of the scorer's fingerprint. Every change of a score raises it."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Encodes N texts as N unit vectors [N, D]."""

_MOST_WORDS_CACHED = 1 << 16
"""Vectors of words kept at a time: 100 MB with 384 dimensions."""


class MeaningScores(NamedTuple):
    """The scores of one pair."""

    meaning: float
    added: float


Pair = tuple[str, str]
"""A caption and a rewrite."""


def faithfulness(scores: MeaningScores, config: MeaningGateConfig, log_probability: float | None = None) -> float:
    """How faithful a rewrite is; higher is better, 1 is a copy.

    Args:
        scores: of the pair.
        config: the weights.
        log_probability: mean natural log-probability of the rewrite's tokens. None: not known, so it costs nothing.
    """
    below = 0.0 if log_probability is None else max(0.0, config.typical_log_probability - log_probability)
    return scores.meaning - config.added_weight * scores.added - config.unlikely_weight * below


def refusal(scores: MeaningScores, config: MeaningGateConfig, log_probability: float | None = None) -> str | None:
    """Why the gate refuses a rewrite with these scores; None: it accepts it."""
    if faithfulness(scores, config, log_probability) >= config.min_faithfulness:
        return None
    if scores.meaning < config.min_faithfulness:
        return MEANING_LOST
    return MEANING_ADDED if faithfulness(scores, config) < config.min_faithfulness else UNLIKELY


class MeaningScorer:
    """Scores pairs with an encoder. It remembers the vectors of words."""

    def __init__(self, embed: Embed) -> None:
        """Keep the encoder.

        Args:
            embed: encodes texts; see `Embed`.
        """
        self._embed = embed
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair."""
        if not pairs:
            return []
        compared = [_words_to_compare(*pair) for pair in pairs]
        words = {word for foreign, known in compared if foreign for word in (*foreign, *known)}
        vectors = self._vectors_of([text for pair in pairs for text in pair], words)
        return [self._score(pair, *words_of_pair, vectors) for pair, words_of_pair in zip(pairs, compared, strict=True)]

    def _vectors_of(self, texts: Iterable[str], words: set[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of texts, by text. Those of words are added to `_vectors`."""
        if len(self._vectors) + len(words) > _MOST_WORDS_CACHED:
            self._vectors.clear()
        new_words = sorted(word for word in words if word not in self._vectors)
        distinct = list(dict.fromkeys(texts))
        encoded = self._embed([*distinct, *new_words])
        self._vectors.update(zip(new_words, encoded[len(distinct) :], strict=True))
        return dict(zip(distinct, encoded, strict=False))

    def _score(
        self, pair: Pair, foreign: list[str], known: list[str], vectors: dict[str, NDArray[np.float32]]
    ) -> MeaningScores:
        caption, rewrite = (vectors[text] for text in pair)
        meaning = float(caption @ rewrite)
        if not foreign:
            return MeaningScores(meaning, 0.0)
        targets = np.stack([caption, *(self._vectors[word] for word in known)])
        closeness = (np.stack([self._vectors[word] for word in foreign]) @ targets.T).max(axis=1)
        closeness[[is_number(word) for word in foreign]] = 0.0
        return MeaningScores(meaning, float(np.sum(1.0 - closeness)))


def _words_to_compare(caption: str, rewrite: str) -> tuple[list[str], list[str]]:
    """The words that the rewrite adds, and the caption's words that may be close to them."""
    words = words_of(caption)
    return foreign_words(words, words_of(rewrite)), content_words(words)
