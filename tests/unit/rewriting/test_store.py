"""What is committed is read back, counts add up, and nothing of another recipe or caption is taken for ours."""

import json
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import GateConfig, RewriteConfig, SamplingConfig, parse_experiment
from laclip_ray.data.shards import hash_caption
from laclip_ray.errors import UserError
from laclip_ray.rewriting import store
from laclip_ray.rewriting.prompts import load_prompt_set
from laclip_ray.rewriting.store import (
    DRAWN,
    RewriteSet,
    RewriteSets,
    Statistics,
    build_recipe,
    check_place,
    commit_draws,
    commit_verdicts,
    configured_sets,
    fingerprint_of,
    gate_fingerprint,
    open_for_writing,
    read_statistics,
)

Draw = tuple[str, str, int, str | None, str | None, str]
"""(id, caption, draw, text, the reason to refuse it, problems)."""


def table_of(draws: Sequence[Draw]) -> pa.Table:
    rows = [
        {
            "id": sample_id,
            "caption_hash": hash_caption(caption),
            "caption": caption,
            "problems": problems,
            "draw": draw,
            "head": None if text is None else 3,
            "outcome": DRAWN if text is not None else reason,
            "text": text,
            "truncated": False,
            "prompt_tokens": 10,
            "cached_tokens": 6,
            "output_tokens": 2,
        }
        for sample_id, caption, draw, text, reason, problems in draws
    ]
    return pa.Table.from_pylist(rows, schema=store.DRAWS_SCHEMA)


def commit(rewrite_set: RewriteSet, shard: str, draws: Sequence[Draw]) -> Statistics:
    table = table_of(draws)
    commit_draws(rewrite_set, shard, table)
    return commit_verdicts(rewrite_set, shard, table, [reason for *_, reason, _ in draws])


DRAWS: list[Draw] = [
    ("a", "caption a", 0, "first a", None, ""),
    ("a", "caption a", 1, "a", "too_short", ""),
    ("a", "caption a", 2, "third a", None, ""),
    ("b", "caption b", 0, "b", "too_short", "duplicate_id"),
    ("c", "", 0, None, "caption_empty", "caption_empty,image_missing"),
]


@pytest.fixture(params=["local", "memory"])
def rewrite_set(request: pytest.FixtureRequest, tmp_path: Path) -> RewriteSet:
    location = str(tmp_path / "human") if request.param == "local" else f"memory://unit-{uuid.uuid4().hex}/human"
    return RewriteSet(location, gate_fingerprint(GateConfig()))


def test_accepted_rewrites_are_read_back_in_the_order_of_their_draws(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    assert rewrite_set.accepted("0.tar") == {
        ("a", hash_caption("caption a")): ["first a", "third a"],
        ("b", hash_caption("caption b")): [],
        ("c", hash_caption("")): [],
    }


def test_draws_are_kept_whatever_the_gate_says(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    kept = storage.read_parquet(rewrite_set.draws_url("0.tar"))
    assert kept.equals(table_of(DRAWS))
    assert kept.column("text").to_pylist() == [text for *_, text, _, _ in DRAWS]


def test_an_edited_caption_finds_nothing(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    accepted = rewrite_set.accepted("0.tar")
    assert accepted is not None
    assert ("a", hash_caption("caption a, edited")) not in accepted


def test_a_shard_is_committed_by_its_verdicts(rewrite_set: RewriteSet) -> None:
    table = table_of(DRAWS)
    commit_draws(rewrite_set, "sub/0.tar", table)
    assert rewrite_set.drawn_shards() == {"sub/0.tar"}
    assert rewrite_set.committed_shards() == set()
    assert rewrite_set.accepted("sub/0.tar") is None
    commit_verdicts(rewrite_set, "sub/0.tar", table, [None] * 5)
    assert rewrite_set.committed_shards() == {"sub/0.tar"}
    assert rewrite_set.accepted("sub/0.tar") is not None


def test_another_gate_sees_the_draws_but_not_the_verdicts(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    other = RewriteSet(rewrite_set.location, gate_fingerprint(GateConfig(min_words=3)))
    assert other.drawn_shards() == {"0.tar"}
    assert other.committed_shards() == set()
    assert other.accepted("0.tar") is None
    commit_verdicts(other, "0.tar", table_of(DRAWS), ["too_short"] * 5)
    assert other.accepted("0.tar") == {key: [] for key in rewrite_set.accepted("0.tar") or ()}
    assert (rewrite_set.accepted("0.tar") or {})["a", hash_caption("caption a")] == ["first a", "third a"]


def test_files_that_are_being_written_are_not_seen(tmp_path: Path) -> None:
    local = RewriteSet(str(tmp_path / "human"), "gate")
    commit(local, "0.tar", DRAWS)
    for url in (local.draws_url("1.tar"), local.verdicts_url("1.tar")):
        storage.write_bytes(url, b"")
        Path(url).rename(f"{url}{storage.ASIDE_MARK}0")
    assert local.drawn_shards() == local.committed_shards() == {"0.tar"}


def test_statistics_count_captions_draws_reasons_and_problems(rewrite_set: RewriteSet) -> None:
    found = commit(rewrite_set, "0.tar", DRAWS)
    assert found == Statistics(
        captions=3,
        accepted=2,
        captions_without_rewrite=2,
        rejected=Counter({"too_short": 2, "caption_empty": 1}),
        problems=Counter({"duplicate_id": 1, "caption_empty": 1, "image_missing": 1}),
        named={"too_short": ["a", "b"], "duplicate_id": ["b"], "caption_empty": ["c"], "image_missing": ["c"]},
        prompt_tokens=50,
        cached_tokens=30,
        output_tokens=10,
    )
    assert read_statistics(rewrite_set, ["0.tar"]) == found


reasons = st.none() | st.sampled_from(["too_short", "looping"])
shard_draws = st.lists(st.lists(reasons, min_size=1, max_size=3), max_size=5).map(
    lambda captions: [
        (f"k{number}", f"caption {number}", draw, f"text {draw}", reason, "duplicate_id" if number % 2 else "")
        for number, draws in enumerate(captions)
        for draw, reason in enumerate(draws)
    ]
)


@settings(max_examples=30)
@given(parts=st.lists(shard_draws, max_size=4))
def test_counts_add_up_over_shards(parts: list[list[Draw]]) -> None:
    rewrite_set = RewriteSet(f"memory://unit-{uuid.uuid4().hex}", "gate")
    for number, draws in enumerate(parts):
        commit(rewrite_set, f"{number}.tar", draws)
    total = read_statistics(rewrite_set, [f"{number}.tar" for number in range(len(parts))])
    every = [draw for draws in parts for draw in draws]
    captions = [{sample_id for sample_id, *_ in draws} for draws in parts]
    with_rewrite = [{draw[0] for draw in draws if draw[4] is None} for draws in parts]
    assert total.captions == sum(map(len, captions))
    assert total.captions_without_rewrite + sum(map(len, with_rewrite)) == total.captions
    assert total.accepted + total.rejected.total() == len(every)
    assert total.rejected == Counter(draw[4] for draw in every if draw[4] is not None)
    assert total.output_tokens == 2 * len(every)


def test_statistics_survive_json() -> None:
    counts = Statistics(3, 2, 1, Counter({"empty": 2}), Counter({"duplicate_id": 1}), {"empty": ["a"]}, 1, 2, 3)
    assert Statistics.from_json(json.loads(json.dumps(counts.to_json()))) == counts


def test_only_the_first_ids_are_named_and_each_once() -> None:
    draws: list[Draw] = [(f"k{n}", f"c{n}", draw, "x", "too_short", "") for n in range(30) for draw in range(2)]
    counts = Statistics.of(table_of(draws), ["too_short"] * 60)
    assert counts.named == {"too_short": [f"k{n}" for n in range(20)]}
    counts.add(counts)
    assert len(counts.named["too_short"]) == 20


def test_a_shard_without_rows_can_be_committed(rewrite_set: RewriteSet) -> None:
    assert commit(rewrite_set, "0.tar", []) == Statistics()
    assert rewrite_set.accepted("0.tar") == {}


# --- fingerprints


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=5)


@given(content=json_objects)
def test_a_fingerprint_survives_json_and_the_order_of_keys(content: dict[str, Any]) -> None:
    reordered = dict(reversed(list(content.items())))
    assert fingerprint_of(json.loads(json.dumps(reordered))) == fingerprint_of(content)


@given(first=json_objects, second=json_objects)
def test_different_contents_have_different_fingerprints(first: dict[str, Any], second: dict[str, Any]) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint_of(first) == fingerprint_of(second)) == same


def test_every_setting_of_a_gate_changes_its_fingerprint() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"min_words": 3},
        {"max_context_tokens": None},
        {"drop_truncated": False},
        {"drop_copies": False},
        {"drop_prompt_echo": False},
        {"max_repeated_words": 5},
        {"min_shared_words": 2},
    ]
    assert {name for change in changes for name in change} == set(GateConfig.model_fields)
    assert len({gate_fingerprint(GateConfig(**change)) for change in changes}) == len(changes)
    assert gate_fingerprint(GateConfig()) == gate_fingerprint(GateConfig(min_words=2))


def recipe(seed: int = 0, prompt_set: str = "human", **changes: Any) -> dict[str, Any]:
    rewrite = RewriteConfig(**{"model": "org/model", **changes})
    return build_recipe(rewrite, load_prompt_set(prompt_set), seed)


def test_all_that_decides_what_the_model_writes_changes_the_fingerprint() -> None:
    recipes = [
        recipe(),
        recipe(seed=1),
        recipe(prompt_set="crowd"),
        recipe(model="org/other"),
        recipe(revision="v2"),
        recipe(mode="chat"),
        recipe(heads=8),
        recipe(rewrites_per_set=2),
        recipe(max_caption_characters=9),
        recipe(sampling=SamplingConfig(temperature=0.5)),
        recipe(sampling=SamplingConfig(top_p=0.5)),
        recipe(sampling=SamplingConfig(max_tokens=9)),
    ]
    assert len({fingerprint_of(each) for each in recipes}) == len(recipes)


def test_what_does_not_decide_it_leaves_the_fingerprint() -> None:
    same = recipe(output="elsewhere", max_engine_deaths=9, gate=GateConfig(min_words=0), prompt_sets=["human"])
    assert fingerprint_of(same) == fingerprint_of(recipe())


def test_a_local_models_files_are_part_of_its_recipe(tmp_path: Path) -> None:
    model = tmp_path / "model"
    storage.write_bytes(str(model / "config.json"), b"{}")
    before = recipe(model=str(model))
    assert recipe(model=str(model)) == before
    storage.write_bytes(str(model / "config.json"), b"[]")
    assert recipe(model=str(model))["weights"] != before["weights"]
    assert recipe(model="org/model")["weights"] is None


# --- places


def test_a_place_is_claimed_once_and_taken_again_by_its_recipe(tmp_path: Path) -> None:
    location = str(tmp_path / "human")
    first = open_for_writing(location, recipe(), GateConfig(), "rewrite.output")
    written = storage.read_bytes(f"{location}/recipe.json")
    assert json.loads(written)["fingerprint"] == fingerprint_of(recipe())
    assert json.loads(written)["recipe"] == recipe()
    assert open_for_writing(location, recipe(), GateConfig(), "rewrite.output") == first
    assert storage.read_bytes(f"{location}/recipe.json") == written


def test_another_recipe_in_a_place_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    location = str(tmp_path / "human")
    open_for_writing(location, recipe(), GateConfig(), "rewrite.output")
    other = recipe(seed=1, heads=8)
    with pytest.raises(UserError, match=r"rewrite\.output: .* another recipe \(heads, seed differ\)"):
        open_for_writing(location, other, GateConfig(), "rewrite.output")
    assert storage.read_json(f"{location}/recipe.json")["recipe"] == recipe()


def test_a_place_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"rewrite\.output: .* holds files, but no rewrite set"):
        open_for_writing(str(tmp_path), recipe(), GateConfig(), "rewrite.output")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_checking_a_place_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_place(str(tmp_path / "empty"), recipe(), "rewrite.output")
    check_place(str(tmp_path / "none"), recipe(), "rewrite.output")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


# --- several sets


def test_sets_are_joined_in_their_order_and_missing_ones_left_out(tmp_path: Path) -> None:
    sets = [RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two", "three")]
    commit(sets[0], "0.tar", DRAWS)
    commit(sets[1], "0.tar", [("a", "caption a", 0, "other a", None, ""), ("d", "caption d", 0, "d d", None, "")])
    joined = RewriteSets(tuple(sets))
    assert joined.accepted("0.tar") == {
        ("a", hash_caption("caption a")): ["first a", "third a", "other a"],
        ("b", hash_caption("caption b")): [],
        ("c", hash_caption("")): [],
        ("d", hash_caption("caption d")): ["d d"],
    }
    assert joined.accepted("1.tar") is None


def test_lineage_names_recipe_gate_and_the_shards_there_are_now(tmp_path: Path) -> None:
    one = open_for_writing(str(tmp_path / "human"), recipe(), GateConfig(), "rewrite.output")
    (empty,) = RewriteSets((one,)).lineage()
    commit(one, "0.tar", DRAWS)
    (before,) = RewriteSets((one,)).lineage()
    assert before["fingerprint"] == fingerprint_of(recipe())
    assert before["gate"] == gate_fingerprint(GateConfig())
    assert (empty["committed_shards"], before["committed_shards"]) == (0, 1)
    assert RewriteSets((one,)).lineage() == [before]
    commit(one, "1.tar", DRAWS)
    (after,) = RewriteSets((one,)).lineage()
    assert len({each["committed_digest"] for each in (empty, before, after)}) == 3


def test_configured_sets_are_those_of_rewriting_unless_others_are_named() -> None:
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": {"prompt_sets": ["human", "crowd"]}}
    found = configured_sets(parse_experiment(content)).sets
    assert [each.location for each in found] == ["out/rewrites/human", "out/rewrites/crowd"]
    assert {each.gate for each in found} == {gate_fingerprint(GateConfig())}
    named = configured_sets(parse_experiment({**content, "text": {"rewrites": ["s3://bucket/x"]}})).sets
    assert [(each.location, each.name) for each in named] == [("s3://bucket/x", "x")]
