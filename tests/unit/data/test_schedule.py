"""Every epoch holds every shard once, and the position is exact for any split among workers."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.schedule import Lanes, Position, Schedule, row_order

schedules = st.builds(Schedule, st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**40))


@given(schedule=schedules)
def test_every_epoch_holds_every_shard_once(schedule: Schedule) -> None:
    entries = [schedule.entry(index) for index in range(len(schedule))]
    assert Counter((entry.epoch, entry.shard) for entry in entries) == Counter(
        (epoch, shard) for epoch in range(schedule.epochs) for shard in range(schedule.shard_count)
    )
    assert [entry.epoch for entry in entries] == sorted(entry.epoch for entry in entries)
    assert [entry.index for entry in entries] == list(range(len(schedule)))


@given(schedule=schedules, data=st.data())
def test_an_entry_is_a_function_of_seed_and_index(schedule: Schedule, data: st.DataObject) -> None:
    alone = schedule.entry(data.draw(st.integers(0, len(schedule) - 1)))
    again = Schedule(schedule.shard_count, schedule.epochs + 1, schedule.seed)
    assert [again.entry(index) for index in range(len(schedule))][alone.index] == alone


def test_epochs_and_seeds_differ_in_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        schedule = Schedule(30, 2, seed)
        return [schedule.entry(epoch * 30 + number).shard for number in range(30)]

    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_rows_are_ordered_anew_for_each_epoch_shard_and_seed() -> None:
    orders = [row_order(50, *keys) for keys in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert row_order(50, 0, 0, "a") == orders[0]


def test_an_entry_is_done_when_all_of_its_rows_are_consumed() -> None:
    position = Position()
    position.consume(0, [0, 2])
    assert not position.is_done(0)
    position.consume(0, [1], row_count=4)
    assert not position.is_done(0)
    position.consume(0, [3])
    assert position.is_done(0)
    assert position == Position(done_below=1)


def test_an_empty_entry_is_done_once_its_row_count_is_known() -> None:
    position = Position()
    position.consume(0, [], row_count=0)
    assert position.is_done(0)


def test_consuming_a_row_twice_changes_nothing() -> None:
    position = Position()
    position.consume(0, [0, 0], row_count=2)
    position.consume(0, [0])
    assert not position.is_done(0)
    position.consume(0, [1])
    position.consume(0, [1], row_count=2)
    assert position == Position(done_below=1)


def test_done_below_advances_over_entries_done_out_of_order() -> None:
    position = Position()
    for index in (3, 1, 2):
        position.consume(index, [0], row_count=1)
        assert position.done_below == 0
    position.consume(0, [0], row_count=1)
    assert position == Position(done_below=4)


Event = tuple[int, int, bool]
"""(entry, row, whether the row carries the entry's row count)."""


@st.composite
def histories(draw: st.DrawFn) -> tuple[Schedule, dict[int, int], list[Event]]:
    """A schedule, the number of rows of each entry, and a part of all rows in random order."""
    schedule = Schedule(draw(st.integers(1, 4)), draw(st.integers(1, 3)), 0)
    counts = {index: draw(st.integers(1, 6)) for index in range(len(schedule))}
    every = [(index, row, row == count - 1) for index, count in counts.items() for row in range(count)]
    order = draw(st.permutations(every))
    return schedule, counts, order[: draw(st.integers(0, len(order)))]


def consumed(counts: dict[int, int], events: list[Event]) -> Position:
    position = Position()
    for index, row, last in events:
        position.consume(index, [row], counts[index] if last else None)
    return position


@given(history=histories())
def test_the_position_holds_exactly_the_consumed_rows(history: tuple[Schedule, dict[int, int], list[Event]]) -> None:
    schedule, counts, events = history
    position = consumed(counts, events)
    for index in range(len(schedule)):
        rows = {row for entry, row, _ in events if entry == index}
        assert position.is_done(index) == (len(rows) == counts[index])
        assert position.rows.get(index, set()) == (set() if position.is_done(index) else rows)


@given(history=histories(), data=st.data())
def test_any_split_among_workers_merges_to_the_same_position(
    history: tuple[Schedule, dict[int, int], list[Event]], data: st.DataObject
) -> None:
    _, counts, events = history
    whole = consumed(counts, events)
    workers = data.draw(st.integers(1, 4))
    dealt: list[list[Event]] = [[] for _ in range(workers)]
    for event in events:
        dealt[data.draw(st.integers(0, workers - 1))].append(event)
    parts = [consumed(counts, part) for part in dealt]
    for order in (parts, parts[::-1]):
        merged = Position()
        for part in order:
            merged.merge(Position.from_json(part.to_json()))
        assert merged == whole


@given(first=histories(), data=st.data())
def test_workers_that_resume_from_a_position_merge_to_the_whole(
    first: tuple[Schedule, dict[int, int], list[Event]], data: st.DataObject
) -> None:
    _, counts, events = first
    cut = data.draw(st.integers(0, len(events)))
    start = consumed(counts, events[:cut])
    parts = []
    for rank in range(2):
        part = Position.from_json(start.to_json())
        for index, row, last in events[cut + rank :: 2]:
            part.consume(index, [row], counts[index] if last else None)
        parts.append(part)
    parts[0].merge(parts[1])
    assert parts[0] == consumed(counts, events)


@given(history=histories())
def test_the_position_survives_json(history: tuple[Schedule, dict[int, int], list[Event]]) -> None:
    _, counts, events = history
    position = consumed(counts, events)
    assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position


@given(history=histories())
def test_remaining_is_the_schedule_without_done_entries(
    history: tuple[Schedule, dict[int, int], list[Event]],
) -> None:
    schedule, counts, events = history
    position = consumed(counts, events)
    remaining = position.remaining(schedule)
    expected = [index for index in range(len(schedule)) if not position.is_done(index)]
    assert [remaining[item] for item in range(len(remaining))] == expected
    assert list(iter(remaining)) == expected
    for bound in range(len(schedule) + 1):
        assert remaining.count_below(bound) == sum(index < bound for index in expected)


def test_remaining_of_a_huge_schedule_is_not_stored() -> None:
    schedule = Schedule(1_000_000, 32, 0)
    position = Position()
    position.consume(1, [0, 1], 3)
    remaining = position.remaining(schedule)
    assert len(remaining) == 32_000_000
    assert remaining[31_999_999] == 31_999_999
    assert remaining.unfinished == (0, 1)


def test_rows_are_kept_as_runs() -> None:
    position = Position()
    position.consume(0, [*range(1_000), 2_000])
    assert position.to_json()["rows"] == {"0": [[0, 999], [2_000, 2_000]]}


# --- lanes


def dealt_items(lanes: Lanes) -> list[list[int]]:
    return [list(lanes[task]) for task in range(len(lanes))]


lanes_of_any_size = st.builds(
    lambda count, length, width, singles: Lanes(count, length, width, min(singles, count)),
    *(st.integers(0, 200), st.integers(1, 9), st.integers(1, 9), st.integers(0, 50)),
)


@given(lanes=lanes_of_any_size)
def test_every_item_is_in_one_lane_and_no_lane_is_empty_or_too_long(lanes: Lanes) -> None:
    dealt = dealt_items(lanes)
    assert sorted(item for lane in dealt for item in lane) == list(range(lanes.count))
    assert all(0 < len(lane) <= lanes.length for lane in dealt)
    assert all(lane == sorted(lane) for lane in dealt)


@given(lanes=lanes_of_any_size)
def test_parallel_lanes_are_at_neighbouring_items(lanes: Lanes) -> None:
    dealt = dealt_items(lanes)
    for group in range(lanes.singles, len(dealt), lanes.width):
        for items in zip(*dealt[group : group + lanes.width], strict=False):
            assert max(items) - min(items) < lanes.width


@given(lanes=lanes_of_any_size)
def test_singles_come_first_with_one_item_each(lanes: Lanes) -> None:
    assert dealt_items(lanes)[: lanes.singles] == [[item] for item in range(lanes.singles)]


@given(count=st.integers(0, 200), length=st.integers(1, 9))
def test_lanes_of_width_1_follow_the_lists_order(count: int, length: int) -> None:
    assert [item for lane in dealt_items(Lanes(count, length)) for item in lane] == list(range(count))
