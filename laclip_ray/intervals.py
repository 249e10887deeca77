"""Means of few values, and how far from the truth they may be: Student's t, exactly, without a table."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, and the interval about it."""

    mean: float
    half_width: float | None
    """None for one value, of which nothing is known about how it varies."""
    count: int
    """Values."""
    comparisons: int = 1
    """Intervals that hold together with the confidence."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is on one side of zero; not of values that are all the same, which say nothing of how
        they vary."""
        if not self.half_width:
            return False
        return abs(self.mean) > self.half_width


def mean_interval(values: Sequence[float], comparisons: int = 1, confidence: float = CONFIDENCE) -> Interval:
    """The mean of one or more values with its Student-t interval.

    Args:
        values: independent measurements of one thing.
        comparisons: intervals that are looked at together. Each is widened so that all of them hold with the confidence
            (Bonferroni): the best of six differs from zero more often than one would.
        confidence: of all the comparisons together.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, len(values), comparisons)
    quantile = t_quantile(1 - (1 - confidence) / comparisons, len(values) - 1)
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(len(values)), len(values), comparisons)


@cache
def t_quantile(confidence: float, degrees: int) -> float:
    """The t that Student's variable with `degrees` (1 or more) degrees of freedom is within, on both sides.

    Args:
        confidence: the probability, above 0 and below 1.
        degrees: of freedom.
    """
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < confidence:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_probability(middle, degrees) < confidence else (low, middle)
    return high


def t_probability(t: float, degrees: int) -> float:
    """The probability that Student's variable lies between -t and t.

    For whole degrees it is a finite sum (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine_squared = math.sin(angle), math.cos(angle) ** 2
    is_odd = degrees % 2 == 1
    term, total = (math.cos(angle) if is_odd else 1.0), 0.0
    for number in range(1 if is_odd else 0, degrees - 1, 2):
        total += term
        term *= cosine_squared * (number + 1) / (number + 2)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total
