"""Training, inspection and export read the sets that an experiment names, each with its weight, or refuse them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import GateConfig, parse_experiment
from laclip_ray.data.records import hash_caption
from laclip_ray.data.text_choice import Rewrites
from laclip_ray.errors import UserError
from laclip_ray.rewriting.recipe import fingerprint_of, gate_fingerprint
from laclip_ray.rewriting.storing.sets import RewriteSets, SetSelection, committed_sets, configured_sets
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, restamp_verdicts, write_draws
from tests.cases import case
from tests.unit.rewriting.shards import (
    ACCEPTED,
    DRAWS,
    ORIGIN,
    A,
    Draw,
    claimed,
    commit,
    one,
    reasons,
    reasons_of,
    recipe,
    some_draws,
    table_of,
)


def select(content: dict[str, Any]) -> SetSelection:
    return SetSelection.of(parse_experiment(content))


def test_sets_are_joined_in_their_order_and_missing_ones_left_out(tmp_path: Path) -> None:
    sets = [RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two", "three")]
    commit(sets[0], "0.tar", DRAWS)
    commit(sets[1], "0.tar", [Draw("a", "caption a", "other a"), Draw("d", "caption d", "d d")])
    ours, others = ACCEPTED[A], ["other a"]
    for order, joined in [((0, 1, 2), [*ours, *others]), ((2, 1, 0), [*others, *ours])]:
        expected = {**ACCEPTED, A: joined, ("d", hash_caption("caption d")): ["d d"]}
        rewrites = RewriteSets(tuple(sets[number] for number in order)).rewrites("0.tar")
        assert rewrites == {key: Rewrites(texts) for key, texts in expected.items()}
    assert RewriteSets(tuple(sets)).rewrites("1.tar") is None


@case(
    "Identity",
    "`data.image_column` set for training after a captions-only rewriting: all ids change",
    "training finds the rewrites by row and caption",
)
def test_rewrites_are_found_under_other_ids_in_each_set(tmp_path: Path) -> None:
    sets = [RewriteSet(str(tmp_path / name), "gate") for name in ("by_hash", "by_path")]
    commit(sets[0], "0.csv", [Draw("h1", "caption 1", "first"), Draw("h2", "caption 2", "second")])
    commit(sets[1], "0.csv", [Draw("1.jpg", "caption 1", "third"), Draw("2.jpg", "caption 2", "fourth")])
    rewrites = RewriteSets(tuple(sets)).rewrites("0.csv")
    assert rewrites is not None
    for row, texts in enumerate((["first", "third"], ["second", "fourth"])):
        caption_hash = hash_caption(f"caption {row + 1}")
        for sample_id in (f"h{row + 1}", f"{row + 1}.jpg", "another id"):
            assert rewrites.of(sample_id, caption_hash, row) == Rewrites(texts)
    assert rewrites.of("h1", hash_caption("edited"), 0) is None


@case(
    "Identity",
    "a damaged file of one shard of a rewrite set, while training",
    "the shard shows its captions",
    counted_as="not_rewritten",
)
def test_a_damaged_shard_is_as_if_it_had_no_rewrites(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = three_and_one(tmp_path)
    storage.write_bytes(sets[0].draws_url("0.tar", 0), b"PAR1")
    assert RewriteSets(sets).rewrites("0.tar") == {A: Rewrites(["other a"])}
    assert "0.tar: its samples show captions" in caplog.text


def three_and_one(tmp_path: Path) -> tuple[RewriteSet, ...]:
    """A set with three rewrites of a sample, and one with one."""
    sets = tuple(RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two"))
    commit(sets[0], "0.tar", DRAWS)
    commit(sets[1], "0.tar", [Draw("a", "caption a", "other a")])
    return sets


def test_a_sets_weight_is_shared_by_its_rewrites_of_a_sample(tmp_path: Path) -> None:
    rewrites = RewriteSets(three_and_one(tmp_path), {"one": 0.6}).rewrites("0.tar")
    assert rewrites is not None
    assert list(rewrites[A].texts) == [*ACCEPTED[A], "other a"]
    assert list(rewrites[A].weights) == pytest.approx([0.2, 0.2, 0.2, 1.0])


def test_a_set_of_weight_0_is_not_read_and_need_not_exist(rewrite_set: RewriteSet) -> None:
    storage.write_json(storage.join(rewrite_set.location, "recipe.json"), {})
    commit(rewrite_set, "0.tar", one("text"))
    sets = committed_sets(
        select(
            {
                "name": "a",
                "output": "out",
                "data": {"path": "b"},
                "text": {"rewrites": [rewrite_set.location, "memory://nowhere/other"], "weights": {"other": 0.0}},
            }
        )
    )
    assert [rewrite_set.name for rewrite_set in sets.sets] == ["cleaned"]
    assert sets.rewrites("0.tar") == {A: Rewrites(["text"], [1.0])}


def test_only_the_rewrites_that_are_read_share_the_weight_of_their_set(tmp_path: Path) -> None:
    rewrites = RewriteSets(three_and_one(tmp_path), {"one": 0.6}, max_rewrites=2).rewrites("0.tar")
    assert rewrites is not None
    assert list(rewrites[A].weights) == pytest.approx([0.3, 0.3])


def test_at_most_max_rewrites_of_each_sample_are_read(tmp_path: Path) -> None:
    sets = RewriteSets(three_and_one(tmp_path), max_rewrites=2)
    rewrites = sets.rewrites("0.tar")
    assert rewrites is not None
    assert rewrites[A] == Rewrites(ACCEPTED[A][:2])
    assert sets.most_rewrites() == 2


def test_the_most_rewrites_add_up_over_all_sets(tmp_path: Path) -> None:
    sets = [RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two")]
    for rewrite_set, counts in zip(sets, [(1, 3), (2, 2)], strict=True):
        for shard, count in enumerate(counts):
            origin = replace(ORIGIN, rewrites_per_set=count)
            write_draws(rewrite_set, f"{shard}.tar", 0, table_of(DRAWS), origin)
    assert RewriteSets(tuple(sets)).most_rewrites() == 5


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"nobody": 1.0}, "there is no rewrite set 'nobody'; the sets are cleaned"), ({"cleaned": 0.0}, "text.p=0")],
)
def test_weights_that_cannot_be_applied_are_refused(weights: dict[str, float], message: str) -> None:
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": {"prompt_sets": ["cleaned"]}}
    with pytest.raises(UserError, match=message):
        committed_sets(select({**content, "text": {"weights": weights}}))


def test_a_set_that_was_growing_keeps_its_revision_when_it_is_pinned(tmp_path: Path) -> None:
    location = str(tmp_path / "cleaned")
    alone = RewriteSets((RewriteSet(location, "gate", newest_revision=3),))
    growing = RewriteSets((RewriteSet(location, "gate"),)).revisions()
    assert alone.pinned_at(growing) == alone
    assert alone.pinned_at({location: 1}).sets[0].newest_revision == 1
    assert alone.pinned_at({}) == alone


def lineage(rewrite_set: RewriteSet) -> dict[str, Any]:
    (of_set,) = RewriteSets((rewrite_set,)).lineage()
    return of_set


def test_lineage_names_recipe_gate_revision_and_committed_shards() -> None:
    rewrite_set = claimed()
    empty = lineage(rewrite_set)
    commit(rewrite_set, "0.tar", DRAWS)
    before = lineage(rewrite_set)
    assert before["fingerprint"] == fingerprint_of(recipe())
    assert before["gate"] == rewrite_set.gate
    assert before["newest_revision"] is None
    assert lineage(rewrite_set.pinned())["newest_revision"] == 0
    assert (empty["committed_shards"], before["committed_shards"]) == (0, 1)
    commit(rewrite_set, "1.tar", DRAWS)
    assert len({record["committed_digest"] for record in (empty, before, lineage(rewrite_set))}) == 3


@settings(max_examples=12)
@given(draws=some_draws.filter(bool), data=st.data())
def test_lineage_changes_with_any_verdict_or_text(draws: list[Draw], data: st.DataObject) -> None:
    rewrite_set = claimed()
    commit(rewrite_set, "0.tar", draws)
    before = lineage(rewrite_set)
    row = data.draw(st.sampled_from(range(len(draws))))
    other_reason = data.draw(reasons.filter(lambda reason: reason != draws[row].reason))
    for change in ({"reason": other_reason}, {"text": "another text"}):
        commit(rewrite_set, "0.tar", [*draws[:row], draws[row]._replace(**change), *draws[row + 1 :]])
        assert lineage(rewrite_set) != before
    commit(rewrite_set, "0.tar", draws)
    assert lineage(rewrite_set) == before


def test_lineage_does_not_change_with_facts_that_training_does_not_see() -> None:
    rewrite_set = claimed()
    commit(rewrite_set, "0.tar", DRAWS)
    before = lineage(rewrite_set)
    restamp_verdicts(rewrite_set, "0.tar", 0, replace(ORIGIN, file_identity="11-2.5"))
    assert lineage(rewrite_set) == before
    commit(rewrite_set, "0.tar", [draw._replace(output_tokens=9, problems="") for draw in DRAWS])
    assert lineage(rewrite_set) == before
    commit(rewrite_set, "0.tar", DRAWS, revision=1)
    assert lineage(rewrite_set) == before
    commit_verdicts(replace(rewrite_set, gate="other"), "0.tar", 1, table_of(DRAWS), reasons_of(DRAWS), ORIGIN)
    assert lineage(rewrite_set) == before


def test_configured_sets_are_the_sets_of_rewriting_unless_others_are_named() -> None:
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": {"prompt_sets": ["cleaned", "crowd"]}}
    sets = configured_sets(select(content)).sets
    assert [rewrite_set.location for rewrite_set in sets] == ["out/rewrites/cleaned", "out/rewrites/crowd"]
    assert {rewrite_set.gate for rewrite_set in sets} == {gate_fingerprint(GateConfig(), "ViT-B-32")}
    named = configured_sets(select({**content, "text": {"rewrites": ["memory://bucket/x"]}})).sets
    assert [(rewrite_set.location, rewrite_set.name) for rewrite_set in named] == [("memory://bucket/x", "x")]


def test_configured_sets_ignore_later_revisions(tmp_path: Path) -> None:
    rewrite_set = RewriteSet(str(tmp_path / "cleaned"), gate_fingerprint(GateConfig(), "ViT-B-32"))
    commit(rewrite_set, "0.tar", one("old"), 1)
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "text": {"rewrites": [rewrite_set.location]}}
    sets = configured_sets(select(content))
    commit(rewrite_set, "0.tar", one("new"), 2)
    assert sets.rewrites("0.tar") == {A: Rewrites(["old"])}
    assert configured_sets(select(content)).rewrites("0.tar") == {A: Rewrites(["new"])}
