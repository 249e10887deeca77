"""Which shard is rewritten next, and how a rate is measured."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.schedule import Schedule
from laclip_ray.onejob.forecast import Halves, late_shares
from laclip_ray.onejob.priority import Rate, ShardPriority

SHARDS = 12
NAMES = [f"s{number:02d}" for number in range(SHARDS)]


def order(schedule: Schedule) -> list[str]:
    return [NAMES[schedule.entry(index).shard] for index in range(len(schedule))]


@given(st.integers(0, 99), st.sets(st.sampled_from(NAMES), min_size=1), st.integers(-1, 40), st.integers(0, 9))
def test_the_next_shard_is_the_one_read_soonest(seed: int, missing: set[str], reached: int, ahead: int) -> None:
    schedule = Schedule(SHARDS, 3, seed)
    priority = ShardPriority(schedule, NAMES, sorted(missing))
    priority.advance_past(reached)
    later = [name for name in order(schedule)[reached + 1 + ahead :] if name in missing]
    sooner = [name for name in order(schedule)[reached + 1 :] if name in missing]
    assert priority.take(ahead) == (later[0] if later else sooner[-1] if sooner else min(missing))


@given(st.integers(0, 99), st.lists(st.integers(0, 5), min_size=SHARDS, max_size=SHARDS))
def test_each_shard_is_taken_once_however_training_reads(seed: int, steps: list[int]) -> None:
    priority = ShardPriority(Schedule(SHARDS, 2, seed), NAMES, NAMES)
    taken = []
    for reached in itertools.accumulate(steps):
        priority.advance_past(reached)
        taken.append(priority.take())
    assert sorted(taken) == NAMES
    with pytest.raises(LookupError):
        priority.take()


def test_reading_an_earlier_entry_changes_nothing() -> None:
    schedule = Schedule(SHARDS, 2, 0)
    priority = ShardPriority(schedule, NAMES, NAMES)
    priority.advance_past(5)
    priority.advance_past(3)
    assert priority.take() == order(schedule)[6]


def test_after_a_restart_shards_that_training_had_passed_are_read_again() -> None:
    schedule = Schedule(SHARDS, 2, 0)
    priority = ShardPriority(schedule, NAMES, NAMES)
    priority.advance_past(5)
    priority.restart_at(2)
    assert priority.take() == order(schedule)[2]


@pytest.mark.parametrize("slower", [1.5, 2.0, 3.0])
def test_as_many_shards_are_late_as_the_forecast_says(slower: float) -> None:
    """Rewriting a shard takes `slower` times as long as reading it. One shard is rewritten at a time."""
    shards, epochs = 600, 4
    names = [str(number) for number in range(shards)]
    schedule = Schedule(shards, epochs, 0)
    priority = ShardPriority(schedule, names, names)
    ready_s: dict[str, float] = {}
    free_s = 0.0
    late = [0] * epochs
    for now_s in range(len(schedule)):
        while free_s <= now_s and len(ready_s) < shards:
            free_s += slower
            ready_s[priority.take(math.ceil(slower))] = free_s
        entry = schedule.entry(now_s)
        priority.advance_past(now_s)
        late[entry.epoch] += ready_s.get(names[entry.shard], now_s + 1) > now_s
    expected = late_shares(Halves(slower, 1.0, epochs, 1.0, 1.0))
    assert [count / shards for count in late] == pytest.approx(expected, abs=0.04)


def test_a_rate_needs_two_values_and_follows_the_newest_ones() -> None:
    rate = Rate()
    assert rate.per_s(1.0) == 0
    rate.add(0, 0.0)
    assert rate.per_s(1.0) == 0
    rate.add(10, 5.0)
    assert rate.per_s(5.0) == 2
    for second in range(100):
        rate.add(100 + second, 100.0 + second)
    assert rate.per_s(199.0) == 1


def test_a_rate_falls_without_new_values() -> None:
    rate = Rate()
    rate.add(0, 0.0)
    rate.add(10, 5.0)
    assert rate.per_s(100.0) == 0.1
