"""An entry gives every usable row once, names the skipped ones once, and resumes exactly."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray.config import DataConfig, StreamConfig
from laclip_ray.data import records, shards, stream
from laclip_ray.data.images import decode_and_crop
from laclip_ray.data.records import hash_caption
from laclip_ray.data.schedule import Lanes, Position, Schedule
from laclip_ray.data.shards import list_shards
from laclip_ray.data.stream import Consumption, ReadEntries, StreamSpec, TextSupply, read_entry
from laclip_ray.data.text_choice import Rewrites, ShownText, TextPolicy
from laclip_ray.data.tokens import TokenizerSpec, load_clip_tokenizer
from tests.unit.conftest import SMALL, picture, write_tar

TOKENIZER = TokenizerSpec(None, 16, None)
USABLE = [0, 1, 3, 4, 6, 7, 8, 10]
SKIPPED = {2: stream.IMAGE_UNREADABLE, 5: records.CAPTION_MISSING, 9: records.IMAGE_MISSING, 11: records.CAPTION_EMPTY}
ROWS = 12


@dataclass(frozen=True)
class Lookup:
    """A lookup of given rewrites."""

    found: Mapping[str, Mapping[tuple[str, str], Sequence[str]]]

    def rewrites(self, shard_name: str) -> Mapping[tuple[str, str], Rewrites] | None:
        found = self.found.get(shard_name)
        return None if found is None else {key: Rewrites(texts) for key, texts in found.items()}


def plan(p: float) -> TextPolicy:
    return TextPolicy("sample", 1, p, p, 1)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StreamSpec:
    """One shard of twelve rows, four of them unusable, over three epochs."""
    members: list[tuple[str, bytes]] = []
    for row in range(ROWS):
        image = picture(width=24 + row)
        if SKIPPED.get(row) != records.IMAGE_MISSING:
            members.append((f"k{row}.png", b"broken" if row == 2 else image))
        if SKIPPED.get(row) != records.CAPTION_MISSING:
            members.append((f"k{row}.txt", b" " if row == 11 else b"caption %d" % row))
    path = write_tar(tmp_path_factory.mktemp("stream") / "0.tar", members)
    data = DataConfig(path=str(path))
    accepted = {
        (f"k{row}", hash_caption(f"caption {row}")): [f"rewrite {row} {which}" for which in range(row % 3)]
        for row in range(ROWS)
        if row != 8
    }
    return StreamSpec(
        data=data,
        stream=StreamConfig(rows_per_block=3),
        shards=tuple(list_shards(data)),
        schedule=Schedule(1, 3, 5),
        rewrites=Lookup({"0.tar": accepted}),
        text=plan(0.6),
        seed=5,
        image=SMALL,
        tokenizer=TOKENIZER,
        dealt_rows=4,
    )


@dataclass(frozen=True)
class Row:
    """One delivered row."""

    row: int
    row_count: int
    image: bytes
    tokens: tuple[int, ...]
    shown: int
    skipped: tuple[tuple[int, str, str], ...]


def rows_of(batches: Iterable[stream.Batch]) -> list[Row]:
    found = []
    for batch in batches:
        for place in range(len(batch["row"])):
            skipped = json.loads(batch["skipped"][place]) if batch["skipped"][place] else []
            found.append(
                Row(
                    int(batch["row"][place]),
                    int(batch["row_count"][place]),
                    batch["image"][place].tobytes(),
                    tuple(batch["tokens"][place, 0].tolist()),
                    int(batch["shown_text"][place]),
                    tuple(tuple(each) for each in skipped),
                )
            )
    return found


def content(row: Row) -> tuple[Any, ...]:
    return row.row, row.image, row.tokens, row.shown


def test_every_usable_row_comes_once(spec: StreamSpec) -> None:
    assert sorted(row.row for row in rows_of(read_entry(spec, 0, set()))) == USABLE


def test_every_skipped_row_is_reported_once_with_its_id_and_reason(spec: StreamSpec) -> None:
    for index in range(3):
        reported = [each for row in rows_of(read_entry(spec, index, set())) for each in row.skipped]
        assert sorted(reported) == [(row, f"k{row}", reason) for row, reason in sorted(SKIPPED.items())]


def test_the_row_count_comes_with_the_last_row_only(spec: StreamSpec) -> None:
    assert [row.row_count for row in rows_of(read_entry(spec, 0, set()))] == [-1] * (len(USABLE) - 1) + [ROWS]


def test_rows_come_in_blocks_of_the_configured_size_and_the_stated_types(spec: StreamSpec) -> None:
    batches = list(read_entry(spec, 1, set()))
    assert [len(batch["row"]) for batch in batches] == [3, 3, 2]
    for batch in batches:
        count = len(batch["row"])
        assert batch["image"].shape == (count, 16, 16, 3)
        assert batch["tokens"].shape == (count, 1, 16)
        assert {name: batch[name].dtype for name in ("image", "tokens", "schedule_index", "row", "row_count")} == {
            "image": np.uint8,
            "tokens": np.int64,
            "schedule_index": np.int64,
            "row": np.int32,
            "row_count": np.int32,
        }
        assert batch["schedule_index"].tolist() == [1] * count


def test_a_row_holds_the_crop_and_the_text_that_the_pure_functions_give(spec: StreamSpec) -> None:
    assert spec.rewrites is not None
    accepted = spec.rewrites.rewrites("0.tar")
    assert accepted is not None
    samples = {sample.row: sample for sample in shards.read_samples(spec.shards[0], spec.data, with_images=True)}
    sources = set()
    for epoch in range(3):
        for row in rows_of(read_entry(spec, epoch, set())):
            sample = samples[row.row]
            rewrites = accepted.get((sample.id, sample.caption_hash))
            choice = spec.text.choose(sample.caption, rewrites, spec.seed, epoch, sample.id)
            assert sample.image is not None
            pixels = decode_and_crop(sample.image, SMALL, spec.stream.crop_scale, spec.seed, epoch, sample.id)
            assert row.image == pixels.tobytes()
            assert row.tokens == tuple(load_clip_tokenizer(TOKENIZER)([choice.text])[0].tolist())
            assert row.shown == choice.shown
            sources.add(choice.shown)
    assert {ShownText.CAPTION, ShownText.REWRITE, ShownText.NO_ACCEPTED_REWRITE} <= sources


def test_captions_are_shown_where_there_are_no_rewrites_or_an_edited_caption(spec: StreamSpec) -> None:
    none = replace(spec, rewrites=None, text=plan(0.0))
    assert {row.shown for row in rows_of(read_entry(none, 0, set()))} == {ShownText.CAPTION}
    not_rewritten = replace(spec, rewrites=Lookup({}), text=plan(1.0))
    assert {row.shown for row in rows_of(read_entry(not_rewritten, 0, set()))} == {ShownText.NOT_REWRITTEN}
    edited = replace(spec, rewrites=Lookup({"0.tar": {("k0", hash_caption("other")): ["stale"]}}), text=plan(1.0))
    assert {row.shown for row in rows_of(read_entry(edited, 0, set()))} == {ShownText.NOT_REWRITTEN}


def test_epochs_differ_in_order_and_in_crops(spec: StreamSpec) -> None:
    epochs = [rows_of(read_entry(spec, index, set())) for index in range(3)]
    assert len({tuple(row.row for row in rows) for rows in epochs}) == 3
    assert len({row.image for rows in epochs for row in rows if row.row == 0}) == 3


def test_reading_again_gives_the_same_rows_in_the_same_order(spec: StreamSpec) -> None:
    assert rows_of(read_entry(spec, 0, set())) == rows_of(read_entry(spec, 0, set()))


@settings(max_examples=40)
@given(taken=st.integers(0, len(USABLE)), index=st.integers(0, 2), data=st.data())
def test_resuming_gives_exactly_the_rest_and_completes_the_entry(
    spec: StreamSpec, taken: int, index: int, data: st.DataObject
) -> None:
    whole = rows_of(read_entry(spec, index, set()))
    one_by_one = replace(spec, stream=StreamConfig(rows_per_block=1))
    batches = list(read_entry(one_by_one, index, set()))
    order = data.draw(st.permutations(range(len(batches))))
    first = Consumption(Position(), 1)
    for place in order[:taken]:
        first.add(batches[place])
    assert first.position.is_done(index) == (taken == len(USABLE))
    if first.position.is_done(index):
        return

    start = Position.from_json(first.position.to_json())
    rest = list(read_entry(spec, index, start.rows.get(index, set())))
    consumed = {whole[place].row for place in order[:taken]}
    assert [content(row) for row in rows_of(rest)] == [content(row) for row in whole if row.row not in consumed]
    second = Consumption(start, 1)
    for batch in rest:
        assert not second.position.is_done(index)
        second.add(batch)
    assert second.position.is_done(index)
    assert first.skipped + second.skipped == Counter(SKIPPED.values())
    assert first.shown_counts.get(index, Counter()) + second.shown_counts.get(index, Counter()) == Counter(
        row.shown for row in whole
    )


@settings(max_examples=25)
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


def test_consumption_names_what_was_skipped(spec: StreamSpec) -> None:
    taken = Consumption(Position(), 1)
    for batch in read_entry(spec, 0, set()):
        taken.add(batch)
    assert taken.skipped == Counter(SKIPPED.values())
    assert taken.skipped_names == {reason: [f"k{row}"] for row, reason in SKIPPED.items()}


@pytest.mark.parametrize("length", [1, 2])
def test_places_in_what_remains_are_read_without_what_was_consumed(spec: StreamSpec, length: int) -> None:
    position = Position(done_below=1)
    position.consume(1, USABLE[:6])
    task = ReadEntries(spec, position.remaining(spec.schedule), Lanes(2, length), position.rows)
    batches = list(task({"id": np.arange(2 // length)}))
    read = [
        (int(index), int(row))
        for batch in batches
        for index, row in zip(batch["schedule_index"], batch["row"], strict=True)
    ]
    assert sorted(read) == [*((1, row) for row in USABLE[6:]), *((2, row) for row in USABLE)]


def test_rewriting_beside_training_is_told_which_entries_are_read(spec: StreamSpec) -> None:
    told: list[int] = []
    supply = SimpleNamespace(reading=told.append)
    remaining = Position(done_below=1).remaining(spec.schedule)
    for _ in ReadEntries(spec, remaining, Lanes(2, 1), {}, cast(TextSupply, supply))({"id": np.array([1])}):
        assert told == [2]
    assert told == [2]


@pytest.mark.parametrize(("bound", "tasks"), [(None, 6), (3, 3)])
def test_a_few_blocks_a_task_are_in_hand_beside_the_rows_that_wait(
    spec: StreamSpec, bound: int | None, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 6.0})
    monkeypatch.setattr("laclip_ray.cluster.tasks_at_once", lambda: bound)
    a_row = stream._row_bytes(spec)
    assert stream.read_ahead_bytes(spec, 1_000) == (1_000 + 4 * tasks * spec.stream.rows_per_block) * a_row


@pytest.mark.parametrize(
    ("nodes", "tasks", "free_cpus", "processes"),
    [(1, 3, 8.0, 3), (1, 3, 2.5, 2), (1, 3, 0.0, 0), (1, 64, 60.0, 4), (2, 3, 8.0, 0)],
)
def test_as_many_processes_are_warmed_as_will_read_first(
    nodes: int, tasks: int, free_cpus: float, processes: int
) -> None:
    assert stream._processes_to_warm(nodes, tasks, free_cpus) == processes


def test_windows_of_a_large_shard_are_each_permuted_and_resumed(
    spec: StreamSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_WINDOW_ROWS", 5)
    whole = rows_of(read_entry(spec, 0, set()))
    assert sorted(row.row for row in whole) == USABLE
    assert [row.row // 5 for row in whole] == sorted(row.row // 5 for row in whole)
    assert whole[-1].row_count == ROWS
    rest = rows_of(read_entry(spec, 0, {whole[0].row, whole[3].row}))
    assert [content(row) for row in rest] == [content(row) for row in (*whole[1:3], *whole[4:])]


def test_a_window_holds_no_more_bytes_than_it_may(spec: StreamSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_WINDOW_BYTES", 1)
    assert [row.row for row in rows_of(read_entry(spec, 0, set()))] == USABLE


def test_one_window_at_a_time_is_in_memory(spec: StreamSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window_bytes, image_bytes = 2**22, 2**17
    monkeypatch.setattr(stream, "_WINDOW_BYTES", window_bytes)
    contents = {"txt": b"a caption", "jpg": bytes(image_bytes)}
    members = [(f"{row}.{kind}", content) for row in range(100) for kind, content in contents.items()]
    data = DataConfig(path=str(write_tar(tmp_path / "large.tar", members)))
    large = replace(spec, data=data, shards=tuple(list_shards(data)))
    assert list(read_entry(large, 0, set())) == []
    tracemalloc.start()
    try:
        list(read_entry(large, 0, set()))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert window_bytes < peak_bytes < 1.5 * window_bytes


def test_an_entry_without_a_usable_row_gives_nothing(spec: StreamSpec, tmp_path: Path) -> None:
    data = DataConfig(path=str(write_tar(tmp_path / "bad.tar", [("a.txt", b"caption")])))
    bad = replace(spec, data=data, shards=tuple(list_shards(data)))
    assert list(read_entry(bad, 0, set())) == []
