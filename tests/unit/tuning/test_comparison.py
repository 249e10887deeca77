"""Differences seed by seed, and sentences that say no more than the seeds do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.tuning.comparison import agreement, best_point, complete, differences, verdict

LUCK = {0: 0.10, 1: -0.05, 2: 0.02}
"""What each seed does to every point."""


def values(**gains: float) -> dict[str, dict[int, float]]:
    return {point: {seed: 0.3 + gain + luck for seed, luck in LUCK.items()} for point, gain in gains.items()}


def test_what_a_seed_does_to_both_drops_out() -> None:
    (found,) = differences(values(p0=0.0, p8=0.04), "p0")
    assert found.paired.mean == pytest.approx(0.04)
    assert found.paired.half_width == pytest.approx(0, abs=1e-9)
    assert found.paired_variance == pytest.approx(0, abs=1e-12)
    assert found.unpaired_variance == pytest.approx(2 * 0.005633, rel=1e-3)


def test_more_comparisons_give_wider_intervals() -> None:
    noisy = {"p0": {0: 0.3, 1: 0.31, 2: 0.29}, "p8": {0: 0.35, 1: 0.33, 2: 0.36}}
    (alone,) = differences(noisy, "p0")
    together = differences({**noisy, "p4": noisy["p8"], "p6": noisy["p8"]}, "p0")
    assert together[0].paired.half_width > alone.paired.half_width  # type: ignore[operator]


def test_points_without_a_seed_are_left_out() -> None:
    found = complete({"p0": {0: 0.3, 1: 0.2}, "p8": {0: 0.5}}, seeds=[0, 1])
    assert list(found) == ["p0"]


def test_the_sentence_says_when_it_is_more_than_chance() -> None:
    clear = {"p0": {0: 0.30, 1: 0.20, 2: 0.25}, "p8": {0: 0.38, 1: 0.285, 2: 0.325}}
    assert "p8 is best, 33.00 % against 25.00 % of p0" in verdict(clear, "p0", "top1")
    assert "which is more than chance" in verdict(clear, "p0", "top1")


def test_the_sentence_says_when_it_can_be_chance() -> None:
    unclear = {"p0": {0: 0.30, 1: 0.20, 2: 0.25}, "p8": {0: 0.38, 1: 0.19, 2: 0.26}}
    assert "The interval includes zero" in verdict(unclear, "p0", "top1")
    assert "one seed" in verdict({"p0": {0: 0.3}, "p8": {0: 0.4}}, "p0", "top1")
    assert verdict(unclear, "p8", "top1") == "top1: no point is better than p8 (27.67 %)."


def test_rankings_agree_disagree_or_do_not_care() -> None:
    means = {"p0": 0.1, "p4": 0.2, "p8": 0.3}
    assert agreement(means, {"p0": 1.0, "p4": 2.0, "p8": 9.0}) == 1
    assert agreement(means, {"p0": 3.0, "p4": 2.0, "p8": 1.0}) == -1
    assert agreement(means, {"p0": 1.0, "p4": 3.0, "p8": 2.0}) == pytest.approx(1 / 3)
    assert agreement(means, dict.fromkeys(means, 0.5)) == 0


@given(st.dictionaries(st.text(min_size=1), st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1))
def test_no_mean_is_larger_than_that_of_the_best(found: dict[str, list[float]]) -> None:
    by_seed = {point: dict(enumerate(each)) for point, each in found.items()}
    best = best_point(by_seed)
    assert all(sum(each) <= sum(found[best]) + 1e-9 for each in found.values())
