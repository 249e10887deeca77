"""Ranges of a Parquet file give every row once."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import parquet, records
from laclip_ray.data.records import Sample, hash_caption
from laclip_ray.data.shards import list_shards, read_samples
from tests.cases import case
from tests.unit.data.files import captions, ids, read, refused, write_parquet


def test_parquet_gives_image_bytes_captions_and_the_url_as_id(tmp_path: Path) -> None:
    data = write_parquet(
        tmp_path / "a.parquet", {"image": [b"x", b"y"], "caption": ["one", "two"], "url": ["u1", "u2"]}
    ).model_copy(update={"image_column": "image"})
    assert read(data) == [Sample(0, "u1", "one", b"x"), Sample(1, "u2", "two", b"y")]


def test_parquet_takes_ids_from_a_member_of_a_struct_with_images_and_without(tmp_path: Path) -> None:
    images = [{"bytes": b"x", "path": "1.jpg"}, {"bytes": b"y", "path": None}, None]
    data = write_parquet(tmp_path / "a.parquet", {"image": images, "caption": ["a", "b", "c"]}).model_copy(
        update={"image_column": "image", "id_column": "image.path"}
    )
    samples = read(data)
    assert ids(samples) == ids(read(data, with_images=False)) == ["1.jpg", hash_caption("b"), hash_caption("c")]
    assert [sample.image for sample in samples] == [b"x", b"y", None]
    refused(data.model_copy(update={"id_column": "image.name"}), "no column 'image.name'")


def test_a_column_with_a_dot_in_its_name_is_no_member(tmp_path: Path) -> None:
    columns = {"image": [{"path": "1.jpg"}], "image.path": ["own"], "caption": ["a"]}
    data = write_parquet(tmp_path / "a.parquet", columns).model_copy(update={"id_column": "image.path"})
    assert ids(read(data, with_images=False)) == ["own"]


def test_parquet_reads_hugging_faces_image_feature(tmp_path: Path) -> None:
    (tmp_path / "y.png").write_bytes(b"from the file")
    images = [
        {"bytes": b"x", "path": None},
        {"bytes": None, "path": "y.png"},
        {"bytes": None, "path": None},
        None,
    ]
    data = write_parquet(tmp_path / "a.parquet", {"image": images, "caption": ["a", "b", "c", "d"]}).model_copy(
        update={"image_column": "image"}
    )
    samples = read(data)
    assert [sample.image for sample in samples] == [b"x", b"from the file", None, None]
    assert [sample.problems for sample in samples] == [(), (), (records.IMAGE_MISSING,), (records.IMAGE_MISSING,)]
    assert ids(samples) == [hash_caption(text) for text in "abcd"] == ids(read(data, with_images=False))


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_image_paths_in_parquet_are_ids_with_and_without_images(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"content")
    paths = pa.array(["x.png", "none.png"])
    paths = paths.dictionary_encode() if kind == "dictionary" else paths.cast(kind)
    data = write_parquet(tmp_path / "a.parquet", {"image": paths, "caption": ["a", "b"]}).model_copy(
        update={"image_column": "image"}
    )
    assert [sample.image for sample in read(data)] == [b"content", None]
    assert ids(read(data)) == ids(read(data, with_images=False)) == ["x.png", "none.png"]


@given(rows=st.integers(1, 40), group=st.integers(1, 40), at_most=st.integers(1, 40))
def test_ranges_of_a_parquet_file_give_every_row_once(
    rows: int, group: int, at_most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges.parquet"
    data = write_parquet(path, {"caption": [f"c{n}" for n in range(rows)]}, row_group_size=group).model_copy(
        update={"max_rows_per_shard": at_most}
    )
    shards = list_shards(data)
    parts = [list(read_samples(shard, data, with_images=False)) for shard in shards]
    assert captions(sample for part in parts for sample in part) == [f"c{n}" for n in range(rows)]
    assert all(
        len(part) == shard.row_count and shard.row_count <= at_most for part, shard in zip(parts, shards, strict=True)
    )
    assert all([sample.row for sample in part] == list(range(len(part))) for part in parts)
    assert len({shard.name for shard in shards}) == len(shards)


def test_ranges_need_not_match_the_batches_of_a_row_group(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", {"caption": [f"c{n}" for n in range(5_000)]}).model_copy(
        update={"max_rows_per_shard": 1_500}
    )
    assert captions(read(data)) == [f"c{n}" for n in range(5_000)]


def test_bad_captions_in_parquet_are_rows_with_problems(tmp_path: Path) -> None:
    texts = pa.array([b"caf\xe9", b"good"]).view(pa.string())  # Arrow does not check it
    data = write_parquet(tmp_path / "a.parquet", {"caption": texts, "url": ["u", None]})
    bad, good = read(data, with_images=False)
    assert (bad.id, bad.caption, bad.problems) == ("u", "caf\ufffd", (records.CAPTION_NOT_UTF8,))
    assert (good.id, good.caption, good.problems) == (hash_caption("good"), "good", ())
    data = write_parquet(tmp_path / "b.parquet", {"caption": [None, "", b"bytes"][:2]})
    assert [sample.problems[0] for sample in read(data, False)] == [records.CAPTION_MISSING, records.CAPTION_EMPTY]


WITHOUT_TEXT = {
    "int64": [1, 2],
    "double": [1.5, None],
    "bool": [True, False],
    "null": [None, None],
    "struct<en: string>": [{"en": "a"}, {"en": "b"}],
    "list<element: int64>": [[1], [2]],
    "list<element: struct<raw: string>>": [[{"raw": "a"}], []],
}


@case("Reading data", "a Parquet caption column of type int, struct, null, or list of them", "refused", exit_code=2)
@case("Reading data", "one such file among others", "its rows are left out", "-", "caption_missing")
@pytest.mark.parametrize("arrow_type", WITHOUT_TEXT)
def test_a_column_that_cannot_hold_captions_is_refused_with_its_type(arrow_type: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"caption": WITHOUT_TEXT[arrow_type]})
    message = refused(DataConfig(path=str(tmp_path)))
    assert message == (
        f"data.caption_column: {tmp_path}/a.parquet: column 'caption' has type {arrow_type}; a caption is text, or a "
        "list of texts"
    )
    write_parquet(tmp_path / "b.parquet", {"caption": ["one"]})
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert [sample.problems[:1] for sample in samples] == [(records.CAPTION_MISSING,), (records.CAPTION_MISSING,), ()]


WITH_TEXT = {
    "large_string": pa.array(["one", None], pa.large_string()),
    "binary": pa.array([b"one", None]),
    "dictionary": pa.array(["one", None]).dictionary_encode(),
    "list": pa.array([["one"], None]),
    "large_list of bytes": pa.array([[b"one"], []], pa.large_list(pa.binary())),
    "list of a dictionary": pa.ListArray.from_arrays([0, 1, 1], pa.array(["one"]).dictionary_encode()),
    "fixed list": pa.array([["one"], None], pa.list_(pa.string(), 1)),
}


@case("Reading data", "a Parquet caption column of type list, dictionary or binary", "its captions are read")
@pytest.mark.parametrize("arrow_type", WITH_TEXT)
def test_every_type_that_holds_text_gives_captions(arrow_type: str, tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", {"caption": WITH_TEXT[arrow_type]})
    one, missing = read(data, with_images=False)
    assert (one.caption, one.problems) == ("one", ())
    assert (missing.caption, missing.problems[0]) == ("", records.CAPTION_MISSING)


NOT_UTF8 = pa.array([b"caf\xe9", b"good"]).view(pa.string())  # Arrow does not check it


@case("Reading data", "a byte outside UTF-8 in a dictionary or a list", "its row is read", "-", "caption_not_utf8")
@pytest.mark.parametrize("kind", ["dictionary", "list"])
def test_a_bad_byte_costs_no_row(kind: str, tmp_path: Path) -> None:
    if kind == "dictionary":
        texts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), NOT_UTF8, safe=False)
    else:
        texts = pa.ListArray.from_arrays([0, 1, 2, 2], NOT_UTF8)
    data = write_parquet(tmp_path / "a.parquet", {"caption": texts, "url": ["u0", "u1", "u2"]})
    first, second, third = read(data, with_images=False)
    assert (first.caption, first.problems) == ("caf\ufffd", (records.CAPTION_NOT_UTF8,))
    assert (second.caption, second.problems) == ("good", ())
    assert third.caption == ("caf\ufffd" if kind == "dictionary" else "")
    assert ids([first, second, third]) == ["u0", "u1", "u2"]


@case("Reading data", "ids as bytes", "decoded; in hexadecimal if they are not UTF-8")
@case("Reading data", "whole-number ids that a writer made floats", "read as integers: 7, not 7.0")
def test_ids_of_other_types_become_text(tmp_path: Path) -> None:
    texts = ["a", "b", "c"]
    data = write_parquet(tmp_path / "a.parquet", {"caption": texts, "id": [b"i0", b"\xff\x00", None]})
    data = data.model_copy(update={"id_column": "id"})
    assert ids(read(data, False)) == ["i0", "ff00", hash_caption("c")]
    write_parquet(tmp_path / "a.parquet", {"caption": texts, "id": [7.0, None, 2.0**60]})
    assert ids(read(data, False)) == ["7", hash_caption("b"), str(2.0**60)]
    write_parquet(tmp_path / "a.parquet", {"caption": texts, "id": [7.0, 7.5, float("nan")]})
    assert ids(read(data, False)) == ["7", "7.5", hash_caption("c")]


ROWS = 5_000
GROUP = 2_500


def damaged(path: Path, column: str, share: float) -> DataConfig:
    """A file of two row groups; in the first one, bytes of a column are overwritten from a share of its length on."""
    columns = {
        "caption": [f"caption number {number}" for number in range(ROWS)],
        "id": [f"id {number}" for number in range(ROWS)],
        "image": [b"picture %d" % number for number in range(ROWS)],
    }
    pq.write_table(
        pa.table(columns),
        path,
        row_group_size=GROUP,
        use_dictionary=False,
        data_page_size=4_096,
        write_page_checksum=True,
    )
    content = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column([*columns].index(column))
    start = chunk.data_page_offset + int(chunk.total_compressed_size * share)
    content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    return DataConfig(path=str(path), id_column="id", image_column="image", max_rows_per_shard=2_000)


@case("Reading data", "a damaged page or row group of a Parquet file", "its rows are left out", "-", "row_unreadable")
@pytest.mark.parametrize("column", ["caption", "id"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_rows_of_a_damaged_page_are_left_out_and_named(column: str, share: float, tmp_path: Path) -> None:
    data = damaged(tmp_path / "a.parquet", column, share)
    samples = read(data)
    assert len(samples) == ROWS
    bad = [number for number, sample in enumerate(samples) if sample.problems == (records.ROW_UNREADABLE,)]
    assert bad == list(range(bad[0], GROUP))
    assert (bad[0] == 0) == (share == 0)
    for number, sample in enumerate(samples):
        if number in {*bad}:
            assert (sample.id, sample.caption, sample.image) == (f"a.parquet#row{number}", "", None)
        else:
            assert (sample.id, sample.caption) == (f"id {number}", f"caption number {number}")
            assert (sample.image, sample.problems) == (b"picture %d" % number, ())
    assert [replace(sample, image=None) for sample in samples] == read(data, with_images=False)


@case("Reading data", "a damaged page of images in a Parquet file", "captions are used", "-", "image_missing")
def test_damaged_images_leave_captions_and_ids(tmp_path: Path) -> None:
    data = damaged(tmp_path / "a.parquet", "image", 0.6)
    samples = read(data)
    without = read(data, with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [(sample.id, sample.caption) for sample in without]
    assert all(sample.problems == () for sample in without)
    missing = [number for number, sample in enumerate(samples) if sample.image is None]
    assert missing == list(range(missing[0], GROUP))
    assert all(samples[number].problems == (records.IMAGE_MISSING,) for number in missing)


class RefusingFile(io.BytesIO):
    """A store that refuses to deliver the rows."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() < 1_000:
            raise PermissionError("access denied")
        return super().read(size)


def test_a_failure_of_the_store_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_parquet(tmp_path / "a.parquet", {"caption": [f"caption {number}" for number in range(1_000)]})
    (shard,) = list_shards(data)
    store = SimpleNamespace(open=lambda path, mode: RefusingFile((tmp_path / "a.parquet").read_bytes()))
    monkeypatch.setattr(storage, "filesystem", lambda url: (store, url))
    with pytest.raises(PermissionError, match="access denied"):
        list(read_samples(shard, data, with_images=False))


@case("Reading data", "a Parquet column that expands to gigabytes", "its rows are left out", "-", "row_unreadable")
def test_a_trap_for_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_LARGE_BYTES", 2**20)
    large = {"caption": ["a cat", "x" * 2**22], "url": ["u0", "u1"]}
    pq.write_table(pa.table(large), tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert [sample.problems for sample in samples] == [(records.ROW_UNREADABLE,)] * 2


def test_images_are_decoded_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 100)
    images = [b"%03d" % number * 10 for number in range(50)]
    data = write_parquet(tmp_path / "a.parquet", {"caption": ["a"] * 50, "image": images}, row_group_size=20)
    data = data.model_copy(update={"image_column": "image", "max_rows_per_shard": 15})
    assert [sample.image for sample in read(data)] == images


NO_PARQUET = {
    "text": (b"text", "it is text that begins with b'text'"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer"),
    "an empty file": (b"", "it is an empty file"),
    "a cut file": (b"PAR1" + bytes(100), "Parquet magic bytes not found in footer"),
}


@case("Reading data", "every Parquet file is unreadable", "refused; the first one is named", exit_code=2)
@case("Reading data", "one unreadable Parquet file of many", "it is a failed shard; the others are read", exit_code=3)
@pytest.mark.parametrize("kind", NO_PARQUET)
def test_an_unreadable_file_is_named_and_the_others_are_read(kind: str, tmp_path: Path) -> None:
    content, named = NO_PARQUET[kind]
    (tmp_path / "a.parquet").write_bytes(content)
    message = refused(DataConfig(path=str(tmp_path)))
    assert message.startswith(f"data.path: {tmp_path}/a.parquet is not readable as Parquet: ")
    assert named in message
    data = write_parquet(tmp_path / "b.parquet", {"caption": ["one"]}).model_copy(update={"path": str(tmp_path)})
    bad, good = list_shards(data)
    assert captions(read_samples(good, data, False)) == ["one"]
    with pytest.raises(records.ShardUnreadableError, match="not readable as Parquet"):
        next(read_samples(bad, data, False))
