"""An index counts the samples of tars by what img2dataset wrote beside them."""

import json
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import indexing
from laclip_ray.data.indexing import make_index
from laclip_ray.data.shards import list_shards
from tests.unit.conftest import tar_bytes

TAR = tar_bytes([("a.jpg", b"i" * 9_000), ("a.txt", b"one")])


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Four tars: two counted, one with damaged statistics, one with none."""
    statistics = {"0": '{"successes": 7, "count": 9}', "1": '{"successes": 5}', "2": '{"successes": "many"}'}
    for name in "0123":
        storage.write_bytes(str(tmp_path / "data" / f"{name}.tar"), TAR)
        if name in statistics:
            storage.write_bytes(str(tmp_path / "data" / f"{name}_stats.json"), statistics[name].encode())
    return DataConfig(path=str(tmp_path / "data"))


def test_tars_are_counted_by_their_statistics(data: DataConfig, tmp_path: Path) -> None:
    url = str(tmp_path / "index.parquet")
    made = make_index(data, url)
    assert (made.shards, made.rows, made.requests) == (4, 12, 4)
    assert made.uncounted.names == {"stats_unreadable": ["2.tar"], "no_stats": ["3.tar"]}
    listed = list_shards(data, index=url)
    assert [shard.known_rows for shard in listed] == [7, 5, None, None]
    assert [shard.row_count for shard in listed] == [None] * 4
    assert storage.read_parquet(url).column("size_bytes").to_pylist() == [len(TAR)] * 4


def test_an_index_that_is_made_again_asks_only_for_new_tars(data: DataConfig, tmp_path: Path) -> None:
    url = str(tmp_path / "index.parquet")
    make_index(data, url)
    storage.write_bytes(f"{data.path}/4.tar", TAR)
    storage.write_bytes(f"{data.path}/4_stats.json", json.dumps({"successes": 1}).encode())
    made = make_index(data.model_copy(update={"index": "ignored"}), url)
    assert made.before is not None
    assert (made.before.unchanged, made.before.new) == (4, 1)
    assert (made.rows, made.requests) == (13, 3)


def test_a_changed_tar_loses_its_count(data: DataConfig, tmp_path: Path) -> None:
    url = str(tmp_path / "index.parquet")
    make_index(data, url)
    storage.write_bytes(f"{data.path}/0.tar", TAR + bytes(10_240))
    assert [shard.known_rows for shard in list_shards(data, index=url)] == [None, 5, None, None]


def test_a_directory_without_statistics_is_asked_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_MOST_MISSES", 3)
    for name in range(12):
        storage.write_bytes(str(tmp_path / "data" / "a" / f"{name:02d}.tar"), TAR)
    storage.write_bytes(str(tmp_path / "data" / "b" / "0.tar"), TAR)
    storage.write_bytes(str(tmp_path / "data" / "b" / "0_stats.json"), b'{"successes": 4}')
    made = make_index(DataConfig(path=str(tmp_path / "data")), str(tmp_path / "index.parquet"))
    assert (made.requests, made.rows, made.uncounted.counts["no_stats"]) == (4, 4, 12)


def test_tables_are_counted_by_their_listing_and_defects_are_named(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "data" / "a.csv"), b"caption\n" + b"one\n" * 25)
    storage.write_bytes(str(tmp_path / "data" / "b.csv"), b"<html>no table</html>")
    data = DataConfig(path=str(tmp_path / "data"), max_rows_per_shard=10)
    made = make_index(data, str(tmp_path / "index.parquet"))
    assert (made.shards, made.rows, made.requests) == (3, 25, 0)
    assert made.uncounted.names == {"defect": ["b.csv"]}
