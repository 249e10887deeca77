"""Shards have stable names, and every format gives the same samples."""

import gzip
import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.shards import list_dataset, list_shards, read_or_report, read_samples
from tests.cases import case
from tests.unit.conftest import picture, tar_bytes, write_tar
from tests.unit.data.files import captions, ids, read, refused, touch, write_parquet

SECTION = "Reading data"


@given(urls=st.lists(st.sampled_from(["a", "a#2", "a#3", "b", "a#2#2"]), min_size=1, max_size=8))
def test_ids_are_unique_in_a_shard_and_repeats_are_noted(
    urls: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ids.jsonl"
    path.write_text("".join(json.dumps({"caption": "x", "url": url}) + "\n" for url in urls), encoding="utf-8")
    samples = read(DataConfig(path=str(path)), with_images=False)
    assert len(set(ids(samples))) == len(urls)
    for sample, url in zip(samples, urls, strict=True):
        assert (records.DUPLICATE_ID in sample.problems) == (sample.id != url)


def test_reading_without_images_gives_the_same_ids_and_captions(tmp_path: Path) -> None:
    parts = (("jpg", picture("JPEG")), ("txt", b"caption"))
    write_tar(tmp_path / "wds" / "0.tar", [(f"{n}.{part}", content) for n in (1, 1, 2) for part, content in parts])
    write_parquet(tmp_path / "parquet" / "a.parquet", {"image": [b"x", b"y"], "caption": ["a", "a"], "url": ["u", "u"]})
    storage.write_bytes(str(tmp_path / "csv" / "a.csv"), b"image,caption\nx.png,one\nx.png,two\n")
    for name, column in (("wds", None), ("parquet", "image"), ("csv", "image")):
        data = DataConfig(path=str(tmp_path / name), image_column=column)
        with_images, without = read(data), read(data, with_images=False)
        assert [(sample.row, sample.id, sample.caption) for sample in with_images] == [
            (sample.row, sample.id, sample.caption) for sample in without
        ]
        assert all(sample.image is None for sample in without)
        assert any(records.DUPLICATE_ID in sample.problems for sample in with_images)


def test_every_format_is_read_from_an_object_store() -> None:
    root = f"memory://unit-{uuid.uuid4().hex}"
    storage.write_bytes(f"{root}/wds/0.tar", tar_bytes([("a.jpg", b"i"), ("a.txt", b"one")]))
    storage.write_parquet(f"{root}/parquet/a.parquet", pa.table({"image": [b"i"], "caption": ["one"]}))
    storage.write_bytes(f"{root}/csv/a.csv", b"image,caption\nx.png,one\n")
    storage.write_bytes(f"{root}/csv/x.png", b"i")
    for name, column in (("wds", None), ("parquet", "image"), ("csv", "image")):
        (sample,) = read(DataConfig(path=f"{root}/{name}", image_column=column))
        assert (sample.caption, sample.image, sample.problems) == ("one", b"i", ())


def test_shards_are_named_by_their_path_below_the_root(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/0.tar", "train/1.tar", "val/0.tar")
    assert [shard.name for shard in list_shards(DataConfig(path=root))] == ["train/0.tar", "train/1.tar", "val/0.tar"]
    names = [shard.name for shard in list_shards(DataConfig(path=f"{root}/*/*.tar"))]
    assert names == ["train/0.tar", "train/1.tar", "val/0.tar"]
    assert [shard.name for shard in list_shards(DataConfig(path=f"{root}/val/0.tar"))] == ["0.tar"]


@pytest.mark.parametrize("pattern", ["", "/*/*.tar", "/**/*.tar"])
@pytest.mark.parametrize("memory", [False, True])
def test_a_shards_name_does_not_depend_on_other_files(pattern: str, memory: bool, tmp_path: Path) -> None:
    root = f"memory://unit-{uuid.uuid4().hex}/set" if memory else str(tmp_path / "set")
    content = tar_bytes([("a.jpg", b"i"), ("a.txt", b"one")])
    storage.write_bytes(f"{root}/sub/0.tar", content)
    (before,) = list_shards(DataConfig(path=f"{root}{pattern}"))
    storage.write_bytes(f"{root}/other/0.tar", content)
    after = {shard.url: shard.name for shard in list_shards(DataConfig(path=f"{root}{pattern}"))}
    assert after[before.url] == before.name == "sub/0.tar"
    assert len(set(after.values())) == 2


@case(SECTION, "two roots with equal shard names", "read together, under names with their roots")
def test_two_roots_with_equal_names_are_read_together(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.tar", "b/0.tar", "b/1.tar")
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [shard.name for shard in list_shards(DataConfig(path=paths))] == ["a/0.tar", "b/0.tar", "b/1.tar"]
    assert len(read(DataConfig(path=paths))) == 3
    assert [shard.name for shard in list_shards(DataConfig(path=paths[0]))] == ["0.tar"]


def test_a_file_listed_twice_is_one_shard(tmp_path: Path) -> None:
    root = touch(tmp_path, "0.tar", "1.tar")
    paths = [root, f"{root}/*.tar", f"{root}/0.tar"]
    assert [shard.name for shard in list_shards(DataConfig(path=paths))] == ["0.tar", "1.tar"]


def test_a_missing_path_is_refused_with_its_setting(tmp_path: Path) -> None:
    data = DataConfig(path=str(tmp_path / "none"))
    assert refused(data, "evaluate.retrieval[0].data").startswith("evaluate.retrieval[0].data.path: ")
    assert "does not exist" in refused(data)
    assert "matches no file" in refused(DataConfig(path=str(tmp_path / "*.tar")))
    assert "an empty list" in refused(DataConfig(path=[]))


def test_a_nested_file_that_is_named_too_is_one_shard(tmp_path: Path) -> None:
    root = touch(tmp_path, "sub/0.tar", "1.tar")
    paths = [root, f"{root}/sub", f"{root}/sub/0.tar", f"{root}/{{1,sub/0}}.tar"]
    listing = list_dataset(DataConfig(path=paths))
    assert [shard.name for shard in listing.shards] == ["1.tar", "sub/0.tar"]
    assert listing.left_out.counts == {"given_twice": 4}


def test_a_directory_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert "holds no shards" in refused(DataConfig(path=str(tmp_path)))


def test_an_unknown_extension_is_refused_until_the_format_is_set(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("caption\none\n", encoding="utf-8")
    path = str(tmp_path / "data.txt")
    assert "cannot tell the format" in refused(DataConfig(path=path))
    assert captions(read(DataConfig(path=path, format="csv"), with_images=False)) == ["one"]
    assert captions(read(DataConfig(path=str(tmp_path), format="csv"), with_images=False)) == ["one"]


@case(SECTION, "an img2dataset folder with format: auto", "the tars are read, and the files left out are logged")
def test_an_img2dataset_folder_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="laclip_ray")
    root = touch(tmp_path, "0.tar")
    write_parquet(tmp_path / "0.parquet", {"caption": ["of the table"]})
    (tmp_path / "0_stats.json").write_text("{}", encoding="utf-8")
    assert captions(read(DataConfig(path=root))) == ["one"]
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert (
        "1 .parquet beside a tar of the same name (0.parquet); 1 .json with img2dataset's counts" in record.getMessage()
    )
    assert captions(read(DataConfig(path=root, format="webdataset"))) == ["one"]
    assert captions(read(DataConfig(path=root, format="parquet"))) == ["of the table"]


def test_identities_from_a_listing_are_those_of_single_files(tmp_path: Path) -> None:
    for root in (str(tmp_path), f"memory://unit-{uuid.uuid4().hex}"):
        storage.write_bytes(f"{root}/a/0.tar", tar_bytes([("a.jpg", b"i")]))
        for path in (root, f"{root}/a/*.tar", f"{root}/a/0.tar"):
            (shard,) = list_shards(DataConfig(path=path))
            assert shard.file_identity == storage.identity(f"{root}/a/0.tar")


def test_a_linked_file_has_the_identity_of_its_target(tmp_path: Path) -> None:
    target = write_tar(tmp_path / "blobs" / "x", [("a.jpg", b"i")])
    os.utime(target, (1, 1))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.tar").symlink_to(target)
    (shard,) = list_shards(DataConfig(path=str(tmp_path / "data")))
    assert shard.file_identity == storage.identity(str(target)) == storage.identity(str(tmp_path / "data" / "0.tar"))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.mark.parametrize(
    ("content", "kind"), [(POINTER, "a Git LFS pointer"), (b"<html>", "an HTML page"), (b"", "an empty file")]
)
@case(SECTION, "a Git LFS pointer, HTML page or empty file named .tar", "refused, if there is no tar", exit_code=2)
@case(SECTION, "such a file among tars", "only its shard fails", exit_code=3, counted_as="shard_unreadable")
def test_a_tar_that_is_none_costs_only_itself(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    data = DataConfig(path=str(tmp_path))
    assert f"0.tar is not a tar, but {kind}" in refused(data)
    touch(tmp_path, "1.tar")
    bad, good = list_shards(data)
    assert kind in bad.defect
    assert not good.defect
    with pytest.raises(records.ShardUnreadableError, match=kind):
        list(read_samples(bad, data, with_images=False))
    (sample,) = read_or_report(bad, data, with_images=False)
    assert sample.problems == (records.SHARD_UNREADABLE,)
    assert captions(read_or_report(good, data, with_images=True)) == ["one"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "vanished")])
@case(SECTION, "one file of many that may not be read, or vanished", "only this shard fails; it is named", exit_code=3)
def test_a_file_that_cannot_be_opened_costs_only_itself(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0.parquet", "1.parquet"):
        write_parquet(tmp_path / name, {"caption": [name]})
    opened = LocalFileSystem.open

    def refuse(self: LocalFileSystem, path: str, *args: Any, **options: Any) -> Any:
        if path.endswith(refused_ending):
            raise error
        return opened(self, path, *args, **options)

    monkeypatch.setattr(LocalFileSystem, "open", refuse)
    refused_ending = "0.parquet"
    data = DataConfig(path=str(tmp_path))
    bad, good = list_shards(data)
    assert "0.parquet cannot be read" in bad.defect
    assert captions(read_samples(good, data, with_images=False)) == ["1.parquet"]
    refused_ending = ".parquet"
    with pytest.raises(type(error)):
        list_shards(data)


@case(SECTION, "a shard whose file name has 223 characters", "read")
def test_a_long_file_name_is_read(tmp_path: Path) -> None:
    name = "x" * 219 + ".tar"
    touch(tmp_path, name)
    assert captions(read(DataConfig(path=str(tmp_path)))) == ["one"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
@case(SECTION, "compressed tars (.tar.gz, .tgz, .tar.zst)", "read")
def test_compressed_tars_are_listed_and_read(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"0{suffix}").write_bytes(gzip.compress(tar_bytes([("a.jpg", b"i"), ("a.txt", b"one")])))
    assert captions(read(DataConfig(path=str(tmp_path)))) == ["one"]
