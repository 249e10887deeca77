"""A table of shards gives the shards that it was made of."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.data_files import DataFile, FileTable, identity_of_file
from laclip_ray.data.records import Shard
from laclip_ray.data.shard_table import ShardsByName, ShardTable

PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/", exclude_categories=["Cc"]), min_size=1, max_size=6)
COUNTS = st.integers(0, 2**40)


@st.composite
def shards(draw: st.DrawFn) -> Shard:
    """A shard of any format, whose URL is its name below a root, that of its whole file, or anything."""
    file = draw(PARTS) + draw(st.sampled_from([".tar", ".csv", ""]))
    start_row = draw(st.sampled_from([0, 0, 7, 10_000]))
    name = f"{file}.{start_row:09d}" if start_row else file
    root = draw(st.sampled_from(["s3://bucket/a", "/data", "https://host"]))
    url = draw(st.sampled_from([f"{root}/{file}", f"{root}/{file}?signature=x", "x", ""]))
    return Shard(
        name, url, draw(st.sampled_from(["webdataset", "csv", "parquet"])), start_row, draw(st.none() | COUNTS),
        draw(COUNTS), draw(st.none() | st.tuples(PARTS, PARTS)), draw(st.sampled_from([",", "\t"])),
        draw(st.booleans()), draw(st.sampled_from(["utf-8", "utf-16-le"])), draw(st.sampled_from(["\n", "\r"])),
        draw(PARTS), draw(st.sampled_from(["", "it is broken"])), draw(st.none() | COUNTS),
    )  # fmt: skip


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - its own


@given(given_shards=st.lists(shards(), max_size=8))
def test_a_table_gives_its_shards_in_order(given_shards: list[Shard]) -> None:
    table = ShardTable(given_shards)
    for copy in (table, pickled(table)):
        assert list(copy) == [copy[number] for number in range(len(copy))] == given_shards
        assert copy == given_shards
        assert copy[1:] == given_shards[1:]
        assert list(copy.names()) == [shard.name for shard in given_shards]
        assert (list(copy.drained()), list(copy)) == (given_shards, [])


@given(given_shards=st.lists(shards(), max_size=8, unique_by=lambda shard: shard.name))
def test_a_shard_is_found_by_its_name(given_shards: list[Shard]) -> None:
    by_name = ShardsByName(ShardTable(given_shards))
    for copy in (by_name, pickled(by_name)):
        assert dict(copy) == {shard.name: shard for shard in given_shards}
        assert list(copy) == [shard.name for shard in given_shards]
        assert "no shard of this name" not in copy
        with pytest.raises(KeyError):
            copy["no shard of this name"]


def test_the_last_shard_has_a_negative_number_too() -> None:
    one = Shard("a", "/a", "webdataset")
    table = ShardTable([one, replace(one, name="b", url="/b")])
    assert table[-1].name == "b"
    with pytest.raises(IndexError):
        table[2]


@given(
    names=st.lists(PARTS, unique=True, max_size=8),
    info=st.sampled_from([{}, {"size": 3}, {"size": 3, "ETag": '"x-1"'}, {"size": 0, "mtime": 1.5}, {"ETag": "y"}]),
)
def test_a_table_of_files_keeps_urls_names_and_identities(names: list[str], info: dict[str, Any]) -> None:
    files = [DataFile(f"s3://b/{name}", "b", name, info) for name in names]
    files += [DataFile("https://h/0.tar?signature=x", "h", "0.tar", info, is_named=True)]
    table = FileTable(files)
    for kept, file in zip(table, files, strict=True):
        assert (kept.url, kept.root, kept.name, kept.is_named) == (file.url, file.root, file.name, file.is_named)
        assert kept.info["size"] == info.get("size")
        if len(info) == 2:
            assert identity_of_file(kept) == identity_of_file(file)
    assert table[-1].url == files[-1].url
    assert [file.url for file in table.drained()] == [file.url for file in files]
