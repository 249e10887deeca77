"""The search of LGSSL visits its values of C, and finds a single peak."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.protocols.lgssl import COARSE, fine_values, quarter_points, search


def chosen(visited: dict[float, float]) -> float:
    return max(visited, key=visited.__getitem__)


def test_the_coarse_values_are_two_decades_apart() -> None:
    assert [math.log10(c) for c in COARSE] == pytest.approx([-6, -4, -2, 0, 2, 4, 6])


def test_the_fine_values_are_seven_a_decade_around_the_best() -> None:
    values = fine_values(1.0)
    assert len(values) == 29
    assert [math.log10(c) for c in values] == pytest.approx([n / 7 for n in range(-14, 15)])
    assert 1.0 in values


@pytest.mark.parametrize("best", [COARSE[0], COARSE[-1]])
def test_values_beyond_the_coarse_ones_are_cut(best: float) -> None:
    values = fine_values(best)
    assert len(values) == 15
    assert best in values
    assert all(1e-6 * (1 - 1e-9) <= value <= 1e6 * (1 + 1e-9) for value in values)


def test_quarter_points_of_29_values() -> None:
    assert quarter_points(29) == (7, 14, 21)
    assert quarter_points(2) == (0, 1, 1)


@given(peak=st.floats(-6, 6))
def test_a_single_peak_is_found_as_by_the_full_grid(peak: float) -> None:
    def score(c: float) -> float:
        return -abs(math.log10(c) - peak)

    best = max(COARSE, key=score)
    grid = max(score(c) for c in [best, *fine_values(best)])
    assert max(search(score).values()) == grid


@given(seed=st.integers(0, 1_000), levels=st.integers(1, 6))
def test_no_value_is_scored_twice_and_few_are_scored(seed: int, levels: int) -> None:
    calls: Counter[float] = Counter()

    def score(c: float) -> float:
        calls[c] += 1
        return hash((c, seed)) % levels

    search(score)
    assert set(calls.values()) == {1}
    assert len(COARSE) < len(calls) <= len(COARSE) + 12


def test_of_equal_scores_the_smallest_coarse_value_is_chosen() -> None:
    assert chosen(search(lambda _: 0.5)) == COARSE[0]
