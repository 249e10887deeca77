"""The forecasts of `laclip plan`: hours, GPU-hours, money and late shares."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.onejob.forecast import Forecast, Halves, cheapest, forecasts, late_shares

hours = st.floats(0.01, 1_000)
gpus = st.floats(0, 64)
any_halves = st.builds(
    Halves, hours, hours, st.integers(1, 40).map(float), gpus, gpus, st.floats(0.1, 9), st.floats(0.1, 9)
)


def by_delivery(halves: Halves, is_released: bool) -> dict[str, Forecast]:
    return {option.delivery: option for option in forecasts(halves, is_released)}


def test_slow_rewriting_by_hand() -> None:
    by_name = by_delivery(Halves(6.0, 2.0, 5.0, 4.0, 8.0, 1.0, 2.0), is_released=True)
    hours = {name: option.hours for name, option in by_name.items()}
    assert hours == {"ahead": 16.0, "inline": 14.0, "follow": 10.0}
    # 6 hours of 4 engines, and 10, 14 or 10 hours of 8 workers.
    gpu_hours = {name: option.gpu_hours for name, option in by_name.items()}
    assert gpu_hours == {"ahead": 104.0, "inline": 136.0, "follow": 104.0}
    assert by_name["inline"].money == pytest.approx(24 * 1 + 112 * 2)
    assert by_name["follow"].late_shares == pytest.approx((2 / 3, 1 / 3, 0.0, 0.0, 0.0))


def test_on_a_fixed_cluster_of_one_kind_ahead_needs_the_gpus_of_the_larger_half() -> None:
    halves = Halves(6.0, 2.0, 5.0, 4.0, 8.0, 1.0, 1.0, on_same_gpus=True)
    held = by_delivery(halves, is_released=False)
    gpu_hours = {name: option.gpu_hours for name, option in held.items()}
    assert gpu_hours == {"ahead": 128.0, "inline": 168.0, "follow": 120.0}
    assert held["ahead"].money == 128.0
    apart = by_delivery(dataclasses.replace(halves, on_same_gpus=False), is_released=False)
    assert apart["ahead"].gpu_hours == 192.0


def test_rewriting_that_is_faster_than_an_epoch_is_never_late() -> None:
    assert late_shares(Halves(1.0, 2.0, 3.0, 1.0, 1.0)) == (0.0, 0.0, 0.0)


def test_only_shards_left_to_rewrite_can_be_late() -> None:
    mostly_rewritten = dataclasses.replace(Halves(1.0, 0.5, 3.0, 1.0, 1.0), left_share=0.1)
    assert late_shares(mostly_rewritten) == pytest.approx((0.05, 0.0, 0.0))


@given(any_halves, st.booleans())
def test_no_delivery_is_faster_than_its_slower_half_or_slower_than_both_in_turn(
    halves: Halves, is_released: bool
) -> None:
    training = halves.epochs * halves.epoch_hours
    at_least, at_most = max(halves.rewriting_hours, training) * 0.999, (halves.rewriting_hours + training) * 1.001
    for option in forecasts(halves, is_released):
        assert at_least <= option.hours <= at_most


@given(any_halves)
def test_gpus_held_to_the_end_never_cost_less(halves: Halves) -> None:
    released, held = by_delivery(halves, is_released=True), by_delivery(halves, is_released=False)
    for name, option in held.items():
        assert option.gpu_hours >= released[name].gpu_hours * 0.999


@given(any_halves)
def test_late_shares_fall_from_epoch_to_epoch(halves: Halves) -> None:
    shares = late_shares(halves)
    assert len(shares) == halves.epochs
    assert all(0 <= after <= before <= 1 for before, after in itertools.pairwise(shares))


@given(any_halves, st.booleans())
def test_the_cheapest_costs_the_least_money(halves: Halves, is_released: bool) -> None:
    options = forecasts(halves, is_released)
    assert cheapest(options).money == min(option.money or 0.0 for option in options)


def test_without_prices_gpu_hours_decide() -> None:
    halves = dataclasses.replace(Halves(6.0, 2.0, 5.0, 4.0, 8.0), engine_price=None)
    assert cheapest(forecasts(halves, is_released=False)).delivery == "follow"
