"""An index spares reading files, and never changes what a listing gives."""

import json
import logging
import os
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import shards as shards_module
from laclip_ray.data.dataset_index import IndexReader, beside, cutting_settings, keep_index, write_index
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_dataset, list_shards
from laclip_ray.errors import UserError
from tests.cases import case
from tests.unit.conftest import tar_bytes

SECTION = "Reading data"
SETTINGS = {"format": "csv"}


@st.composite
def files(draw: st.DrawFn) -> dict[str, list[Shard]]:
    """The shards of each file of a dataset, by its name, in order."""
    names = draw(st.lists(st.text("ab./é", min_size=1, max_size=4), unique=True, max_size=6))
    return {name: _ranges(name, draw(st.integers(1, 3)), draw(st.integers(0, 2))) for name in sorted(names)}


def _ranges(name: str, count: int, version: int) -> list[Shard]:
    file = Shard(name, f"/d/{name}", "csv", row_count=4, columns=("a", "é"), file_identity=f"9-{version}")
    return [
        replace(file, name=f"{name}.{start:09d}" if start else name, start_row=start, start_byte=7 * start)
        for start in range(0, 4 * count, 4)
    ]


def whole(shards: list[Shard]) -> Shard:
    return Shard(shards[0].name, shards[0].url, "csv", file_identity=shards[0].file_identity)


def taken(url: str, asked: Iterable[list[Shard]]) -> tuple[list[list[Shard] | None], IndexReader]:
    reader = IndexReader(url, SETTINGS, must_exist=False)
    return [reader.take(whole(shards)) for shards in asked], reader


@given(before=files(), now=files())
def test_an_index_speaks_for_unchanged_files_alone(
    before: dict[str, list[Shard]], now: dict[str, list[Shard]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = str(tmp_path_factory.getbasetemp() / "index.parquet")
    write_index(url, [shard for shards in before.values() for shard in shards], SETTINGS)
    found, reader = taken(url, now.values())

    def is_unchanged(name: str) -> bool:
        return name in before and before[name][0].file_identity == now[name][0].file_identity

    assert found == [before[name] if is_unchanged(name) else None for name in now]
    use = reader.close()
    assert use.unchanged == sum(map(is_unchanged, now))
    assert use.changed == len(before.keys() & now.keys()) - use.unchanged
    assert (use.new, use.vanished) == (len(now.keys() - before.keys()), len(before.keys() - now.keys()))


@given(cut=st.integers(0, 4_000), flipped=st.integers(0, 4_000))
def test_a_damaged_index_gives_no_wrong_shard(cut: int, flipped: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    url = str(tmp_path_factory.getbasetemp() / "damaged.parquet")
    shards = [_ranges(f"{number}.csv", 2, 0) for number in range(3)]
    write_index(url, [shard for of_file in shards for shard in of_file], SETTINGS)
    content = bytearray(Path(url).read_bytes())
    content[flipped % len(content)] ^= 0x55
    Path(url).write_bytes(content[: len(content) - cut % 50])
    found, _ = taken(url, shards)
    assert all(kept is None or [shard.name for shard in kept] for kept in found)
    for kept, of_file in zip(found, shards, strict=True):
        if kept is not None and cut % 50 == 0:
            assert [shard.start_byte for shard in kept] == [shard.start_byte for shard in of_file]


def test_a_file_of_unknown_identity_or_another_place_is_read_anew(tmp_path: Path) -> None:
    url = str(tmp_path / "index.parquet")
    shards = _ranges("0.csv", 1, 0)
    write_index(url, shards, SETTINGS)
    changes: list[dict[str, Any]] = [{"file_identity": ""}, {"url": "/elsewhere/0.csv"}, {"format": "tsv"}]
    for other in changes:
        reader = IndexReader(url, SETTINGS, must_exist=False)
        assert reader.take(replace(whole(shards), **other)) is None
        assert reader.close().changed == 1


def test_files_with_a_defect_are_not_indexed(tmp_path: Path) -> None:
    url = str(tmp_path / "index.parquet")
    shards = _ranges("0.csv", 1, 0)
    write_index(url, [replace(shards[0], defect="it may not be read"), *_ranges("1.csv", 1, 0)], SETTINGS)
    found, reader = taken(url, [shards])
    assert found == [None]
    assert reader.close().new == 1


TABLE = "caption,image\n" + "".join(f"caption {row},{row}.png\n" for row in range(25))


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Two tables of three ranges each."""
    for name in ("a", "b"):
        storage.write_bytes(str(tmp_path / "data" / f"{name}.csv"), TABLE.encode())
    return DataConfig(path=str(tmp_path / "data"), max_rows_per_shard=10)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that were split."""
    names: list[str] = []
    split = shards_module.SPLITTERS["csv"]

    def watched(file: Shard, *arguments: Any) -> list[Shard]:
        names.append(file.name)
        return split(file, *arguments)

    monkeypatch.setitem(shards_module.SPLITTERS, "csv", watched)
    return names


def test_a_listing_with_an_index_opens_no_table(data: DataConfig, tmp_path: Path, opened: list[str]) -> None:
    output = str(tmp_path / "out")
    first = list_shards(data, index=beside(output))
    keep_index(data, output, first)
    assert sorted(opened) == ["a.csv", "b.csv"]
    again = list_shards(data, index=beside(output))
    assert again == first
    assert len(again) == 6
    assert len(opened) == 2
    written = Path(beside(output)).stat().st_mtime_ns
    keep_index(data, output, again)
    assert Path(beside(output)).stat().st_mtime_ns == written


@case(SECTION, "a dataset index that is older than the files", "changed and new files are read anew, and counted")
def test_only_changed_and_new_tables_are_opened(
    data: DataConfig, tmp_path: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    index = str(tmp_path / "index.parquet")
    write_index(index, list_shards(data), cutting_settings(data, "csv"))
    opened.clear()
    (tmp_path / "data" / "b.csv").write_text(TABLE + "one more,25.png\n", encoding="utf-8")
    (tmp_path / "data" / "c.csv").write_text(TABLE, encoding="utf-8")
    with caplog.at_level(logging.INFO):
        listing = list_dataset(data, index=index)
    assert sorted(opened) == ["b.csv", "c.csv"]
    assert listing.shards == list_shards(data)
    assert "1 files are as in the dataset index; 1 changed and 1 new files were read, 0 are gone" in caplog.text
    (tmp_path / "data" / "a.csv").unlink()
    assert (used := list_dataset(data, index=index).index) is not None
    assert (used.unchanged, used.changed, used.new, used.vanished) == (0, 1, 1, 1)


@pytest.mark.parametrize("change", [{"max_rows_per_shard": 5}, {"quoting": "none"}, {"id_column": "image"}])
def test_an_index_made_with_other_settings_is_not_used(
    change: dict[str, Any], data: DataConfig, tmp_path: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    index = str(tmp_path / "index.parquet")
    write_index(index, list_shards(data), cutting_settings(data, "csv"))
    opened.clear()
    changed = data.model_copy(update=change)
    assert list_shards(changed, index=index) == list_shards(changed)
    assert len(opened) == 4
    assert "was made with other settings" in caplog.text


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet", None])
@case(SECTION, "a damaged dataset index beside the output", "named, and the files are read anew")
@case(SECTION, "a missing or damaged data.index", "refused", exit_code=2)
def test_a_damaged_index_is_named_and_one_of_the_config_is_refused(
    content: bytes | None, data: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = tmp_path / "index.parquet"
    if content is None:
        pq.write_table(pa.table({"shard": ["a.csv"]}), index)
    else:
        index.write_bytes(content)
    assert list_shards(data, index=str(index)) == list_shards(data)
    assert f"{index}: the dataset index is damaged and not used" in caplog.text
    with pytest.raises(UserError, match=r"data\.index: .*index\.parquet is damaged .*laclip data index"):
        list_shards(data.model_copy(update={"index": str(index)}))
    with pytest.raises(UserError, match="none does not exist; make it with `laclip data index`"):
        list_shards(data.model_copy(update={"index": str(tmp_path / "none")}))


def test_an_index_of_another_version_is_not_used(data: DataConfig, tmp_path: Path) -> None:
    index = str(tmp_path / "index.parquet")
    shards = list_shards(data)
    write_index(index, shards, cutting_settings(data, "csv"))
    table = storage.read_parquet(index)
    (key,) = table.schema.metadata
    later = json.dumps({**json.loads(table.schema.metadata[key]), "version": 99}).encode()
    storage.write_parquet(index, table.replace_schema_metadata({key: later}))
    assert list_dataset(data, index=index).shards == shards


def test_a_verb_does_not_write_an_index_that_the_config_names(data: DataConfig, tmp_path: Path) -> None:
    keep_index(data.model_copy(update={"index": "x"}), str(tmp_path / "out"), list_shards(data))
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_utf8_are_indexed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / os.fsdecode(b"\xff.csv")).write_bytes(TABLE.encode())
    data = DataConfig(path=str(tmp_path / "data"))
    shards = list_shards(data)
    write_index(str(tmp_path / "index.parquet"), shards, cutting_settings(data, "csv"))
    listing = list_dataset(data, index=str(tmp_path / "index.parquet"))
    assert listing.shards == shards
    assert listing.index is not None
    assert listing.index.unchanged == 1


def test_an_index_lies_on_an_object_store_too(data: DataConfig) -> None:
    index = f"memory://unit-{uuid.uuid4().hex}/index.parquet"
    shards = list_shards(data)
    write_index(index, shards, cutting_settings(data, "csv"))
    assert list_dataset(data, index=index).shards == shards


def test_an_index_beside_the_output_follows_the_tars_too(tmp_path: Path) -> None:
    tar = tar_bytes([("a.jpg", bytes(9_000)), ("a.txt", b"one")])
    data, output = DataConfig(path=str(tmp_path / "data")), str(tmp_path / "out")
    for name in ("0.tar", "1.tar"):
        storage.write_bytes(f"{data.path}/{name}", tar)
        keep_index(data, output, list_shards(data, index=beside(output)))
        assert storage.read_parquet(beside(output)).column("shard").to_pylist()[-1] == name
    assert list_shards(data, index=beside(output)).is_indexed
    Path(str(data.path), "0.tar").unlink()
    keep_index(data, output, list_shards(data, index=beside(output)))
    assert storage.read_parquet(beside(output)).num_rows == 1


def test_an_index_that_cannot_be_written_stops_no_verb(
    data: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    keep_index(data, str(tmp_path / "out"), list_shards(data))
    assert "the dataset index cannot be written, so the next verb lists without" in caplog.text
