"""Outputs of shards with long names: every part of a path fits a file system, and the name can be read back."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.attempts import (
    AttemptLog,
    Piece,
    attempts_url,
    piece_url,
    read_attempts,
    write_attempts,
)
from laclip_ray.rewriting.storing.shard_files import LONGEST_PART_BYTES, path_of_shard, shard_of_path
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import DRAWS_SCHEMA, Origin
from tests.cases import case

LONGEST_NAME_BYTES = 255
"""Of a file or directory, on the usual file systems."""
SUFFIX_BYTES = 45
"""More than any suffix of an output adds."""

parts = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
    # Parts that look like cut ones, of every length around the limit.
    st.builds(
        lambda text, size: (text * size)[:size] + "~more", st.sampled_from(["a", "ä", "漢", "🐈"]), st.integers(1, 280)
    ),
).filter(lambda part: len(part.encode()) <= LONGEST_NAME_BYTES)
names = st.lists(parts, min_size=1, max_size=3).map("/".join)


@given(name=names)
def test_a_name_can_be_read_back_from_its_path(name: str) -> None:
    assert shard_of_path(path_of_shard(name)) == name


@given(name=names)
def test_every_part_of_a_path_leaves_room_for_a_suffix(name: str) -> None:
    *directories, last = path_of_shard(name).split("/")
    assert all(0 < len(part.encode()) <= LONGEST_NAME_BYTES for part in directories)
    assert 0 < len(last.encode()) + SUFFIX_BYTES <= LONGEST_NAME_BYTES


@given(left=names, right=names)
def test_different_names_have_different_paths(left: str, right: str) -> None:
    assert (path_of_shard(left) == path_of_shard(right)) == (left == right)


@given(text=st.sampled_from(["a", "ä", "漢"]), size=st.integers(1, LONGEST_PART_BYTES))
def test_a_name_that_always_fitted_stays_as_it_is(text: str, size: int) -> None:
    name = (text * size).encode()[:size].decode(errors="ignore") or "a"
    assert path_of_shard(f"{name}/{name}") == f"{name}/{name}"


LONG = {
    "223 characters": "n" * 219 + ".tar",
    "250 characters": "n" * 246 + ".tar",
    "255 characters, the most that a file system takes": "n" * 251 + ".tar",
    "85 Chinese characters (255 bytes)": "漢" * 83 + "字.tar",
    "60 emoji (244 bytes), below a long directory": "d" * 255 + "/" + "🐈" * 60 + ".tar",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=case(
                "Reading data", f"a shard whose file name has {kind}", "it is rewritten and read like any other"
            ),
        )
        for kind, name in LONG.items()
    ],
)
def test_a_shard_with_a_long_name_is_committed_and_read(name: str, tmp_path: Path) -> None:
    rewrite_set = RewriteSet(str(tmp_path / "cleaned"), "0123456789abcdef")
    row = {field.name: 0 for field in DRAWS_SCHEMA} | {"truncated": False, "text": "a cup"}
    row |= dict.fromkeys(("id", "caption_hash", "caption", "problems", "outcome"), "x")
    draws = pa.Table.from_pylist([row], schema=DRAWS_SCHEMA)
    store.write_draws(rewrite_set, name, 0, draws, Origin("identity", "inputs", 1))
    reasons = pa.array([None], pa.string())
    store.commit_verdicts(rewrite_set, name, 0, draws, reasons, Origin("identity", "inputs", 1))
    assert rewrite_set.drawn_revisions() == rewrite_set.committed_revisions() == {name: 0}
    assert rewrite_set.accepted(name) == {("x", "x"): ["a cup"]}

    log = AttemptLog("0123456789abcdef").begin("run", "node", 0, 10_000)
    url = attempts_url(rewrite_set.location, name)
    write_attempts(url, log)
    assert read_attempts(url) == log
    storage.write_bytes(piece_url(rewrite_set.location, name, log, Piece(9_999, 10_000)), b"kept")
