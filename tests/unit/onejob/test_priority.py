"""Which shard is next."""

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
def test_the_next_shard_is_the_one_that_is_read_soonest_from_there(
    seed: int, missing: set[str], reached: int, ahead: int
) -> None:
    schedule = Schedule(SHARDS, 3, seed)
    need = ShardPriority(schedule, NAMES, sorted(missing))
    need.reach(reached)
    later = [name for name in order(schedule)[reached + 1 + ahead :] if name in missing]
    sooner = [name for name in order(schedule)[reached + 1 :] if name in missing]
    assert need.take(ahead) == (later[0] if later else sooner[-1] if sooner else min(missing))


@given(st.integers(0, 99), st.lists(st.integers(0, 5), min_size=SHARDS, max_size=SHARDS))
def test_each_shard_is_taken_once_wherever_reading_is(seed: int, steps: list[int]) -> None:
    need = ShardPriority(Schedule(SHARDS, 2, seed), NAMES, NAMES)
    taken = []
    for reached in itertools.accumulate(steps):
        need.reach(reached)
        taken.append(need.take())
    assert sorted(taken) == NAMES
    with pytest.raises(LookupError):
        need.take()


def test_reading_that_begins_again_a_little_earlier_changes_nothing() -> None:
    schedule = Schedule(SHARDS, 2, 0)
    need = ShardPriority(schedule, NAMES, NAMES)
    need.reach(5)
    need.reach(3)
    assert need.take() == order(schedule)[6]


def test_reading_that_goes_back_to_a_checkpoint_reads_again_what_it_had_passed() -> None:
    schedule = Schedule(SHARDS, 2, 0)
    need = ShardPriority(schedule, NAMES, NAMES)
    need.reach(5)
    need.begin(2)
    assert need.take() == order(schedule)[2]


@pytest.mark.parametrize("slower", [1.5, 2.0, 3.0])
def test_as_much_is_late_as_the_plan_says(slower: float) -> None:
    """A shard takes `slower` as long to rewrite as to read; one is rewritten at a time."""
    shards, epochs = 600, 4
    names = [str(number) for number in range(shards)]
    schedule = Schedule(shards, epochs, 0)
    need = ShardPriority(schedule, names, names)
    ready_s: dict[str, float] = {}
    free_s = 0.0
    late = [0] * epochs
    for now_s in range(len(schedule)):
        while free_s <= now_s and len(ready_s) < shards:
            free_s += slower
            ready_s[need.take(math.ceil(slower))] = free_s
        entry = schedule.entry(now_s)
        need.reach(now_s)
        late[entry.epoch] += ready_s.get(names[entry.shard], now_s + 1) > now_s
    expected = late_shares(Halves(slower, 1.0, epochs, 1.0, 1.0))
    assert [count / shards for count in late] == pytest.approx(expected, abs=0.04)


def test_a_rate_is_not_known_before_two_notes_and_is_that_of_late_ones() -> None:
    rate = Rate()
    assert rate.per_s(1.0) == 0
    rate.note(0, 0.0)
    assert rate.per_s(1.0) == 0
    rate.note(10, 5.0)
    assert rate.per_s(5.0) == 2
    for second in range(100):
        rate.note(100 + second, 100.0 + second)
    assert rate.per_s(199.0) == 1


def test_a_rate_falls_while_nothing_is_noted() -> None:
    rate = Rate()
    rate.note(0, 0.0)
    rate.note(10, 5.0)
    assert rate.per_s(100.0) == 0.1
