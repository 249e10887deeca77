"""Student's t agrees with its density, and intervals hold what they state."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.intervals import mean_interval, proportion_interval, t_probability, t_quantile


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 10, 31, 60, 1000])
def test_t_quantiles_enclose_the_stated_share(degrees: int, confidence: float) -> None:
    # The share between -t and t, with x = sqrt(degrees) tan(a), which maps the density to cos(a) ** (degrees - 1).
    angles = np.linspace(0, math.atan(t_quantile(confidence, degrees) / math.sqrt(degrees)), 20001)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    share = 2 * scale * float(np.trapezoid(np.cos(angles) ** (degrees - 1), angles))
    assert share == pytest.approx(confidence, abs=1e-4)


def test_t_quantiles_agree_with_tables() -> None:
    assert t_quantile(0.95, 2) == pytest.approx(4.303, abs=5e-4)
    assert t_quantile(0.99, 5) == pytest.approx(4.032, abs=5e-4)
    assert t_quantile(0.999, 1) == pytest.approx(636.62, abs=5e-3)


@given(st.floats(0, 1e6), st.integers(1, 200))
def test_probabilities_are_probabilities(t: float, degrees: int) -> None:
    assert -1e-12 <= t_probability(t, degrees) <= 1 + 1e-12


def test_the_interval_of_known_values() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert mean_interval([0.5, 0.5]).half_width == 0.0


def test_one_value_has_no_interval_and_does_not_exclude_zero() -> None:
    assert mean_interval([0.3]).half_width is None
    assert not mean_interval([0.3]).excludes_zero


def test_joint_intervals_of_noise_exclude_zero_as_seldom_as_stated() -> None:
    draws = np.random.Generator(np.random.Philox(4)).normal(size=(2_000, 5, 3))
    alone, together = (
        sum(any(mean_interval(values, comparisons).excludes_zero for values in sweep.tolist()) for sweep in draws)
        for comparisons in (1, 5)
    )
    # Expected: 1 - 0.95^5 of the sweeps without the correction, at most 0.05 with it.
    assert 0.19 < alone / 2_000 < 0.26
    assert 0.03 < together / 2_000 < 0.066


@given(of=st.integers(1, 500), data=st.data())
def test_the_interval_of_a_share_holds_the_share(of: int, data: st.DataObject) -> None:
    cases = data.draw(st.integers(0, of))
    found = proportion_interval(cases, of)
    assert 0 <= found.low <= cases / of + 1e-9
    assert cases / of - 1e-9 <= found.high <= 1
    assert found.share == cases / of


def test_the_interval_of_a_share_is_wilsons() -> None:
    found = proportion_interval(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert proportion_interval(0, 0).share is None
