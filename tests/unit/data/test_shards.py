"""Shards have stable names, and every format gives the same samples."""

import json
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.shards import list_shards
from tests.unit.conftest import picture, tar_bytes, write_tar
from tests.unit.data.files import captions, ids, read, refused, touch, write_parquet


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


def test_shards_of_one_name_in_two_paths_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.tar", "b/0.tar")
    message = refused(DataConfig(path=[str(tmp_path / "a"), str(tmp_path / "b")]))
    assert "would both be the shard '0.tar'" in message


def test_a_file_listed_twice_is_one_shard(tmp_path: Path) -> None:
    root = touch(tmp_path, "0.tar", "1.tar")
    paths = [root, f"{root}/*.tar", f"{root}/0.tar"]
    assert [shard.name for shard in list_shards(DataConfig(path=paths))] == ["0.tar", "1.tar"]


def test_a_missing_path_is_refused_with_its_setting(tmp_path: Path) -> None:
    data = DataConfig(path=str(tmp_path / "none"))
    assert refused(data, "evaluate.retrieval[0].data").startswith("evaluate.retrieval[0].data.path: ")
    assert "does not exist" in refused(data)
    assert "matches nothing" in refused(DataConfig(path=str(tmp_path / "*.tar")))


def test_a_directory_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert "holds no shards" in refused(DataConfig(path=str(tmp_path)))


def test_an_unknown_extension_is_refused_until_the_format_is_set(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("caption\none\n", encoding="utf-8")
    path = str(tmp_path / "data.txt")
    assert "cannot tell the format" in refused(DataConfig(path=path))
    assert captions(read(DataConfig(path=path, format="csv"), with_images=False)) == ["one"]
    assert captions(read(DataConfig(path=str(tmp_path), format="csv"), with_images=False)) == ["one"]


def test_two_formats_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    root = touch(tmp_path, "0.tar")
    write_parquet(tmp_path / "0.parquet", {"caption": ["of the table"]})
    (tmp_path / "0_stats.json").write_text("{}", encoding="utf-8")
    assert "more than one format (parquet, webdataset); set data.format" in refused(DataConfig(path=root))
    assert captions(read(DataConfig(path=root, format="webdataset"))) == ["one"]
    assert captions(read(DataConfig(path=root, format="parquet"))) == ["of the table"]
