"""Confidence intervals of metrics by bootstrap over images, and of the difference between two checkpoints.

A resample draws as many images as the set has, with replacement. Resample number r is a function of (seed, r, number of
images), so two compared checkpoints meet the same resamples. An image always chooses among all classes and captions of
the set: the interval says how far the metric would move with other images of the same kind.

Intervals are expanded percentile intervals (Hesterberg, "What Teachers Should Know About the Bootstrap", The American
Statistician, 2015): the percentiles of the resampled metrics, taken a little further out, as Student's t is wider than
the normal distribution. Plain percentiles are too narrow for small sets.

A mean average precision is computed anew in each resample, from one sort a class: 0.2 to 0.8 s a class for 1,000
resamples of 50,000 images. Resamples repeat images, which raises the average precision of rare classes, so their
intervals lie a little high. With ten images of a class and more, 92 to 97 % of simulated intervals hold the truth; with
four, 87 %.

Not covered: other metrics than means over images or classes (the largest of several accuracies), and images that
belong together, such as frames of one film. Where all images have one value (100 % of 30 images), the interval has no
width: such a set does not tell how far the metric may move.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laclip_ray.evaluation.per_image import MetricValues, RankedValues, Values
from laclip_ray.evaluation.protocols.average_precision import resampled_precision
from laclip_ray.intervals import CONFIDENCE, t_quantile
from laclip_ray.randomness import generator

RESAMPLES = 1_000

BLOCK_ELEMENTS = 2**18
"""Upper bound on the counts held at a time, unless one resample has more: what fits a processor's cache. Each takes
about 32 bytes."""

_MANY_DEGREES = 1_000
"""Of freedom. From here on, Student's t and the normal distribution agree to 0.2 %."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A metric, or a difference of metrics, with its 95 % interval."""

    value: float
    low: float | None
    """None for fewer than two images, whose variance is unknown."""
    high: float | None
    images: int
    """Images that have a value."""

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside the interval. False without an interval."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is larger than chance: its interval lies on one side of zero."""
        return self.excludes(0.0)

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"{self.low:.4f} to {self.high:.4f}"
        return f"{self.value:.4f} ({interval})"


def metric_of(values: Values) -> float:
    """The metric of a set; NaN if no image has a value."""
    everything = np.ones((1, len(values)))
    return float(_resampled(values)(everything)[0])


def estimate(values: Values, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """A metric and its interval; arguments as in `estimates`."""
    return estimates({"": values}, resamples, seed)[""]


def estimates(metrics: Mapping[str, Values], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """The metrics of one set, and their intervals from the same resamples.

    Args:
        metrics: by name; all have the same number of images.
        resamples: draws of the images; 1,000 place the ends of an interval to about 3 % of its width.
        seed: of the resamples.

    Returns:
        By name. The value is NaN, without an interval, if no image has one.
    """
    drawn = _draw({name: _resampled(metric) for name, metric in metrics.items()}, _size(metrics), resamples, seed)
    return {name: _estimate(metric_of(metric), drawn[name], metric) for name, metric in metrics.items()}


def difference(first: Values, second: Values, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The metric of the second checkpoint minus the metric of the first; arguments as in `differences`."""
    return differences({"": (first, second)}, resamples, seed)[""]


def differences(
    pairs: Mapping[str, tuple[Values, Values]], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Paired differences of two checkpoints: second minus first, on the same images.

    Each resample draws the same images for both, so hard and easy images cancel out. Images without a value of one
    checkpoint are left out for both.

    Args:
        pairs: by metric, the values of the first and the second checkpoint. Row n of all is the same image.
        resamples: as in `estimates`.
        seed: of the resamples.
    """
    common = {name: _on_common_images(*pair) for name, pair in pairs.items()}
    drawn = _draw(
        {name: _resampled_difference(*pair) for name, pair in common.items()},
        _size({name: pair[0] for name, pair in common.items()}),
        resamples,
        seed,
    )
    return {
        name: _estimate(metric_of(second) - metric_of(first), drawn[name], _by_image(first, second))
        for name, (first, second) in common.items()
    }


def _by_image(first: Values, second: Values) -> Values:
    """What each image contributes to a difference. Of average precisions only the number of images is known."""
    if isinstance(first, RankedValues) or isinstance(second, RankedValues):
        return first
    return MetricValues(second.values - first.values, first.weights, first.classes)


def _on_common_images(first: Values, second: Values) -> tuple[Values, Values]:
    if isinstance(first, RankedValues) or isinstance(second, RankedValues):
        return first, second  # every image has scores
    missing = np.isnan(first.values) | np.isnan(second.values)

    def masked(metric: MetricValues) -> MetricValues:
        return MetricValues(np.where(missing, np.nan, metric.values), metric.weights, metric.classes)

    return masked(first), masked(second)


def _size(metrics: Mapping[str, Values]) -> int:
    sizes = {len(metric) for metric in metrics.values()}
    assert len(sizes) <= 1, sizes
    return max(sizes, default=0)


Statistic = Callable[[Floats], Floats]
"""The metric of each resample, [B], from how often each image is in it, [B, N]. NaN if no image with a value is."""


def _resampled(metric: Values) -> Statistic:
    if isinstance(metric, RankedValues):
        return resampled_precision(metric.scores, metric.labels)
    return _class_means(metric.values, metric.classes) if metric.classes is not None else _weighted_mean(metric)


def _resampled_difference(first: Values, second: Values) -> Statistic:
    of_first, of_second = _resampled(first), _resampled(second)
    return lambda counts: of_second(counts) - of_first(counts)


def _weighted_mean(metric: MetricValues) -> Statistic:
    has_value = np.isfinite(metric.values)
    weights = has_value * (1.0 if metric.weights is None else metric.weights)
    columns = np.stack([np.where(has_value, metric.values, 0.0) * weights, weights])  # [2, N]

    def mean(counts: Floats) -> Floats:
        return _ratio(*(columns @ counts.T))

    return mean


def _class_means(values: Floats, classes: NDArray[np.int64]) -> Statistic:
    """A class without a drawn image has no mean in a resample."""
    rows = np.flatnonzero(np.isfinite(values))
    rows = rows[np.argsort(classes[rows], kind="stable")]
    ordered, starts = values[rows], np.unique(classes[rows], return_index=True)[1]

    def mean(counts: Floats) -> Floats:
        if not len(rows):
            return np.full(len(counts), np.nan)
        drawn = counts[:, rows]
        of_class = np.add.reduceat(drawn, starts, axis=1)  # [B, C]
        total = np.add.reduceat(drawn * ordered, starts, axis=1)
        is_drawn = of_class > 0
        means = np.divide(total, of_class, out=np.zeros_like(total), where=is_drawn)
        return _ratio(means.sum(axis=1), is_drawn.sum(axis=1).astype(np.float64))

    return mean


def _ratio(total: Floats, weight: Floats) -> Floats:
    ratio: Floats = np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)
    return ratio


def _draw(statistics_of: Mapping[str, Statistic], images: int, resamples: int, seed: int) -> dict[str, Floats]:
    """Each statistic of every resample, [R]."""
    drawn = {name: np.full(resamples, np.nan) for name in statistics_of}
    if images < 2:
        return drawn
    block = max(1, BLOCK_ELEMENTS // images)
    counts = np.empty((min(block, resamples), images))
    for start in range(0, resamples, block):
        part = counts[: min(block, resamples - start)]
        for row, own in enumerate(part):
            chosen = generator(seed, "resample", start + row, images).integers(images, size=images)
            own[:] = np.bincount(chosen, minlength=images)
        for name, statistic in statistics_of.items():
            drawn[name][start : start + len(part)] = statistic(part)
    return drawn


def _estimate(value: float, resampled: Floats, metric: Values) -> Estimate:
    """The interval of a metric, or of a difference whose values by image are `metric`."""
    has_value = np.ones(len(metric), bool)
    if isinstance(metric, MetricValues):
        has_value = np.isfinite(metric.values)
        if metric.weights is not None:
            has_value &= metric.weights > 0
    images = int(has_value.sum())
    finite = resampled[np.isfinite(resampled)]
    if images < 2 or not len(finite):
        return Estimate(value, None, None, images)
    tail = _tail(metric.take(np.flatnonzero(has_value)))
    low, high = np.quantile(finite, [tail, 1 - tail]).tolist()
    return Estimate(value, low, high, images)


def _tail(metric: Values) -> float:
    """The share of resamples below an interval: 0.025 for many images, less for few.

    Resampled means vary less than means do, by a factor of (n - 1) / n in the variance, and Student's t is wider than
    the normal distribution. For a mean over classes, n is the number of images of a class; its degrees of freedom are
    Satterthwaite's. For a weighted mean, n is the number of equal weights that would vary as much. For a mean average
    precision, n is the number of images with a class, and all images count as varying alike.
    """
    if isinstance(metric, RankedValues):
        counts = metric.labels.sum(axis=0)
        inflation, degrees = _inflation(counts, np.ones(len(counts)))
    elif metric.classes is None:
        weights = np.ones(len(metric.values)) if metric.weights is None else metric.weights
        count = float(weights.sum() ** 2 / (weights**2).sum())
        inflation, degrees = count / (count - 1) if count > 1 else math.inf, count - 1
    else:
        inflation, degrees = _inflation_of_classes(metric.values, metric.classes)
    if degrees > _MANY_DEGREES:
        quantile = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    else:
        quantile = t_quantile(CONFIDENCE, max(1, int(degrees)))
    return statistics.NormalDist().cdf(-math.sqrt(inflation) * quantile)


def _inflation_of_classes(values: Floats, classes: NDArray[np.int64]) -> tuple[float, float]:
    """By how much the variance of a mean over classes exceeds its plug-in estimate, and its degrees of freedom."""
    of = np.unique(classes, return_inverse=True)[1]
    counts = np.bincount(of)
    means = np.bincount(of, values) / counts
    return _inflation(counts, np.bincount(of, (values - means[of]) ** 2) / counts)


def _inflation(counts: NDArray[np.int64], variances: Floats) -> tuple[float, float]:
    """The same from the number of images of each class, and their plug-in variance."""
    several = counts > 1
    counts, variances = counts[several], variances[several]
    unbiased = variances / (counts - 1)
    if not unbiased.sum():
        return 1.0, math.inf
    degrees = unbiased.sum() ** 2 / (unbiased**2 / (counts - 1)).sum()
    return float(unbiased.sum() / (variances / counts).sum()), float(degrees)
