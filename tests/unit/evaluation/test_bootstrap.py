"""Intervals hold what they state on simulated sets, and paired differences cancel what both checkpoints share."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from laclip_ray.evaluation import bootstrap
from laclip_ray.evaluation.bootstrap import Estimate, difference, differences, estimate, estimates, metric_of
from laclip_ray.evaluation.per_image import MetricValues, RankedValues
from laclip_ray.evaluation.protocols.average_precision import average_precisions
from laclip_ray.randomness import generator

SIMULATIONS = 250
RESAMPLES = 250


def coverage(simulate: Callable[[np.random.Generator, int], tuple[Estimate, float]]) -> float:
    """The share of simulated sets whose interval holds the truth."""
    held = 0
    for number in range(SIMULATIONS):
        found, truth = simulate(generator("simulation", number), number)
        held += not found.excludes(truth)
    return held / SIMULATIONS


def is_as_stated(share: float) -> bool:
    """Whether a share of 250 simulations is 0.95, within three standard errors."""
    return 0.908 < share < 0.992


@pytest.mark.parametrize(("images", "truth"), [(20, 0.5), (60, 0.3), (400, 0.8)])
def test_the_interval_of_an_accuracy_holds_it(images: int, truth: float) -> None:
    def simulate(draws: np.random.Generator, number: int) -> tuple[Estimate, float]:
        values = (draws.random(images) < truth).astype(np.float64)
        return estimate(MetricValues(values), RESAMPLES, number), truth

    assert is_as_stated(coverage(simulate))


def test_the_interval_of_a_recall_holds_it_where_the_captions_of_an_image_go_together() -> None:
    def simulate(draws: np.random.Generator, number: int) -> tuple[Estimate, float]:
        captions = draws.integers(1, 6, size=150)
        ease = draws.beta(1, 1, size=150)  # mean 0.5, whatever the number of captions
        hits = draws.binomial(captions, ease) / captions
        return estimate(MetricValues(hits, weights=captions.astype(np.float64)), RESAMPLES, number), 0.5

    assert is_as_stated(coverage(simulate))


def test_the_interval_of_a_mean_over_classes_holds_it_where_classes_differ_in_size() -> None:
    shares, accuracies = np.array([0.6, 0.3, 0.1]), np.array([0.9, 0.5, 0.2])

    def simulate(draws: np.random.Generator, number: int) -> tuple[Estimate, float]:
        classes = draws.choice(3, size=300, p=shares)
        values = (draws.random(300) < accuracies[classes]).astype(np.float64)
        return estimate(MetricValues(values, classes=classes), RESAMPLES, number), accuracies.mean()

    assert is_as_stated(coverage(simulate))


def test_the_interval_of_a_paired_difference_holds_it() -> None:
    def simulate(draws: np.random.Generator, number: int) -> tuple[Estimate, float]:
        ease = draws.random(200)
        first, second = (MetricValues((ease < share).astype(np.float64)) for share in (0.55, 0.6))
        noise = MetricValues(np.where(draws.random(200) < 0.2, 1 - second.values, second.values))
        return difference(first, noise, RESAMPLES, number), 0.8 * 0.6 + 0.2 * 0.4 - 0.55

    assert is_as_stated(coverage(simulate))


def ranked(draws: np.random.Generator, images: int, shares: list[float], signal: float) -> RankedValues:
    """Images of classes of these shares, whose scores are higher by `signal` in their classes."""
    labels = draws.random((images, len(shares))) < np.array(shares)
    return RankedValues(signal * labels + draws.normal(size=labels.shape), labels)


@pytest.mark.parametrize(("images", "shares"), [(200, [0.1, 0.3]), (1_000, [0.02, 0.05, 0.2])])
def test_the_interval_of_a_mean_average_precision_holds_it(images: int, shares: list[float]) -> None:
    truth = float(np.mean([metric_of(ranked(generator("truth", n), images, shares, 1.0)) for n in range(1_000)]))

    def simulate(draws: np.random.Generator, number: int) -> tuple[Estimate, float]:
        return estimate(ranked(draws, images, shares, 1.0), RESAMPLES, number), truth

    assert is_as_stated(coverage(simulate))


def test_a_mean_average_precision_is_that_of_its_definition() -> None:
    found = ranked(generator(5), 50, [0.2, 0.5], 1.0)
    assert metric_of(found) == pytest.approx(average_precisions(found.scores, found.labels).mean())
    assert estimate(found, 20).images == 50


def test_a_mean_average_precision_differs_from_itself_by_nothing_and_from_a_better_one_by_more_than_chance() -> None:
    first = ranked(generator(6), 400, [0.2, 0.5], 0.5)
    assert (difference(first, first, 50).low, difference(first, first, 50).high) == (0, 0)
    better = difference(first, RankedValues(first.scores + first.labels, first.labels), 200)
    assert better.excludes_zero
    assert better.value > 0


@st.composite
def metrics(draw: st.DrawFn, images: int | None = None) -> MetricValues:
    """Values with gaps; plain, weighted, or of classes."""
    count = draw(st.integers(2, 30)) if images is None else images
    values = draw(npst.arrays(np.float64, count, elements=st.sampled_from([0.0, 1.0, 0.25, np.nan])))
    form = draw(st.sampled_from(["plain", "weighted", "classes"]))
    if form == "weighted":
        weights = draw(npst.arrays(np.float64, count, elements=st.sampled_from([0.0, 1.0, 3.0])))
        return MetricValues(values, weights=weights)
    if form == "classes":
        return MetricValues(values, classes=draw(npst.arrays(np.int64, count, elements=st.integers(0, 3))))
    return MetricValues(values)


@given(metrics(), st.integers(0, 3))
def test_a_checkpoint_differs_from_itself_by_exactly_nothing(metric: MetricValues, seed: int) -> None:
    found = difference(metric, metric, 20, seed)
    if np.isfinite(metric_of(metric)):
        assert found.value == 0
        assert found.low in (0, None)
        assert found.high in (0, None)
        assert not found.excludes_zero


def naive_metric(metric: MetricValues, rows: np.ndarray) -> float:
    """The metric of the images in `rows`, by its definition."""
    values = metric.values[rows]
    has_value = np.isfinite(values)
    if metric.classes is not None:
        classes = metric.classes[rows]
        means = [values[has_value & (classes == one)].mean() for one in np.unique(classes[has_value])]
        return float(np.mean(means)) if means else float("nan")
    weights = has_value * (1.0 if metric.weights is None else metric.weights[rows])
    return float((np.nan_to_num(values) * weights).sum() / weights.sum()) if weights.sum() else float("nan")


@given(metrics(), st.integers(0, 3))
def test_resampled_metrics_are_those_of_the_drawn_images(metric: MetricValues, seed: int) -> None:
    count = len(metric.values)
    expected = [
        naive_metric(metric, generator(seed, "resample", number, count).integers(count, size=count))
        for number in range(10)
    ]
    drawn = bootstrap._draw({"": bootstrap._resampled(metric)}, count, 10, seed)[""]
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    np.testing.assert_allclose(metric_of(metric), naive_metric(metric, np.arange(count)), rtol=1e-12)


def test_the_number_of_counts_held_at_a_time_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = MetricValues(generator(0).random(50))
    whole = estimate(metric, 40)
    for elements in (1, 50 * 7):
        monkeypatch.setattr(bootstrap, "BLOCK_ELEMENTS", elements)
        found = estimate(metric, 40)
        assert (found.low, found.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_metrics_together_have_the_intervals_that_they_have_alone() -> None:
    draws = generator(1)
    several = {name: MetricValues(draws.random(40)) for name in ("top1", "top5")}
    assert estimates(several, 50, 3) == {name: estimate(metric, 50, 3) for name, metric in several.items()}


def test_an_interval_is_a_function_of_the_seed() -> None:
    metric = MetricValues(generator(2).random(40))
    assert estimate(metric, 50, 1) == estimate(metric, 50, 1) != estimate(metric, 50, 2)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    ease = generator(3).random(500)
    first, second = (MetricValues((ease < share).astype(np.float64)) for share in (0.50, 0.53))
    alone = estimates({"first": first, "second": second})
    assert alone["first"].high is not None
    assert alone["second"].low is not None
    assert alone["first"].high > alone["second"].low
    assert difference(first, second).excludes_zero


def test_images_that_one_checkpoint_lacks_are_left_out_for_both() -> None:
    first = MetricValues(np.array([0.0, 0.0, 1.0, np.nan]))
    second = MetricValues(np.array([1.0, np.nan, 1.0, 0.0]))
    found = differences({"top1": (first, second)}, 50)["top1"]
    assert (found.value, found.images) == (0.5, 2)


@pytest.mark.parametrize("values", [[], [0.5], [np.nan, 0.5, np.nan]])
def test_one_image_has_no_interval(values: list[float]) -> None:
    found = estimate(MetricValues(np.array(values, np.float64)))
    assert (found.low, found.high, found.images) == (None, None, min(len(values), 1))
    assert not found.excludes(7.0)
    assert "no interval" in str(found)


def test_many_images_take_little_memory() -> None:
    metric = MetricValues(generator(4).random(50_000))
    tracemalloc.start()
    estimate(metric, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20
