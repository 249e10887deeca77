"""Differences seed by seed, and verdicts that claim no more than the seeds support."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.tuning.comparison import agreement, best_point, complete, differences, verdict

LUCK = {0: 0.10, 1: -0.05, 2: 0.02}
"""The effect of each seed on every point."""


def values(**gains: float) -> dict[str, dict[int, float]]:
    return {point: {seed: 0.3 + gain + luck for seed, luck in LUCK.items()} for point, gain in gains.items()}


def test_the_effect_of_a_seed_on_both_points_cancels() -> None:
    (difference,) = differences(values(p0=0.0, p8=0.04), "p0")
    assert difference.paired.mean == pytest.approx(0.04)
    assert difference.paired.half_width == pytest.approx(0, abs=1e-9)
    assert difference.paired_variance == pytest.approx(0, abs=1e-12)
    assert difference.unpaired_variance == pytest.approx(2 * 0.005633, rel=1e-3)


def test_more_comparisons_give_wider_intervals() -> None:
    noisy = {"p0": {0: 0.3, 1: 0.31, 2: 0.29}, "p8": {0: 0.35, 1: 0.33, 2: 0.36}}
    (alone,) = differences(noisy, "p0")
    together = differences({**noisy, "p4": noisy["p8"], "p6": noisy["p8"]}, "p0")
    assert together[0].paired.half_width > alone.paired.half_width  # type: ignore[operator]


def test_points_without_a_seed_are_left_out() -> None:
    points = complete({"p0": {0: 0.3, 1: 0.2}, "p8": {0: 0.5}}, seeds=[0, 1])
    assert list(points) == ["p0"]


def test_a_clear_difference_is_more_than_chance() -> None:
    clear = {"p0": {0: 0.30, 1: 0.20, 2: 0.25}, "p8": {0: 0.38, 1: 0.285, 2: 0.325}}
    assert "p8 is best, 33.00 % against 25.00 % of p0" in verdict(clear, "p0", "top1")
    assert "which is more than chance" in verdict(clear, "p0", "top1")


def test_an_unclear_difference_can_be_chance() -> None:
    unclear = {"p0": {0: 0.30, 1: 0.20, 2: 0.25}, "p8": {0: 0.38, 1: 0.19, 2: 0.26}}
    assert "The interval includes zero" in verdict(unclear, "p0", "top1")
    assert "One seed" in verdict({"p0": {0: 0.3}, "p8": {0: 0.4}}, "p0", "top1")
    assert verdict(unclear, "p8", "top1") == "top1: no point is better than p8 (27.67 %)."


def test_rankings_agree_disagree_or_are_unrelated() -> None:
    means = {"p0": 0.1, "p4": 0.2, "p8": 0.3}
    assert agreement(means, {"p0": 1.0, "p4": 2.0, "p8": 9.0}) == 1
    assert agreement(means, {"p0": 3.0, "p4": 2.0, "p8": 1.0}) == -1
    assert agreement(means, {"p0": 1.0, "p4": 3.0, "p8": 2.0}) == pytest.approx(1 / 3)
    assert agreement(means, dict.fromkeys(means, 0.5)) == 0


@given(st.dictionaries(st.text(min_size=1), st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1))
def test_no_mean_is_larger_than_the_best_point_s(measured: dict[str, list[float]]) -> None:
    best = best_point({point: dict(enumerate(seeds)) for point, seeds in measured.items()})
    assert all(sum(seeds) <= sum(measured[best]) + 1e-9 for seeds in measured.values())
