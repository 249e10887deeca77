"""The dataset index and listings by pages, on a real S3 server."""

from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.dataset_index import beside, keep_index
from laclip_ray.data.indexing import make_index
from laclip_ray.data.shards import list_dataset, list_shards
from laclip_ray.store_pages import iterate_files
from tests.integration.conftest import jpeg, write_shard

TABLE = b"caption\n" + b"a red cup\n" * 25


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tars") / "0.tar"
    write_shard(path, [(f"{row}", {"jpg": jpeg(row), "txt": b"a red cup"}) for row in range(4)])
    return Path(path).read_bytes()


def test_a_listing_by_pages_is_that_of_find(bucket: str, tar: bytes) -> None:
    root = f"{bucket}/pages/é"
    for name in ("0.tar", "a b/1+2.tar", "a b/c/3.tar", "a/4.tar"):
        storage.write_bytes(f"{root}/{name}", tar)
    fs, path = storage.filesystem(root)
    for levels in (None, 1, 2):
        listed = {name: storage.identity_of(info) for name, info in iterate_files(fs, path, levels)}
        fs.invalidate_cache()
        found = fs.find(path, maxdepth=levels, detail=True)
        assert listed == {name: storage.identity_of(info) for name, info in found.items()}
    assert {shard.file_identity for shard in list_shards(DataConfig(path=root))} == {storage.identity(f"{root}/0.tar")}


def test_an_index_on_s3_counts_tars_and_notices_replaced_ones(bucket: str, tar: bytes) -> None:
    data, index = DataConfig(path=f"{bucket}/indexed"), f"{bucket}/indexed-out/data-index.parquet"
    for name in ("00000", "00001"):
        storage.write_bytes(f"{data.path}/{name}.tar", tar)
        storage.write_bytes(f"{data.path}/{name}_stats.json", b'{"successes": 4}')
    made = make_index(data, index)
    assert (made.shards, made.rows, made.requests) == (2, 8, 2)
    storage.write_bytes(f"{data.path}/00001.tar", tar + bytes(10_240))
    listing = list_dataset(data, index=index)
    assert [shard.known_rows for shard in listing.shards] == [4, None]
    assert listing.index is not None
    assert (listing.index.unchanged, listing.index.changed) == (1, 1)


def test_tables_on_s3_are_opened_once(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = DataConfig(path=f"{bucket}/tables", max_rows_per_shard=10), f"{bucket}/tables-out"
    storage.write_bytes(f"{data.path}/a.csv", TABLE)
    shards = list_shards(data, index=beside(output))
    keep_index(data, output, shards)
    monkeypatch.setattr("laclip_ray.data.shards.SPLITTERS", {"csv": None})
    again = list_shards(data, index=beside(output))
    assert again == shards
    assert [(shard.start_row, shard.row_count) for shard in again] == [(0, 10), (10, 10), (20, 5)]
