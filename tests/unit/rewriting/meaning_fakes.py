"""An encoder without a model: vectors that depend on a text alone, and close texts for close words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from laclip_ray.config import MeaningGateConfig
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.judging.meaning import MeaningScorer, MeaningScores, Pair
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate

DIMENSIONS = 16
SCORERS = {"meaning": "fake", "added": "fake"}


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """The normalised sum of a random vector for each word."""
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split() or [text]:
            bits = hash64("fake encoder", word)
            vectors[row] += [1.0 if bits >> place & 1 else -1.0 for place in range(DIMENSIONS)]
        vectors[row] += 1e-3  # no sum is zero
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


class FakeEncoders:
    """Scores pairs in this process, and counts them."""

    def __init__(self) -> None:
        self.scorer = MeaningScorer(embed)
        self.scored: list[Pair] = []

    async def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        return self.score_now(pairs)

    def score_now(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        self.scored += pairs
        return self.scorer.score(pairs)


def meaning_gate(min_faithfulness: float = 0.6) -> MeaningGate:
    return MeaningGate(MeaningGateConfig(min_faithfulness=min_faithfulness), SCORERS, FakeEncoders())
