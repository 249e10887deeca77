"""The register: it spares the shards' footers, and never says what the files do not say."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.register import FILE_NAME
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.rewriting.storing.store import RewriteSet, open_for_writing, restamp_verdicts
from tests.unit.rewriting.shards import DRAWS, ORIGIN, commit, one, recipe

SHARDS = ("0.tar", "1.tar", "sub/2.tar")


@pytest.fixture
def rewrite_set(tmp_path: Path) -> RewriteSet:
    """A set of three committed shards, with its register."""
    made = open_for_writing(str(tmp_path / "cleaned"), recipe(), "gate", "rewrite.output")
    for shard in SHARDS:
        commit(made, shard, DRAWS)
    save(made)
    return made


def save(rewrite_set: RewriteSet) -> None:
    listed = rewrite_set.listed()
    rewrite_set.save_register(rewrite_set.committed(listed), listed)


def register_of(rewrite_set: RewriteSet) -> Path:
    return Path(rewrite_set.location, "verdicts", rewrite_set.gate, FILE_NAME)


@pytest.fixture
def footers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose footers are read."""
    read: list[str] = []
    original: Callable[[str], dict[bytes, bytes]] = storage.read_parquet_metadata

    def counted(url: str) -> dict[bytes, bytes]:
        read.append(storage.name_of(url))
        return original(url)

    monkeypatch.setattr(storage, "read_parquet_metadata", counted)
    return read


def from_footers(rewrite_set: RewriteSet) -> dict[str, Committed]:
    return rewrite_set.describe(rewrite_set.committed_revisions())


def test_registered_shards_cost_no_footers(rewrite_set: RewriteSet, footers: list[str]) -> None:
    described = rewrite_set.committed()
    assert footers == []
    assert described == from_footers(rewrite_set)
    assert [*described] == sorted(SHARDS)


def test_the_largest_number_of_rewrites_of_a_registered_set_costs_no_footers(
    rewrite_set: RewriteSet, footers: list[str]
) -> None:
    assert RewriteSets((rewrite_set,)).most_rewrites() == ORIGIN.rewrites_per_set
    assert footers == []


def test_only_shards_that_the_register_lacks_cost_a_footer(rewrite_set: RewriteSet, footers: list[str]) -> None:
    commit(rewrite_set, "3.tar", one("new"))
    commit(rewrite_set, "0.tar", one("newer"), revision=1)
    assert rewrite_set.committed()["0.tar"].revision == 1
    assert sorted(footers) == ["0.tar.parquet", "3.tar.parquet"]
    assert rewrite_set.committed() == from_footers(rewrite_set)


def test_a_file_that_changed_after_the_register_counts_itself(rewrite_set: RewriteSet) -> None:
    restamp_verdicts(rewrite_set, "1.tar", 0, replace(ORIGIN, file_identity="other"))
    assert rewrite_set.committed()["1.tar"].origin.file_identity == "other"
    save(rewrite_set)
    assert rewrite_set.committed()["1.tar"].origin.file_identity == "other"


def test_a_removed_file_is_not_committed_although_it_is_registered(rewrite_set: RewriteSet) -> None:
    Path(rewrite_set.verdicts_url("1.tar", 0)).unlink()
    assert [*rewrite_set.committed()] == ["0.tar", "sub/2.tar"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"{}"])
def test_a_damaged_register_is_named_and_the_files_are_read(
    content: bytes, rewrite_set: RewriteSet, caplog: pytest.LogCaptureFixture
) -> None:
    register_of(rewrite_set).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert rewrite_set.committed() == from_footers(rewrite_set)
    assert "register.parquet is damaged and not used" in caplog.text


def test_a_register_of_other_columns_is_not_used(rewrite_set: RewriteSet) -> None:
    table = storage.read_parquet(str(register_of(rewrite_set)))
    storage.write_parquet(str(register_of(rewrite_set)), table.drop_columns(["digest"]))
    assert rewrite_set.committed() == from_footers(rewrite_set)


def test_a_register_that_has_everything_is_not_written_again(rewrite_set: RewriteSet) -> None:
    before = register_of(rewrite_set).stat().st_mtime_ns
    save(rewrite_set)
    assert register_of(rewrite_set).stat().st_mtime_ns == before


def test_a_reader_of_an_older_revision_gets_its_metadata(rewrite_set: RewriteSet) -> None:
    pinned = replace(rewrite_set, newest_revision=0)
    commit(rewrite_set, "0.tar", one("newer"), revision=1)
    save(rewrite_set)
    assert pinned.committed() == from_footers(pinned)
    assert pinned.committed()["0.tar"].revision == 0


def test_a_store_that_tells_no_changes_has_no_register(footers: list[str]) -> None:
    made: Any = open_for_writing("memory://register-unit/cleaned", recipe(), "gate", "rewrite.output")
    commit(made, "0.tar", DRAWS)
    save(made)
    assert made.committed() == from_footers(made)
    assert not storage.exists(storage.join(made.location, "verdicts", "gate", FILE_NAME))
    assert len(footers) == 3


def as_earlier(rewrite_set: RewriteSet) -> None:
    """Write the register as an earlier version did."""
    url = str(register_of(rewrite_set))
    committed = rewrite_set.committed()
    table = storage.read_parquet(url).select(["shard", "revision", "identity"])
    contents = [committed[shard] for shard in table.column("shard").to_pylist()]
    for name, texts in {
        "origin": [content.origin.to_json() for content in contents],
        "statistics": [json.dumps(content.statistics.to_json()) for content in contents],
        "digest": [content.digest for content in contents],
    }.items():
        table = table.append_column(name, pa.array(texts))
    storage.write_parquet(url, table)


def test_a_register_of_an_earlier_version_is_read_and_written_anew(rewrite_set: RewriteSet, footers: list[str]) -> None:
    described = dict(rewrite_set.committed())
    as_earlier(rewrite_set)
    assert rewrite_set.committed() == described
    save(rewrite_set)
    assert "origin" not in storage.read_parquet(str(register_of(rewrite_set))).column_names
    assert rewrite_set.committed() == described
    assert footers == []


def test_origins_and_files_are_those_of_the_shards(rewrite_set: RewriteSet) -> None:
    committed = rewrite_set.committed()
    assert dict(committed.origins()) == {shard: content.origin for shard, content in committed.items()}
    assert committed.files() == {(shard, content.revision) for shard, content in committed.items()}
    assert [content.digest for content in committed.values()] == [committed[shard].digest for shard in committed]
    with pytest.raises(KeyError):
        committed["none.tar"]
