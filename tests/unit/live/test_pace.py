from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.live.pace import Pace


@given(st.floats(0.1, 1e4), st.integers(3, 50))
def test_a_steady_pace_is_found(per_s: float, counts: int) -> None:
    pace = Pace()
    for second in range(counts):
        pace.add(per_s * second, second)
    found = pace.per_s(counts - 1)
    assert found is not None
    assert abs(found - per_s) <= 1e-6 * per_s


def test_time_before_the_first_thing_is_done_does_not_count() -> None:
    pace = Pace()
    for second in range(60):
        pace.add(0, second)
    pace.add(20, 61)
    assert pace.per_s(61) == 10.0


def test_the_rate_falls_while_nothing_is_done() -> None:
    pace = Pace()
    pace.add(0, 0)
    pace.add(10, 2)
    assert (pace.per_s(2), pace.per_s(10)) == (5.0, 1.0)


def test_old_counts_are_forgotten() -> None:
    pace = Pace()
    for second in range(0, 1_000, 10):
        pace.add(second if second < 500 else 500 + 10 * (second - 500), second)
    assert pace.per_s(990) == 10.0


def test_lost_work_begins_anew() -> None:
    pace = Pace()
    pace.add(100, 0)
    pace.add(200, 10)
    pace.add(150, 11)
    pace.add(170, 13)
    assert pace.per_s(13) == 10.0
    assert pace.left_s(270, 13) == 10.0


def test_no_rate_is_known_at_first() -> None:
    assert Pace().per_s(5.0) is None
    assert Pace().left_s(10, 5.0) is None
