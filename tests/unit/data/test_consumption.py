"""Consumed rows and the rows of a resumed stream are exactly the whole entry."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import StreamConfig
from laclip_ray.data.consumption import Consumption
from laclip_ray.data.entries import StreamSpec, read_entry
from laclip_ray.data.schedule import Position
from tests.unit.data.conftest import SKIPPED, USABLE, content, rows_of


@given(taken=st.integers(0, len(USABLE)), index=st.integers(0, 2), data=st.data())
def test_resuming_gives_exactly_the_rest_and_completes_the_entry(
    spec: StreamSpec, taken: int, index: int, data: st.DataObject
) -> None:
    whole = rows_of(read_entry(spec, index, set()))
    one_by_one = replace(spec, stream=StreamConfig(rows_per_block=1))
    batches = list(read_entry(one_by_one, index, set()))
    order = data.draw(st.permutations(range(len(batches))))
    first = Consumption(Position(), 1)
    for number in order[:taken]:
        first.add(batches[number])
    assert first.position.is_done(index) == (taken == len(USABLE))
    if first.position.is_done(index):
        return

    start = Position.from_json(first.position.to_json())
    rest = list(read_entry(spec, index, start.rows.get(index, set())))
    consumed = {whole[number].row for number in order[:taken]}
    assert [content(row) for row in rows_of(rest)] == [content(row) for row in whole if row.row not in consumed]
    second = Consumption(start, 1)
    for batch in rest:
        assert not second.position.is_done(index)
        second.add(batch)
    assert second.position.is_done(index)
    assert first.skipped.counts + second.skipped.counts == Counter(SKIPPED.values())
    assert first.shown_counts.get(index, Counter()) + second.shown_counts.get(index, Counter()) == Counter(
        row.shown for row in whole
    )


@given(dealt=st.lists(st.integers(0, 2), min_size=len(USABLE), max_size=len(USABLE)), order=st.permutations(range(3)))
def test_any_split_among_workers_completes_the_entry(spec: StreamSpec, dealt: list[int], order: list[int]) -> None:
    one_by_one = replace(spec, stream=StreamConfig(rows_per_block=1))
    workers = [Consumption(Position(), 1) for _ in range(3)]
    for worker, batch in zip(dealt, read_entry(one_by_one, 0, set()), strict=True):
        workers[worker].add(batch)
    merged = Position()
    for worker in order:
        merged.merge(workers[worker].position)
    assert merged == Position(done_below=1)


def test_consumption_counts_and_names_skipped_rows(spec: StreamSpec) -> None:
    taken = Consumption(Position(), 1)
    for batch in read_entry(spec, 0, set()):
        taken.add(batch)
    assert taken.skipped.counts == Counter(SKIPPED.values())
    assert taken.skipped.names == {reason: [f"k{row}"] for row, reason in SKIPPED.items()}
