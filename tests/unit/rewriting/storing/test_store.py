"""Committed shards are read back by readers of their gate and revision, and no other recipe's set is taken for ours."""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import GateConfig, SamplingConfig
from laclip_ray.data.records import hash_caption
from laclip_ray.errors import UserError
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.recipe import fingerprint_of, gate_fingerprint
from laclip_ray.rewriting.storing.committed import digest_inputs
from laclip_ray.rewriting.storing.recipe_file import check_location
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import (
    RewriteSet,
    commit_verdicts,
    of_shards,
    open_for_writing,
    restamp_verdicts,
    write_draws,
)
from laclip_ray.rewriting.tables import Origin
from tests.cases import case
from tests.unit.rewriting.shards import (
    ACCEPTED,
    DRAWS,
    ORIGIN,
    A,
    B,
    C,
    Draw,
    commit,
    one,
    reasons_of,
    recipe,
    some_draws,
    table_of,
)


def in_memory() -> RewriteSet:
    return RewriteSet(f"memory://unit-{uuid.uuid4().hex}/cleaned", "gate")


# --- one shard


def test_accepted_rewrites_are_read_back_in_the_order_of_their_slots(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    assert rewrite_set.accepted("0.tar") == ACCEPTED


@given(draws=some_draws)
def test_the_first_accepted_attempt_of_each_slot_counts(draws: list[Draw]) -> None:
    rewrite_set = in_memory()
    commit(rewrite_set, "0.tar", draws)
    expected: dict[tuple[str, str], list[str]] = {}
    for draw in draws:
        expected.setdefault((draw.id, hash_caption(draw.caption)), [])
    for key, texts in expected.items():
        for slot in range(3):
            attempts = [draw for draw in draws if draw.id == key[0] and draw.slot == slot and draw.reason is None]
            texts.extend(draw.text or "" for draw in attempts[:1])
    assert rewrite_set.accepted("0.tar") == expected


def test_draws_are_kept_with_any_verdict(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    kept = storage.read_parquet(rewrite_set.draws_url("0.tar", 0))
    assert kept.replace_schema_metadata(None).equals(table_of(DRAWS))


def test_a_shard_is_read_with_the_reason_of_each_draw(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    draws = rewrite_set.read("0.tar", 0)
    assert draws.select(tables.DRAWS_SCHEMA.names).replace_schema_metadata(None).equals(table_of(DRAWS))
    assert draws.column("reason").to_pylist() == [draw.reason for draw in DRAWS]


def test_an_edited_caption_finds_nothing(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    accepted = rewrite_set.accepted("0.tar")
    assert accepted is not None
    assert ("a", hash_caption("caption a, edited")) not in accepted


@pytest.mark.parametrize("shard", ["0.tar", "sub/0.tar", "a.parquet", "a.parquet.000000010"])
def test_a_shard_is_committed_by_its_verdicts_and_not_before(rewrite_set: RewriteSet, shard: str) -> None:
    table = table_of(DRAWS)
    write_draws(rewrite_set, shard, 0, table, ORIGIN)
    assert rewrite_set.drawn_revisions() == {shard: 0}
    assert rewrite_set.committed_revisions() == {}
    assert rewrite_set.committed_revision(shard) is None
    assert rewrite_set.accepted(shard) is None
    commit_verdicts(rewrite_set, shard, 0, table, reasons_of(DRAWS), ORIGIN)
    assert rewrite_set.committed_revisions() == {shard: 0}
    assert rewrite_set.committed_revision(shard) == 0
    assert rewrite_set.accepted(shard) == ACCEPTED


def test_the_first_range_of_a_table_is_found_under_its_earlier_name(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "a.csv.000000000", DRAWS)
    assert rewrite_set.committed_revision("a.csv") == 0
    assert rewrite_set.accepted("a.csv") == ACCEPTED
    assert rewrite_set.pinned().accepted("a.csv") == ACCEPTED
    assert rewrite_set.origin("a.csv", 0) == ORIGIN
    assert rewrite_set.describe({"a.csv": 0})["a.csv"].origin == ORIGIN
    assert rewrite_set.read("a.csv", 0).num_rows == len(DRAWS)
    restamp_verdicts(rewrite_set, "a.csv", 0, replace(ORIGIN, file_identity="new"))
    assert rewrite_set.committed_revisions() == {"a.csv.000000000": 0}
    assert rewrite_set.describe({"a.csv": 0})["a.csv"].origin.file_identity == "new"
    # Another gate judges the draws, and another run adds some.
    other = replace(rewrite_set, gate="other")
    commit_verdicts(other, "a.csv", 0, table_of(DRAWS), reasons_of(DRAWS), ORIGIN)
    assert of_shards(other.committed_revisions(), ["a.csv", "b.csv"]) == {"a.csv": 0}
    commit(rewrite_set, "a.csv", one("new"), revision=1)
    assert of_shards(rewrite_set.committed_revisions(), ["a.csv"]) == {"a.csv": 1}
    assert rewrite_set.accepted("a.csv") == {A: ["new"]}


@pytest.mark.parametrize("kind", ["draws", "verdicts"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00" * 100])
@case("Identity", "a damaged file in a rewrite set", "named, with the remedy", exit_code=2)
def test_a_damaged_file_is_named_with_a_remedy(rewrite_set: RewriteSet, kind: str, content: bytes) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    url = rewrite_set.draws_url("0.tar", 0) if kind == "draws" else rewrite_set.verdicts_url("0.tar", 0)
    storage.write_bytes(url, content)
    expected = rf"^{url}: this part of a rewrite set cannot be read; .* Remove it, and `laclip rewrite`"
    for read in (rewrite_set.accepted, lambda name: rewrite_set.read(name, 0)):
        with pytest.raises(UserError, match=expected):
            read("0.tar")
    with pytest.raises(UserError, match=expected):
        rewrite_set.origin("0.tar", 0) if kind == "draws" else rewrite_set.describe({"0.tar": 0})


def test_verdicts_of_other_draws_are_named_with_a_remedy(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    write_draws(rewrite_set, "0.tar", 0, table_of(one("other")), replace(ORIGIN, draws_id="of another run"))
    message = (
        rf"^{rewrite_set.verdicts_url('0.tar', 0)} belongs to other draws than those in storage: two runs wrote this "
        r"shard at once\. Remove the file and run `laclip rewrite` again$"
    )
    with pytest.raises(UserError, match=message):
        rewrite_set.read("0.tar", 0)


def test_verdicts_without_draws_commit_nothing(rewrite_set: RewriteSet) -> None:
    commit_verdicts(rewrite_set, "0.tar", 0, table_of(DRAWS), reasons_of(DRAWS), ORIGIN)
    assert (rewrite_set.drawn_revisions(), rewrite_set.committed_revisions()) == ({}, {})


def test_another_gate_sees_the_draws_but_not_the_verdicts(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    other = RewriteSet(rewrite_set.location, gate_fingerprint(GateConfig(min_words=3), "ViT-B-32"))
    assert (other.drawn_revisions(), other.committed_revisions()) == ({"0.tar": 0}, {})
    assert other.accepted("0.tar") is None
    commit_verdicts(other, "0.tar", 0, table_of(DRAWS), pa.array(["too_short"] * len(DRAWS)), ORIGIN)
    assert other.accepted("0.tar") == {A: [], B: [], C: []}
    assert rewrite_set.accepted("0.tar") == ACCEPTED


def test_files_that_are_being_written_are_not_seen(tmp_path: Path) -> None:
    local = RewriteSet(str(tmp_path / "cleaned"), "gate")
    commit(local, "0.tar", DRAWS)
    for url in (local.draws_url("1.tar", 0), local.verdicts_url("1.tar", 0)):
        storage.write_bytes(url, b"")
        Path(url).rename(f"{url}{storage.ASIDE_MARK}0")
    assert local.drawn_revisions() == local.committed_revisions() == {"0.tar": 0}


def test_a_shard_without_rows_can_be_committed(rewrite_set: RewriteSet) -> None:
    statistics = commit(rewrite_set, "0.tar", [])
    assert statistics == Statistics(engine_s=ORIGIN.engine_s, gpu_s=ORIGIN.gpu_s)
    assert rewrite_set.accepted("0.tar") == {}


# --- revisions


def test_the_newest_committed_revision_is_read(rewrite_set: RewriteSet) -> None:
    for revision in (0, 9, 10):  # numbers, not texts
        commit(rewrite_set, "0.tar", one(f"revision {revision}"), revision)
        assert rewrite_set.accepted("0.tar") == {A: [f"revision {revision}"]}
        assert rewrite_set.drawn_revisions() == rewrite_set.committed_revisions() == {"0.tar": revision}
        assert rewrite_set.committed_revision("0.tar") == revision


def test_a_revision_counts_for_its_own_shard_only(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", one("old 0"))
    commit(rewrite_set, "1.tar", one("old 1"))
    commit(rewrite_set, "0.tar", one("new 0"), 1)
    assert rewrite_set.committed_revisions() == {"0.tar": 1, "1.tar": 0}
    assert rewrite_set.accepted("1.tar") == {A: ["old 1"]}


def test_draws_of_a_newer_revision_are_not_read_before_their_verdicts(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", one("old"))
    write_draws(rewrite_set, "0.tar", 1, table_of(one("new")), ORIGIN)
    assert rewrite_set.accepted("0.tar") == {A: ["old"]}
    assert (rewrite_set.drawn_revisions(), rewrite_set.committed_revisions()) == ({"0.tar": 1}, {"0.tar": 0})


def test_an_older_revision_stays_for_its_readers(rewrite_set: RewriteSet) -> None:
    for revision in range(4):
        commit(rewrite_set, "0.tar", one(f"revision {revision}"), revision)
    for revision in range(4):
        reader = replace(rewrite_set, newest_revision=revision)
        assert reader.accepted("0.tar") == {A: [f"revision {revision}"]}
        assert reader.drawn_revisions() == reader.committed_revisions() == {"0.tar": revision}


def test_a_pinned_set_does_not_see_later_revisions(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", one("revision 0"))
    commit(rewrite_set, "0.tar", one("revision 2"), 2)
    pinned = rewrite_set.pinned()
    lineage = pinned.describe(pinned.committed_revisions())
    commit(rewrite_set, "0.tar", one("revision 3"), 3)
    commit(rewrite_set, "1.tar", one("revision 3"), 3)
    assert pinned.newest_revision == 2
    assert pinned.accepted("0.tar") == {A: ["revision 2"]}
    assert pinned.accepted("1.tar") is None
    assert pinned.describe(pinned.committed_revisions()) == lineage
    assert rewrite_set.pinned().newest_revision == 3


def test_a_set_pinned_before_it_is_written_reads_what_is_written_first(rewrite_set: RewriteSet) -> None:
    pinned = rewrite_set.pinned()
    assert pinned.committed_revisions() == {}
    commit(rewrite_set, "0.tar", one("first"))
    commit(rewrite_set, "0.tar", one("second"), 1)
    assert pinned.accepted("0.tar") == {A: ["first"]}


# --- metadata of a shard


@pytest.mark.parametrize("origin", [ORIGIN, Origin('1-"é"', "", 1)])
def test_a_shards_origin_comes_back(rewrite_set: RewriteSet, origin: Origin) -> None:
    commit(rewrite_set, "0.tar", DRAWS, origin=origin)
    assert rewrite_set.origin("0.tar", 0) == origin
    assert rewrite_set.describe({"0.tar": 0})["0.tar"].origin == origin


def test_shards_are_described_by_what_was_committed(rewrite_set: RewriteSet) -> None:
    counted = {
        "0.tar": commit(rewrite_set, "0.tar", DRAWS),
        "1.tar": commit(rewrite_set, "1.tar", one("a text"), 3, Origin("x", "y", 1)),
    }
    described = rewrite_set.describe(rewrite_set.committed_revisions())
    assert {name: shard.statistics for name, shard in described.items()} == counted
    assert {name: shard.revision for name, shard in described.items()} == {"0.tar": 0, "1.tar": 3}
    assert counted["0.tar"].gpu_s == ORIGIN.gpu_s
    assert rewrite_set.describe({}) == {}


def test_a_new_stamp_changes_the_origin_and_nothing_else(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    before = rewrite_set.describe({"0.tar": 0})["0.tar"]
    verdicts = storage.read_parquet(rewrite_set.verdicts_url("0.tar", 0))
    stamped = replace(ORIGIN, file_identity="11-2.5")
    restamp_verdicts(rewrite_set, "0.tar", 0, stamped)
    assert rewrite_set.describe({"0.tar": 0})["0.tar"] == replace(before, origin=stamped)
    assert storage.read_parquet(rewrite_set.verdicts_url("0.tar", 0)).equals(verdicts)
    assert rewrite_set.accepted("0.tar") == ACCEPTED


inputs = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), st.text().map(hash_caption)), max_size=4
)


@given(first=inputs, second=inputs)
def test_inputs_have_one_digest_exactly_if_they_are_equal(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    digests = [digest_inputs([id for id, _ in rows], [hashed for _, hashed in rows]) for rows in (first, second)]
    assert (digests[0] == digests[1]) == (first == second)
    assert digest_inputs((id for id, _ in first), (hashed for _, hashed in first)) == digests[0]


# --- places


def claim(location: str, recipe: dict[str, Any], setting: str) -> object:
    return open_for_writing(location, recipe, "gate", setting)


CLAIMS: tuple[Callable[[str, dict[str, Any], str], object], ...] = (check_location, claim)


def test_a_directory_is_claimed_once_and_opened_again_by_its_recipe(rewrite_set: RewriteSet) -> None:
    location = rewrite_set.location
    first = open_for_writing(location, recipe(), "gate", "rewrite.output")
    written = storage.read_bytes(f"{location}/recipe.json")
    assert first == replace(rewrite_set, gate="gate")
    assert json.loads(written)["fingerprint"] == fingerprint_of(recipe())
    assert json.loads(written)["recipe"] == recipe()
    assert open_for_writing(location, recipe(), "gate", "rewrite.output") == first
    assert storage.read_bytes(f"{location}/recipe.json") == written


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        (recipe(seed=1, heads=8), "heads, seed"),
        (recipe(prompt_set="crowd"), "pairs, prompt_set"),
        (recipe(sampling=SamplingConfig(temperature=0.5)), "sampling"),
    ],
)
def test_another_recipe_in_a_directory_is_refused_and_the_differences_named(
    rewrite_set: RewriteSet, other: dict[str, Any], differ: str
) -> None:
    location = rewrite_set.location
    open_for_writing(location, recipe(), "gate", "rewrite.output")
    for act in CLAIMS:
        with pytest.raises(UserError, match=rf"rewrite\.output: .* another rewrite set \({differ} differ\)"):
            act(location, other, "rewrite.output")
    assert storage.read_json(f"{location}/recipe.json")["recipe"] == recipe()


def test_a_directory_with_other_files_is_refused_and_left_alone(rewrite_set: RewriteSet) -> None:
    storage.write_bytes(f"{rewrite_set.location}/photo.jpg", b"x")
    for act in CLAIMS:
        with pytest.raises(UserError, match=r"rewrite\.output: .* holds files, but no rewrite set"):
            act(rewrite_set.location, recipe(), "rewrite.output")
    assert [storage.name_of(url) for url in storage.list_files(rewrite_set.location)] == ["photo.jpg"]


def test_checking_a_location_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_location(str(tmp_path / "empty"), recipe(), "rewrite.output")
    check_location(str(tmp_path / "none"), recipe(), "rewrite.output")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
