"""Ranges of a Parquet file give every row once."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.records import Sample, hash_caption
from laclip_ray.data.shards import list_shards, read_samples
from tests.unit.data.files import captions, ids, read, refused, write_parquet


def test_parquet_gives_image_bytes_captions_and_the_url_as_id(tmp_path: Path) -> None:
    data = write_parquet(
        tmp_path / "a.parquet", {"image": [b"x", b"y"], "caption": ["one", "two"], "url": ["u1", "u2"]}
    ).model_copy(update={"image_column": "image"})
    assert read(data) == [Sample(0, "u1", "one", b"x"), Sample(1, "u2", "two", b"y")]


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


def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"text")
    assert "a.parquet is not readable as Parquet" in refused(DataConfig(path=str(tmp_path)))
