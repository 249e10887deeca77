"""Confidence intervals: for means of few values by Student's t distribution, for proportions by Wilson's score."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    half_width: float | None
    """None for a single value, whose variance is unknown."""
    count: int
    """Number of values."""
    comparisons: int = 1
    """Number of intervals that hold jointly at the confidence level."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero. False for equal values, whose variance is unknown."""
        if not self.half_width:
            return False
        return abs(self.mean) > self.half_width


def mean_interval(values: Sequence[float], comparisons: int = 1, confidence: float = CONFIDENCE) -> Interval:
    """The mean of one or more values with its Student t interval.

    Args:
        values: independent measurements of one quantity.
        comparisons: number of intervals that are compared. Each is widened until all hold jointly (Bonferroni), because
            the best of six differs from zero by chance more often than a single one.
        confidence: level for all comparisons together.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, len(values), comparisons)
    quantile = t_quantile(1 - (1 - confidence) / comparisons, len(values) - 1)
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(len(values)), len(values), comparisons)


@cache
def t_quantile(confidence: float, degrees: int) -> float:
    """The t for which Student's variable lies between -t and t with the given probability.

    Args:
        confidence: the probability, above 0 and below 1.
        degrees: degrees of freedom, 1 or more.
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

    A finite sum for integer degrees of freedom (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and
    26.7.4).
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine_squared = math.sin(angle), math.cos(angle) ** 2
    is_odd = degrees % 2 == 1
    term, total = (math.cos(angle) if is_odd else 1.0), 0.0
    for number in range(1 if is_odd else 0, degrees - 1, 2):
        total += term
        term *= cosine_squared * (number + 1) / (number + 2)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


@dataclass(frozen=True)
class Proportion:
    """A share of cases, with its confidence interval."""

    cases: int
    """Cases that count."""
    of: int
    """All cases."""
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """The share; None of no cases."""
        return self.cases / self.of if self.of else None

    def __str__(self) -> str:
        share = "-" if self.share is None else f"{self.share:.3f}"
        return f"{share} ({self.low:.2f} to {self.high:.2f}), {self.cases} of {self.of}"


def proportion_interval(cases: int, of: int, confidence: float = CONFIDENCE) -> Proportion:
    """A share with its interval by Wilson's score, which holds near 0 and 1 and for few cases (Wilson, 1927)."""
    if not of:
        return Proportion(0, 0, 0.0, 1.0)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share = cases / of
    centre = share + z * z / (2 * of)
    half_width = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return Proportion(cases, of, max(0.0, (centre - half_width) / scale), min(1.0, (centre + half_width) / scale))
