"""The budget counts every draw of an output once, and opens few files for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.gpu_time import spent_gpu_s
from laclip_ray.rewriting.storing.store import RewriteSet, open_for_writing
from tests.unit.rewriting.shards import DRAWS, ORIGIN, commit, recipe, table_of
from tests.unit.rewriting.storing.test_register import as_earlier, save

SHARDS = ("0.tar", "1.tar")
GPU_S = 2.5


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two sets of two shards with registers; one set has a third shard, which no gate has judged."""
    for name, gate in (("cleaned", "gate"), ("other", "another gate")):
        made = open_for_writing(str(tmp_path / name), recipe(), gate, "rewrite.output")
        for shard in SHARDS:
            commit(made, shard, DRAWS, origin=replace(ORIGIN, gpu_s=GPU_S))
        save(made)
    store.write_draws(made, "2.tar", 0, table_of(DRAWS), replace(ORIGIN, gpu_s=10.0))
    (tmp_path / "no set").mkdir()
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose footers are read."""
    read: list[str] = []
    original: Callable[[str], dict[bytes, bytes]] = storage.read_parquet_metadata

    def watched(url: str) -> dict[bytes, bytes]:
        read.append(storage.name_of(url))
        return original(url)

    monkeypatch.setattr(storage, "read_parquet_metadata", watched)
    return read


def cleaned(output: Path) -> RewriteSet:
    return RewriteSet(str(output / "cleaned"), "gate")


def test_only_draws_that_no_register_knows_are_opened(output: Path, opened: list[str]) -> None:
    assert spent_gpu_s(str(output), {}, {}) == 4 * GPU_S + 10.0
    assert opened == ["2.tar.parquet"]


def test_a_listing_that_the_caller_has_is_not_made_again(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = cleaned(output).listed()
    files_of = RewriteSet._files

    def watched(self: RewriteSet, *parts: str) -> dict[tuple[str, int], str]:
        assert self.name != "cleaned"
        return files_of(self, *parts)

    monkeypatch.setattr(RewriteSet, "_files", watched)
    assert spent_gpu_s(str(output), {"cleaned": cleaned(output)}, {"cleaned": listed}) == 4 * GPU_S + 10.0


def test_a_register_of_an_earlier_version_knows_the_time_too(output: Path, opened: list[str]) -> None:
    as_earlier(cleaned(output))
    assert spent_gpu_s(str(output), {}, {}) == 4 * GPU_S + 10.0
    assert opened == ["2.tar.parquet"]


@pytest.mark.parametrize("content", [None, b"no Parquet"])
def test_without_a_register_the_draws_are_opened(content: bytes | None, output: Path, opened: list[str]) -> None:
    register = Path(cleaned(output).register_url)
    register.unlink()
    if content is not None:
        register.write_bytes(content)
    assert spent_gpu_s(str(output), {}, {}) == 4 * GPU_S + 10.0
    assert sorted(opened) == ["0.tar.parquet", "1.tar.parquet", "2.tar.parquet"]
