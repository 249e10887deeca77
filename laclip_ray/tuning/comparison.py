"""Compare points: their means, their differences, and whether a difference is more than chance.

Trials of one seed share the initial weights, the order of samples, the crops and the nested text draws. So points are
compared seed by seed: an effect of the seed on both points cancels.

Guarantees: means and differences use complete points only, those with a value for every seed. Intervals are widened for
the number of points compared at once.
Not covered: the noise of a metric on a small test set, which does not vary with the seed.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laclip_ray.intervals import Interval, mean_interval

Values = Mapping[str, Mapping[int, float]]
"""A metric by point and seed."""


@dataclass(frozen=True)
class Difference:
    """The advantage of a point over the baseline."""

    point: str
    baseline: str
    paired: Interval
    """Mean of the differences seed by seed."""
    unpaired_variance: float | None
    """Variance of the difference between two independent runs, one of each point. None for one seed."""
    paired_variance: float | None
    """Variance of the difference between two runs with the same seed. None for one seed."""


def complete(values: Values, seeds: Sequence[int]) -> dict[str, dict[int, float]]:
    """The points with a value for every seed."""
    return {
        point: {seed: by_seed[seed] for seed in seeds}
        for point, by_seed in values.items()
        if all(seed in by_seed for seed in seeds)
    }


def best_point(values: Values) -> str:
    """The point with the largest mean; the first of several."""
    return max(values, key=lambda point: statistics.fmean(values[point].values()))


def differences(values: Values, baseline: str, begun: int = 0) -> list[Difference]:
    """The difference of every other complete point from the baseline.

    Args:
        values: of complete points.
        baseline: one of them.
        begun: points that began, including those that ended early. The same seeds chose which points are complete, so
            all of them count as compared.
    """
    comparisons = max(len(values), begun) - 1
    return [_difference(values, point, baseline, comparisons) for point in values if point != baseline]


def _difference(values: Values, point: str, baseline: str, comparisons: int) -> Difference:
    ours, theirs = values[point], values[baseline]
    by_seed = [ours[seed] - theirs[seed] for seed in theirs]
    has_variance = len(by_seed) > 1
    return Difference(
        point,
        baseline,
        mean_interval(by_seed, comparisons),
        statistics.variance(ours.values()) + statistics.variance(theirs.values()) if has_variance else None,
        statistics.variance(by_seed) if has_variance else None,
    )


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Kendall's tau-a of two rankings of the same points, from -1 to 1; 1 for a single point.

    >>> agreement({"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 1.0, "b": 3.0, "c": 2.0})
    0.3333333333333333
    """
    points = list(one)
    pairs = [(first, second) for number, first in enumerate(points) for second in points[number + 1 :]]
    if not pairs:
        return 1.0
    products = [(one[first] - one[second]) * (other[first] - other[second]) for first, second in pairs]
    return sum((product > 0) - (product < 0) for product in products) / len(pairs)


def verdict(values: Values, baseline: str, metric: str, as_share: bool = True, begun: int = 0) -> str:
    """One or two sentences: the best point, its advantage, and whether the advantage can be chance.

    Args:
        values: of complete points.
        baseline: the point to compare with; one of them.
        metric: its name.
        as_share: whether the values are shares, shown in per cent.
        begun: see `differences`.
    """
    scale, unit, points = (100, " %", " percentage points") if as_share else (1, "", "")

    def number(value: float) -> str:
        return f"{scale * value:.{2 if as_share else 4}f}"

    best = best_point(values)
    means = {point: statistics.fmean(by_seed.values()) for point, by_seed in values.items()}
    if best == baseline:
        return f"{metric}: no point is better than {baseline} ({number(means[best])}{unit})."
    paired = next(each.paired for each in differences(values, baseline, begun) if each.point == best)
    start = (
        f"{metric}: {best} is best, {number(means[best])}{unit} against {number(means[baseline])}{unit} of {baseline}"
    )
    gain = f"a difference of {number(paired.mean)}{points}"
    if paired.half_width is None:
        return f"{start}, {gain}. One seed cannot say whether that is chance."
    if not paired.half_width:
        return f"{start}, {gain} for every seed. Values that do not vary cannot say whether that is chance."
    low, high = paired.mean - paired.half_width, paired.mean + paired.half_width
    interval = f"95 % interval {number(low)} to {number(high)}, {paired.count} seeds" + (
        f", corrected for {paired.comparisons} comparisons" if paired.comparisons > 1 else ""
    )
    if paired.excludes_zero:
        return f"{start}, {gain} ({interval}), which is more than chance."
    return f"{start}, {gain} ({interval}). The interval includes zero: with these seeds it can be chance."
