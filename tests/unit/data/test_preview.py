"""A dataset without captions or images is refused before work starts, and the message names its content."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import preview
from laclip_ray.data.preview import check_first_rows
from laclip_ray.data.records import Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from tests.cases import case
from tests.unit.conftest import write_tar

SECTION = "Reading data"


def refused(data: DataConfig, needs_images: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        check_first_rows(data, list_shards(data), needs_images)
    return str(caught.value)


def accepted(data: DataConfig, needs_images: bool = False) -> None:
    check_first_rows(data, list_shards(data), needs_images)


@case(SECTION, "a tar without captions", "refused; the message names its members and json keys", exit_code=2)
def test_a_tar_without_captions_is_refused(tmp_path: Path) -> None:
    fields = json.dumps({"text": "a cat", "url": "u"}).encode()
    write_tar(tmp_path / "0.tar", [("a.jpg", b"i"), ("a.json", fields), ("b.jpg", b"i")])
    message = refused(DataConfig(path=str(tmp_path)))
    assert message.startswith("data: none of the first 2 rows has a caption (2 caption_missing); ")
    assert "0.tar has members with the extensions jpg, json; the first json has the keys text, url. " in message
    assert "the field of a json member that data.caption_column names ('caption')" in message
    accepted(DataConfig(path=str(tmp_path), caption_column="text"))


@case(SECTION, "a tar without images, for training", "refused; the message names its members", exit_code=2)
def test_a_tar_without_images_is_refused_only_where_images_are_needed(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.input.jpg", b"i"), ("a.output.jpg", b"i"), ("a.txt", b"a cat")])
    data = DataConfig(path=str(tmp_path))
    accepted(data)
    message = refused(data, needs_images=True)
    assert "none of the first 1 rows with a caption has an image (1 image_missing)" in message
    assert "extensions input.jpg, output.jpg, txt" in message
    assert "one of the extensions jpg, jpeg, png" in message


@case(
    SECTION, "a tar with all images first, then all captions", "refused for training: they must alternate", exit_code=2
)
def test_a_tar_with_images_and_captions_apart_is_refused(tmp_path: Path) -> None:
    members = [(f"{row:03}.{kind}", b"x") for kind in ("jpg", "txt") for row in range(300)]
    write_tar(tmp_path / "0.tar", members)
    assert "the members of a sample must follow one another" in refused(DataConfig(path=str(tmp_path)), True)


def test_a_caption_and_an_image_must_be_in_one_row(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.jpg", b"i"), ("b.txt", b"a cat")])
    refused(DataConfig(path=str(tmp_path)), needs_images=True)


@case(SECTION, "HTML pages named .tar", "refused", exit_code=2)
def test_large_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.tar").write_bytes(b"<!DOCTYPE html>" + b"x" * 9_000)
    message = refused(DataConfig(path=str(tmp_path)))
    assert message.startswith("data.path: the shards that were looked at hold no samples: ")
    assert "0.tar is not a tar, but an HTML page" in message


@case(SECTION, "empty tars", "refused", exit_code=2)
def test_empty_tars_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [])
    assert "hold no samples" in refused(DataConfig(path=str(tmp_path)))


def test_a_usable_row_of_any_shard_is_enough(tmp_path: Path) -> None:
    for number in range(8):
        write_tar(tmp_path / f"{number}.tar", [(f"{number}.jpg", b"i")])
    data = DataConfig(path=str(tmp_path))
    refused(data)
    write_tar(tmp_path / "5.tar", [("a.jpg", b"i"), ("b.txt", b"a cat")])
    accepted(data)


@pytest.mark.parametrize(
    "values",
    [pa.array([None, None], pa.string()), pa.array(["", "  "]), pa.array([[], [None]], pa.list_(pa.string()))],
)
@case(SECTION, "a caption column of nulls, blanks or empty lists", "refused; columns and types are named", exit_code=2)
def test_a_parquet_file_without_captions_is_refused(values: pa.Array, tmp_path: Path) -> None:
    storage.write_parquet(str(tmp_path / "0.parquet"), pa.table({"caption": values, "TEXT": ["one", "two"]}))
    message = refused(DataConfig(path=str(tmp_path)))
    assert "TEXT (string)" in message
    assert "Set data.caption_column to the column of the captions; it is 'caption'" in message
    accepted(DataConfig(path=str(tmp_path), caption_column="TEXT"))


def test_a_text_table_without_captions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("caption,title\n,one\n,two\n", encoding="utf-8")
    assert "has the columns caption, title" in refused(DataConfig(path=str(tmp_path)))
    (tmp_path / "0.csv").unlink()
    (tmp_path / "0.jsonl").write_text('{"caption": "", "title": "one"}\n', encoding="utf-8")
    assert "has the keys caption, title" in refused(DataConfig(path=str(tmp_path)))


@case(SECTION, "a table whose image paths name no files, for training", "refused: data.image_root", exit_code=2)
def test_a_table_with_wrong_image_paths_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("caption,file\none,x/1.png\ntwo,x/2.png\n", encoding="utf-8")
    data = DataConfig(path=str(tmp_path), image_column="file")
    accepted(data)
    message = refused(data, needs_images=True)
    assert "image_missing" in message
    assert "data.image_root for relative paths" in message
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "2.png").write_bytes(b"i")
    accepted(data, needs_images=True)


def test_images_on_other_hosts_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.csv").write_text("caption,file\none,https://host/1.png\n", encoding="utf-8")

    def without_images(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
        assert not with_images
        return read_samples(shard, data, with_images)

    monkeypatch.setattr(preview, "read_samples", without_images)
    accepted(DataConfig(path=str(tmp_path), image_column="file"), needs_images=True)


@case(SECTION, "a store that refuses access while planning", "its own error, never 'no captions'", exit_code=4)
def test_errors_of_the_store_are_not_refused_as_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "0.tar", [("a.jpg", b"i"), ("a.txt", b"a cat")])
    write_tar(tmp_path / "1.tar", [("b.jpg", b"i"), ("b.txt", b"a cat")])
    data = DataConfig(path=str(tmp_path))
    shards = list_shards(data)
    refuses = {"0.tar", "1.tar"}

    def refuse(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
        if shard.name in refuses:
            raise PermissionError("403 Forbidden")
        return read_samples(shard, data, with_images)

    monkeypatch.setattr(preview, "read_samples", refuse)
    with pytest.raises(PermissionError, match="403 Forbidden"):
        check_first_rows(data, shards, needs_images=False)
    refuses.remove("1.tar")
    check_first_rows(data, shards, needs_images=False)


def test_a_good_dataset_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", [(f"{row}.{kind}", b"x") for row in range(50) for kind in ("jpg", "txt")])
    rows: list[Sample] = []

    def record(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
        for sample in read_samples(shard, data, with_images):
            rows.append(sample)
            yield sample

    monkeypatch.setattr(preview, "read_samples", record)
    accepted(DataConfig(path=str(tmp_path)), needs_images=True)
    assert len(rows) == 1


def test_no_shards_are_nothing_to_check() -> None:
    check_first_rows(DataConfig(path="none"), [], needs_images=True)
