"""A task reads every usable row of an entry once, reports every skipped row once, and resumes exactly."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from laclip_ray.config import DataConfig
from laclip_ray.data import entries
from laclip_ray.data.entries import ReadEntries, StreamSpec, TextSupply, read_entry
from laclip_ray.data.images import decode_and_crop
from laclip_ray.data.records import hash_caption
from laclip_ray.data.schedule import Lanes, Position, Schedule
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.text_choice import ShownText
from laclip_ray.data.tokens import load_clip_tokenizer
from tests.cases import case
from tests.unit.conftest import SMALL, encode, picture, smooth_pixels, write_tar
from tests.unit.data.conftest import ROWS, SKIPPED, TOKENIZER, USABLE, Lookup, content, policy, rows_of


def test_every_usable_row_is_read_once(spec: StreamSpec) -> None:
    assert sorted(row.row for row in rows_of(read_entry(spec, 0, set()))) == USABLE


def test_every_skipped_row_is_reported_once_with_its_id_and_reason(spec: StreamSpec) -> None:
    for index in range(3):
        reported = [skipped for row in rows_of(read_entry(spec, index, set())) for skipped in row.skipped]
        assert sorted(reported) == [(row, f"k{row}", reason) for row, reason in sorted(SKIPPED.items())]


def test_the_row_count_comes_with_the_last_row_only(spec: StreamSpec) -> None:
    assert [row.row_count for row in rows_of(read_entry(spec, 0, set()))] == [-1] * (len(USABLE) - 1) + [ROWS]


def test_rows_come_in_blocks_of_the_configured_size_with_the_documented_columns(spec: StreamSpec) -> None:
    blocks = list(read_entry(spec, 1, set()))
    assert [len(block["row"]) for block in blocks] == [3, 3, 2]
    for block in blocks:
        count = len(block["row"])
        assert {name: (column.dtype.name, column.shape) for name, column in block.items()} == {
            "image": ("uint8", (count, 16, 16, 3)),
            "tokens": ("int64", (count, 1, 16)),
            "text_count": ("int16", (count,)),
            "text_sampled": ("int16", (count,)),
            "shown_text": ("int8", (count,)),
            "requested_p": ("float32", (count,)),
            "id": ("object", (count,)),
            "schedule_index": ("int64", (count,)),
            "row": ("int32", (count,)),
            "row_count": ("int32", (count,)),
            "skipped": ("object", (count,)),
        }
        assert block["schedule_index"].tolist() == [1] * count


def test_a_row_holds_the_crop_and_the_text_that_the_pure_functions_give(spec: StreamSpec) -> None:
    assert spec.rewrites is not None
    accepted = spec.rewrites.rewrites("0.tar")
    assert accepted is not None
    samples = {sample.row: sample for sample in read_samples(spec.shards[0], spec.data, with_images=True)}
    shown = set()
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
            shown.add(choice.shown)
    assert {ShownText.CAPTION, ShownText.REWRITE, ShownText.NO_ACCEPTED_REWRITE} <= shown


def test_the_caption_is_shown_without_rewrites_or_after_an_edit(spec: StreamSpec) -> None:
    without_rewrites = replace(spec, rewrites=None, text=policy(0.0))
    assert {row.shown for row in rows_of(read_entry(without_rewrites, 0, set()))} == {ShownText.CAPTION}
    not_rewritten = replace(spec, rewrites=Lookup({}), text=policy(1.0))
    assert {row.shown for row in rows_of(read_entry(not_rewritten, 0, set()))} == {ShownText.NOT_REWRITTEN}
    edited = replace(spec, rewrites=Lookup({"0.tar": {("k0", hash_caption("other")): ["stale"]}}), text=policy(1.0))
    assert {row.shown for row in rows_of(read_entry(edited, 0, set()))} == {ShownText.NOT_REWRITTEN}


def test_epochs_differ_in_order_and_in_crops(spec: StreamSpec) -> None:
    epochs = [rows_of(read_entry(spec, index, set())) for index in range(3)]
    assert len({tuple(row.row for row in rows) for rows in epochs}) == 3
    assert len({row.image for rows in epochs for row in rows if row.row == 0}) == 3


def test_reading_again_gives_the_same_rows_in_the_same_order(spec: StreamSpec) -> None:
    assert rows_of(read_entry(spec, 0, set())) == rows_of(read_entry(spec, 0, set()))


@pytest.mark.parametrize("length", [1, 2])
def test_a_task_reads_its_lane_without_the_consumed_rows(spec: StreamSpec, length: int) -> None:
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


def test_a_task_reports_each_entry_to_the_supply_before_reading_it(spec: StreamSpec) -> None:
    reported: list[int] = []
    supply = SimpleNamespace(record_read=reported.append)
    remaining = Position(done_below=1).remaining(spec.schedule)
    for _ in ReadEntries(spec, remaining, Lanes(2, 1), {}, cast(TextSupply, supply))({"id": np.array([1])}):
        assert reported == [2]
    assert reported == [2]


def test_each_window_of_a_large_shard_is_permuted_and_resumed(
    spec: StreamSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MAX_WINDOW_ROWS", 5)
    whole = rows_of(read_entry(spec, 0, set()))
    assert sorted(row.row for row in whole) == USABLE
    assert [row.row // 5 for row in whole] == sorted(row.row // 5 for row in whole)
    assert whole[-1].row_count == ROWS
    rest = rows_of(read_entry(spec, 0, {whole[0].row, whole[3].row}))
    assert [content(row) for row in rest] == [content(row) for row in (*whole[1:3], *whole[4:])]


def test_a_window_is_bounded_in_bytes(spec: StreamSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_WINDOW_BYTES", 1)
    assert [row.row for row in rows_of(read_entry(spec, 0, set()))] == USABLE


def test_only_one_window_is_in_memory(spec: StreamSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window_bytes, image_bytes = 2**22, 2**17
    monkeypatch.setattr(entries, "MAX_WINDOW_BYTES", window_bytes)
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


def test_an_entry_without_a_usable_row_yields_no_block(spec: StreamSpec, tmp_path: Path) -> None:
    data = DataConfig(path=str(write_tar(tmp_path / "bad.tar", [("a.txt", b"caption")])))
    bad = replace(spec, data=data, shards=tuple(list_shards(data)))
    assert list(read_entry(bad, 0, set())) == []


@case(
    "Reading data",
    "a file named .tar and no tar, while training",
    "the others are trained on",
    counted_as="shard_unreadable",
)
def test_an_unreadable_shard_yields_no_block(spec: StreamSpec, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"<html>" + bytes(9_000))
    write_tar(tmp_path / "1.tar", [("a.txt", b"caption"), ("a.jpg", picture("JPEG"))])
    data = DataConfig(path=str(tmp_path))
    schedule = Schedule(2, epochs=1, seed=0)
    bad = replace(spec, data=data, shards=tuple(list_shards(data)), schedule=schedule)
    blocks = {schedule.entry(index).shard: list(read_entry(bad, index, set())) for index in (0, 1)}
    assert not blocks[0]
    assert [block["id"].tolist() for block in blocks[1]] == [["a"]]


@case(
    "Reading data",
    "a shard with pictures that are missing, refused, too large or of a format that is not opened, among good ones",
    "training uses the good ones; each other row is counted and named by its own reason",
    counted_as="image_outside_root",
)
def test_each_unusable_picture_is_skipped_by_its_own_reason(spec: StreamSpec, tmp_path: Path) -> None:
    files = {
        "good.png": picture(),
        "large.png": picture(width=60),
        "eps.jpg": b"%!PS-Adobe-3.0",
        "cut.png": picture()[:60],
    }
    for name, image in files.items():
        (tmp_path / name).write_bytes(image)
    names = [*files, "../outside.png", "ftp://host/x.png", "none.png"]
    rows = [{"caption": "a caption", "image": name} for name in names]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.jsonl"), image_column="image", max_pixels=600)
    table = replace(spec, data=data, shards=tuple(list_shards(data)), schedule=Schedule(1, 1, 0))
    read = rows_of(read_entry(table, 0, set()))
    assert [row.row for row in read] == [0]
    assert {name: reason for _, name, reason in read[0].skipped} == {
        "large.png": "image_too_large",
        "eps.jpg": "image_format_refused",
        "cut.png": "image_unreadable",
        "../outside.png": "image_outside_root",
        "ftp://host/x.png": "image_scheme_refused",
        "none.png": "image_missing",
    }


def test_the_limits_and_the_orientation_are_those_of_the_config(spec: StreamSpec, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.fromarray(smooth_pixels(48, 32)), "JPEG", exif=exif)
    path = write_tar(tmp_path / "a.tar", [("a.jpg", turned), ("a.txt", b"a caption")])
    crops = []
    for exif_setting in (True, False):
        data = DataConfig(path=str(path), exif=exif_setting)
        one = replace(spec, data=data, shards=tuple(list_shards(data)), schedule=Schedule(1, 1, 0))
        (row,) = rows_of(read_entry(one, 0, set()))
        crops.append(row.image)
        scale = one.stream.crop_scale
        expected = decode_and_crop(turned, SMALL, scale, one.seed, 0, "a", exif=exif_setting)
        assert row.image == expected.tobytes()
    assert crops[0] != crops[1]
