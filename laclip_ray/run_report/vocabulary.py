"""The vocabulary of texts: how it grows, and how diverse it is. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from laclip_ray.rewriting.judging.text import words_of

_POINTS = 60
"""Of a curve."""


@dataclass(frozen=True)
class Vocabulary:
    """The words of texts, in the order of the texts."""

    texts: int
    words: int
    distinct: int
    growth: tuple[tuple[float, float], ...]
    """(words, distinct words among them)."""
    pairs: int
    """Neighbouring words."""
    distinct_pairs: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """Count the words of texts."""
        count = words = pairs = 0
        seen: set[str] = set()
        seen_pairs: set[tuple[str, str]] = set()
        growth = [(0.0, 0.0)]
        for text in texts:
            of_text = words_of(text)
            count += 1
            words += len(of_text)
            seen.update(of_text)
            of_pairs = list(pairwise(of_text))
            pairs += len(of_pairs)
            seen_pairs.update(of_pairs)
            growth.append((float(words), float(len(seen))))
        return cls(count, words, len(seen), thinned(growth, _POINTS), pairs, len(seen_pairs))

    @property
    def words_per_text(self) -> float:
        """Mean length of a text, in words."""
        return self.words / self.texts if self.texts else 0.0

    @property
    def pair_diversity(self) -> float:
        """Distinct pairs of neighbouring words, over all; depends on the number of texts."""
        return self.distinct_pairs / self.pairs if self.pairs else 0.0

    def distinct_at(self, words: float) -> float:
        """Distinct words among the first words, between the points of the curve."""
        before = self.growth[0]
        for point in self.growth:
            if point[0] >= words:
                span = point[0] - before[0]
                share = (words - before[0]) / span if span else 0.0
                return before[1] + share * (point[1] - before[1])
            before = point
        return before[1]


def thinned(points: Sequence[tuple[float, float]], most: int) -> tuple[tuple[float, float], ...]:
    """At most so many of the points, the first and the last among them.

    >>> thinned([(0, 0), (1, 2), (2, 3), (3, 4), (4, 5)], 3)
    ((0, 0), (2, 3), (4, 5))
    """
    if len(points) <= most:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[number * last // (most - 1)] for number in range(most))
