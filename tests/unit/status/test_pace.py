"""Rates count the newest commits of the run, and fall while nothing is committed."""

import pytest

from laclip_ray.status.pace import commits_per_s, time_left_s


def test_a_steady_run_has_the_rate_of_its_commits() -> None:
    assert commits_per_s([10.0 * number for number in range(50)], now_s=490.0) == pytest.approx(0.1)


def test_the_order_of_a_listing_does_not_matter() -> None:
    assert commits_per_s([30.0, 10.0, 20.0], now_s=30.0) == commits_per_s([10.0, 20.0, 30.0], now_s=30.0)


def test_the_rate_falls_while_nothing_is_committed() -> None:
    times_s = [0.0, 10.0, 20.0]
    assert commits_per_s(times_s, now_s=200.0) == pytest.approx(2 / 200)


def test_commits_of_earlier_runs_do_not_count() -> None:
    assert commits_per_s([0.0, 1.0, 2.0, 1_000.0, 1_010.0], now_s=1_010.0, since_s=900.0) == pytest.approx(0.1)


def test_one_commit_is_no_rate() -> None:
    assert commits_per_s([5.0], now_s=10.0) is None
    assert commits_per_s([5.0, 5.0], now_s=5.0) is None


def test_old_commits_of_a_long_run_do_not_count() -> None:
    slow = [100.0 * number for number in range(100)]
    fast = [10_000.0 + number for number in range(300)]
    assert commits_per_s([*slow, *fast], now_s=fast[-1]) == pytest.approx(1.0)


def test_the_time_left_is_known_with_the_rate() -> None:
    assert time_left_s(50, 0.1) == pytest.approx(500)
    assert time_left_s(50, None) is None
    assert time_left_s(50, 0.0) is None
