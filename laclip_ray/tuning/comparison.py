"""What a sweep says: the mean of each point, how points differ, and whether that is more than chance.

Trials of one seed share their first weights, the order of samples, crops and the nested text draws, so that two points
are compared seed by seed: what a seed does to both drops out of the difference.

Guarantees: a mean or a difference is of complete points only, those with a value for every seed; intervals are widened
for the number of points that are compared at once.
Not covered: a metric's own noise on a small test set, which the seeds do not vary.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laclip_ray.intervals import Interval, mean_interval

Values = Mapping[str, Mapping[int, float]]
"""A metric by point and seed."""


@dataclass(frozen=True)
class Difference:
    """How much better a point is than another one."""

    point: str
    baseline: str
    paired: Interval
    """Seed by seed."""
    unpaired_variance: float | None
    """Of the difference of two independent runs, one of each point; None for one seed."""
    paired_variance: float | None
    """Of the difference of two runs with the same seed."""


def complete(values: Values, seeds: Sequence[int]) -> dict[str, dict[int, float]]:
    """The points that have a value for every seed."""
    return {
        point: {seed: found[seed] for seed in seeds}
        for point, found in values.items()
        if all(seed in found for seed in seeds)
    }


def best_point(values: Values) -> str:
    """The point with the largest mean; of equal ones the first."""
    return max(values, key=lambda point: statistics.fmean(values[point].values()))


def differences(values: Values, baseline: str, begun: int = 0) -> list[Difference]:
    """Each other complete point against the baseline.

    Args:
        values: of complete points.
        baseline: one of them.
        begun: points, with those that ended early: what is left of them was chosen by the same seeds, so that they
            count as compared.
    """
    others = [point for point in values if point != baseline]
    comparisons = max(len(values), begun) - 1
    return [_difference(values, point, baseline, comparisons) for point in others]


def _difference(values: Values, point: str, baseline: str, comparisons: int) -> Difference:
    ours, theirs = values[point], values[baseline]
    by_seed = [ours[seed] - theirs[seed] for seed in theirs]
    several = len(by_seed) > 1
    return Difference(
        point,
        baseline,
        mean_interval(by_seed, comparisons),
        statistics.variance(ours.values()) + statistics.variance(theirs.values()) if several else None,
        statistics.variance(by_seed) if several else None,
    )


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """How far two rankings of the same points agree: Kendall's tau-a, from -1 to 1; 1 for a single point."""
    points = list(one)
    pairs = [(first, second) for number, first in enumerate(points) for second in points[number + 1 :]]
    if not pairs:
        return 1.0
    agreeing = [(one[first] - one[second]) * (other[first] - other[second]) for first, second in pairs]
    return sum((product > 0) - (product < 0) for product in agreeing) / len(pairs)


def verdict(values: Values, baseline: str, metric: str, as_share: bool = True, begun: int = 0) -> str:
    """A sentence that says which point is best, by how much, and whether that can be chance.

    Args:
        values: of complete points.
        baseline: the point that the others are held against; one of them.
        metric: its name.
        as_share: whether values are shares, to be said in per cent.
        begun: see `differences`.
    """
    scale, unit, points = (100, " %", " percentage points") if as_share else (1, "", "")

    def number(value: float) -> str:
        return f"{scale * value:.{2 if as_share else 4}f}"

    best = best_point(values)
    means = {point: statistics.fmean(found.values()) for point, found in values.items()}
    if best == baseline:
        return f"{metric}: no point is better than {baseline} ({number(means[best])}{unit})."
    found = next(each for each in differences(values, baseline, begun) if each.point == best)
    start = (
        f"{metric}: {best} is best, {number(means[best])}{unit} against {number(means[baseline])}{unit} of {baseline}"
    )
    gain = f"a difference of {number(found.paired.mean)}{points}"
    if found.paired.half_width is None:
        return f"{start}, {gain}. With one seed nothing says whether that is chance."
    if not found.paired.half_width:
        return f"{start}, {gain} for every seed. Values that do not vary do not say whether that is chance."
    compared = found.paired.comparisons
    low, high = found.paired.mean - found.paired.half_width, found.paired.mean + found.paired.half_width
    interval = f"95 % interval {number(low)} to {number(high)}, {found.paired.count} seeds" + (
        f", corrected for {compared} comparisons" if compared > 1 else ""
    )
    if found.paired.excludes_zero:
        return f"{start}, {gain} ({interval}), which is more than chance."
    return f"{start}, {gain} ({interval}). The interval includes zero: with these seeds it can be chance."
