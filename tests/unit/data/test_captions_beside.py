"""img2dataset's table gives what the tar gives, with few bytes and requests, or it is refused and the tar is read."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig
from laclip_ray.data import captions_beside, ranged_file, webdataset
from laclip_ray.data.records import Sample, Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.tally import Tally
from tests.cases import case
from tests.unit.data import counted_files
from tests.unit.data.counted_files import bytes_read, make_shard, requests, store

Files = dict[str, bytes]
TAR, TABLE, STATS = "bucket/00000.tar", "bucket/00000.parquet", "bucket/00000_stats.json"
DATA = DataConfig(path="counted://bucket")
SHARD = make_shard(300, 5_000)
FILES = SHARD.files()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tars of any size are worth their tables, and requests are small."""
    monkeypatch.setattr(captions_beside, "_LEAST_TAR_BYTES", 0)
    monkeypatch.setattr(captions_beside, "tables_refused", Tally())
    monkeypatch.setattr(ranged_file, "FIRST_BYTES", 2**16)


def read(files: Mapping[str, bytes], data: DataConfig = DATA, with_images: bool = False) -> list[Sample]:
    store(files)
    return list(read_samples(Shard("00000.tar", f"counted://{TAR}", "webdataset"), data, with_images))


def in_memory(tar: bytes, data: DataConfig = DATA, with_images: bool = True) -> list[Sample]:
    """The samples of a tar that is neither remote nor has a table."""
    fsspec.filesystem("memory").pipe_file("/bucket/00000.tar", tar)
    return list(read_samples(Shard("00000.tar", f"memory://{TAR}", "webdataset"), data, with_images))


def texts(samples: list[Sample]) -> list[Sample]:
    return [replace(sample, image=None) for sample in samples]


def is_taken() -> bool:
    """Whether the last reading took its captions from the table: it left out the middle of the tar."""
    return bytes_read() < len(counted_files.CountedFileSystem.files[TAR]) // 2


def test_captions_come_from_the_table_with_few_bytes_and_requests() -> None:
    samples = read(FILES)
    assert bytes_read() < 0.1 * len(FILES[TAR])
    assert [request.path for request in requests()] == [TAR, TABLE, STATS, TAR]
    assert samples == texts(in_memory(FILES[TAR]))


def test_a_consumer_of_the_first_samples_reads_only_the_start_of_the_tar() -> None:
    store(FILES)
    next(iter(read_samples(Shard("00000.tar", f"counted://{TAR}", "webdataset"), DATA, with_images=False)))
    assert [(request.path, request.size) for request in requests()] == [(TAR, ranged_file.FIRST_BYTES)]


def test_only_the_needed_columns_of_a_large_table_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"first": os.urandom(400).hex(), **row, "last": os.urandom(400).hex()} for row in SHARD.rows]
    shard = replace(SHARD, rows=rows, column_types={})
    monkeypatch.setattr(captions_beside, "_FIRST_TABLE_BYTES", 2_000)
    monkeypatch.setattr(ranged_file, "_FOOTER_BYTES", 8_000)
    monkeypatch.setattr(ranged_file, "HOLE_BYTES", 100)
    files = shard.files()
    assert read(files) == texts(in_memory(files[TAR]))
    of_table = [request for request in requests() if request.path == TABLE]
    assert sum(request.size for request in of_table) < len(files[TABLE]) // 2
    assert len(of_table) < 9


def test_reading_with_images_fetches_each_byte_once() -> None:
    samples = read(FILES, with_images=True)
    assert bytes_read() == len(FILES[TAR])
    assert {request.path for request in requests()} == {TAR}
    assert samples == in_memory(FILES[TAR])


def test_without_a_table_one_request_looks_for_it() -> None:
    assert read({TAR: FILES[TAR]}) == texts(in_memory(FILES[TAR]))
    assert [request.size for request in requests() if request.path != TAR] == [0]
    assert captions_beside.tables_refused.counts == {}


def test_large_images_are_skipped_without_a_table() -> None:
    shard = make_shard(12, 3 * 2**20)
    tar = shard.tar()
    assert read({TAR: tar}) == texts(in_memory(tar))
    assert bytes_read() < 0.1 * len(tar)
    assert len(requests()) <= len(shard.samples) + 1


def test_a_signed_address_names_no_table() -> None:
    assert captions_beside.table_url("https://host/00000.tar?signature=x") is None


def with_rows(change: Callable[[dict[str, Any], int], None]) -> bytes:
    """The table with each row changed, given its number."""
    rows = [dict(row) for row in SHARD.rows]
    for number, row in enumerate(rows):
        change(row, number)
    return replace(SHARD, rows=rows).table()


LAST = max(number for number, row in enumerate(SHARD.rows) if row["status"] == "success")


def drop_last(shard: counted_files.Shard) -> bytes:
    return replace(shard, rows=shard.rows[:LAST]).table()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({TABLE: b"<html>not here</html>"}, "table_unreadable"),
        ({TABLE: FILES[TABLE][:-9]}, "table_unreadable"),
        ({STATS: json.dumps({"successes": 299}).encode()}, "count_differs"),
        ({STATS: b"{}"}, "stats_unreadable"),
        ({TABLE: drop_last(SHARD), STATS: b'{"successes": %d}' % (len(SHARD.samples) - 1)}, "samples_differ"),
        ({TABLE: with_rows(lambda row, number: row.update(caption="new") if number == 1 else None)}, "samples_differ"),
        (
            {TABLE: with_rows(lambda row, number: row.update(caption="new") if number == LAST else None)},
            "samples_differ",
        ),
        ({TABLE: with_rows(lambda row, number: row.update(key=f"x.{number}"))}, "keys_unusual"),
        ({TABLE: with_rows(lambda row, number: row.pop("caption"))}, "column_missing"),
        ({TABLE: with_rows(lambda row, number: row.update(key=number))}, "column_type"),
        ({TAR: FILES[TAR][: len(FILES[TAR]) * 2 // 3]}, "tar_end_differs"),
        ({TAR: FILES[TAR][: len(FILES[TAR]) // 2] + bytes(len(FILES[TAR]) // 2)}, "tar_end_differs"),
        ({TAR: counted_files.make_shard(300, 5_000, seed=1).tar()}, "samples_differ"),
    ],
)
@case(
    "Reading data",
    "img2dataset's table beside a tar differs from it, or cannot be read",
    "the tar is read; the reason is logged and counted by shards",
)
def test_a_table_that_differs_from_its_tar_is_refused(changed: Files, reason: str) -> None:
    files = {**FILES, **changed}
    assert read(files) == texts(in_memory(files[TAR]))
    assert captions_beside.tables_refused.counts == {reason: 1}
    assert not is_taken()


def test_a_refusal_is_logged_once_for_many_shards(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            read({**FILES, STATS: b"{}"})
    (record,) = caplog.records
    assert "00000.parquet: 00000_stats.json cannot be read" in record.getMessage()
    assert captions_beside.tables_refused.counts["stats_unreadable"] == 9


def test_a_table_that_the_store_refuses_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> bytes:
        raise PermissionError("403")

    monkeypatch.setattr(counted_files.CountedFileSystem, "cat_file", refuse)
    assert read(FILES) == texts(in_memory(FILES[TAR]))
    assert captions_beside.tables_refused.counts == {}


def test_an_error_of_the_store_leaves_the_tar(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("503")

    monkeypatch.setattr(counted_files.CountedFileSystem, "cat_file", fail)
    assert read(FILES) == texts(in_memory(FILES[TAR]))
    assert captions_beside.tables_refused.counts == {"table_unreadable": 1}


def test_images_that_may_be_too_large_leave_the_tar() -> None:
    data = DATA.model_copy(update={"max_image_bytes": 7_000})
    samples = read(FILES, data)
    assert samples == texts(in_memory(FILES[TAR], data))
    assert any(sample.problems for sample in samples)
    assert not is_taken()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (lambda number: number, pa.int64()),
        (lambda number: number / 7, pa.float32()),
        (lambda number: None if number % 3 else number / 7, pa.float64()),
        (lambda number: number % 2 == 0, pa.bool_()),
        (lambda number: f"n{number}", pa.dictionary(pa.int32(), pa.string())),
        (lambda number: None, pa.null()),
    ],
)
def test_ids_of_any_type_that_json_keeps_come_from_the_table(values: Callable[[int], Any], kind: pa.DataType) -> None:
    # As img2dataset does: the json has what the input's column gives.
    column = pa.array([values(number) for number in range(len(SHARD.rows))], kind).to_pylist()
    rows = [{**row, "number": value} for row, value in zip(SHARD.rows, column, strict=True)]
    files = replace(SHARD, rows=rows, column_types={"number": kind}).files()
    data = DATA.model_copy(update={"id_column": "number"})
    assert read(files, data) == texts(in_memory(files[TAR], data))
    assert is_taken()


def test_the_tar_is_read_for_a_field_that_the_table_lacks() -> None:
    rows = [{**row, "number": number} for number, row in enumerate(SHARD.rows)]
    files = {**FILES, TAR: replace(SHARD, rows=rows).tar()}
    data = DATA.model_copy(update={"id_column": "number"})
    assert read(files, data) == texts(in_memory(files[TAR], data))
    assert captions_beside.tables_refused.counts == {"column_missing": 1}


captions = st.none() | st.text(max_size=12) | st.sampled_from(["", " ", "a\nb\n", "\ufeffmarked", "caf\u00e9", "\x00"])
caption_lists = st.none() | st.lists(st.none() | st.text(max_size=6), max_size=3)


@st.composite
def shards(draw: st.DrawFn) -> counted_files.Shard:
    """Shards of up to 30 rows, with every layout that img2dataset writes."""
    count = draw(st.integers(1, 30))
    many = st.lists
    successes = draw(many(st.booleans(), min_size=count, max_size=count))
    one = draw(many(captions, min_size=count, max_size=count))
    several = draw(many(caption_lists, min_size=count, max_size=count))
    numbers = draw(many(st.none() | st.integers(0, 9), min_size=count, max_size=count))
    rows: list[dict[str, Any]] = [
        {
            "key": f"{number:05d}",
            "status": "success" if successes[number] else "failed_to_download",
            "caption": one[number],
            "several": several[number],
            "number": numbers[number],
        }
        for number in range(count)
    ]
    sizes = draw(many(st.integers(0, 3_000), min_size=count, max_size=count))
    return counted_files.Shard(
        rows=rows,
        images={row["key"]: bytes([number]) * sizes[number] for number, row in enumerate(rows)},
        extension=draw(st.sampled_from(["jpg", "png", "webp"])),
        has_txt=draw(st.booleans()),
        column_types={"caption": pa.string(), "several": pa.list_(pa.string()), "number": pa.int64()},
    )


readings = st.builds(
    DataConfig,
    path=st.just("counted://bucket"),
    caption_column=st.sampled_from(["caption", "several", "none"]),
    id_column=st.sampled_from([None, "number", "key", "none"]),
    captions=st.sampled_from(["first", "all"]),
    max_image_bytes=st.sampled_from([2_000, 2**26]),
)


def compare(files: Files, data: DataConfig) -> None:
    """All ways of reading give the same rows, ids, captions and problems, with requests of some hundred bytes."""
    expected = in_memory(files[TAR], data)
    assert texts(in_memory(files[TAR], data, with_images=False)) == texts(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webdataset, "_FIRST_SAMPLES", 2)
        patch.setattr(ranged_file, "FIRST_BYTES", 700)
        patch.setattr(ranged_file, "HOLE_BYTES", 1_200)
        patch.setattr(ranged_file, "_AFTER_HOLE_BYTES", 600)
        assert read(files, data, with_images=True) == expected
        assert read(files, data) == texts(expected)


@given(shard=shards(), data=readings)
def test_all_ways_of_reading_give_the_same_rows_of_a_whole_tar(shard: counted_files.Shard, data: DataConfig) -> None:
    compare({TAR: shard.tar()}, data)
    captions_beside.tables_refused = Tally()
    compare(shard.files(), data)
    needed = {data.id_column, "caption" if shard.has_txt else data.caption_column}
    if len(shard.samples) > 8 and "none" not in needed and data.max_image_bytes > 2**20:
        assert TABLE in {request.path for request in requests()}
        assert captions_beside.tables_refused.counts == {}


@given(shard=shards(), data=readings, cut=st.floats(0.01, 0.999))
def test_all_ways_of_reading_give_the_same_rows_of_a_truncated_tar(
    shard: counted_files.Shard, data: DataConfig, cut: float
) -> None:
    files = shard.files()
    compare({**files, TAR: files[TAR][: max(int(cut * len(files[TAR])), 512)]}, data)


@given(shard=shards(), data=readings, place=st.floats(0.05, 0.999), change=st.binary(min_size=1, max_size=700))
def test_all_ways_of_reading_give_the_same_rows_of_a_damaged_tar_without_a_table(
    shard: counted_files.Shard, data: DataConfig, place: float, change: bytes
) -> None:
    tar = bytearray(shard.tar())
    start = max(int(place * len(tar)), 512)
    tar[start : start + len(change)] = change
    compare({TAR: bytes(tar)}, data)
