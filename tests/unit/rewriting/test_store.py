"""What is committed is read back by who may see it, and nothing of another recipe or caption is taken for ours."""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import GateConfig, PictureGateConfig, RewriteConfig, SamplingConfig, parse_experiment
from laclip_ray.data.records import hash_caption
from laclip_ray.data.text_choice import Rewrites
from laclip_ray.errors import UserError
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.prompts import load_prompt_set
from laclip_ray.rewriting.recipe import build_recipe, fingerprint_of, gate_fingerprint
from laclip_ray.rewriting.sets import RewriteSets, SetSelection, committed_sets, configured_sets
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.store import (
    RewriteSet,
    check_location,
    commit_verdicts,
    digest_inputs,
    open_for_writing,
    restamp_verdicts,
    write_draws,
)
from laclip_ray.rewriting.tables import DRAWN, Origin

ORIGIN = Origin(file_identity="10-1.5", inputs="abc", rewrites_per_set=3, engine_s=2.5, gpu_s=5.0)


class Draw(NamedTuple):
    """A row of a draws table and the gate's answer to it."""

    id: str
    caption: str
    text: str | None
    reason: str | None = None
    draw: int = 0
    attempt: int = 0
    problems: str = ""
    output_tokens: int = 2


def table_of(draws: Sequence[Draw]) -> pa.Table:
    rows = [
        {
            "id": each.id,
            "caption_hash": hash_caption(each.caption),
            "caption": each.caption,
            "problems": each.problems,
            "draw": each.draw,
            "attempt": each.attempt,
            "head": 3,
            "outcome": each.reason if each.text is None else DRAWN,
            "text": each.text,
            "truncated": False,
            "prompt_tokens": 10,
            "cached_tokens": 6,
            "output_tokens": each.output_tokens,
        }
        for each in draws
    ]
    return pa.Table.from_pylist(rows, schema=tables.DRAWS_SCHEMA)


def reasons_of(draws: Sequence[Draw]) -> pa.Array:
    return pa.array([each.reason for each in draws], pa.string())


def commit(
    rewrite_set: RewriteSet, shard: str, draws: Sequence[Draw], revision: int = 0, origin: Origin = ORIGIN
) -> Statistics:
    table = table_of(draws)
    write_draws(rewrite_set, shard, revision, table, origin)
    return commit_verdicts(rewrite_set, shard, revision, table, reasons_of(draws), origin)


A, B, C = (("a", hash_caption("caption a")), ("b", hash_caption("caption b")), ("c", hash_caption("")))
DRAWS = [
    Draw("a", "caption a", "first a"),
    Draw("a", "caption a", "a", "too_short", draw=1),
    Draw("a", "caption a", "second a", draw=1, attempt=1),
    Draw("a", "caption a", "third a", draw=2),
    Draw("b", "caption b", "b", "too_short", problems="duplicate_id"),
    Draw("c", "", None, "caption_empty", problems="caption_empty,image_missing", output_tokens=0),
]
ACCEPTED = {A: ["first a", "second a", "third a"], B: [], C: []}


def one(text: str) -> list[Draw]:
    """The draws of a shard with one sample."""
    return [Draw("a", "caption a", text)]


@pytest.fixture(params=["local", "memory"])
def rewrite_set(request: pytest.FixtureRequest, tmp_path: Path) -> RewriteSet:
    location = str(tmp_path / "human") if request.param == "local" else f"memory://unit-{uuid.uuid4().hex}/human"
    return RewriteSet(location, gate_fingerprint(GateConfig()))


def in_memory() -> RewriteSet:
    return RewriteSet(f"memory://unit-{uuid.uuid4().hex}/human", "gate")


# --- one shard


def test_accepted_rewrites_are_read_back_in_the_order_of_their_draws(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    assert rewrite_set.accepted("0.tar") == ACCEPTED


reasons = st.none() | st.sampled_from(["too_short", "looping"])
some_draws = st.lists(
    st.tuples(st.sampled_from("ab"), st.lists(st.lists(reasons, min_size=1, max_size=3), min_size=1, max_size=3)),
    max_size=4,
).map(
    lambda samples: [
        Draw(f"k{row}", f"caption {caption}", f"text {row} {draw} {attempt}", reason, draw, attempt)
        for row, (caption, draws) in enumerate(samples)
        for draw, attempts in enumerate(draws)
        for attempt, reason in enumerate(attempts)
    ]
)


@settings(max_examples=40)
@given(draws=some_draws)
def test_the_first_accepted_attempt_of_each_draw_counts(draws: list[Draw]) -> None:
    rewrite_set = in_memory()
    commit(rewrite_set, "0.tar", draws)
    expected: dict[tuple[str, str], list[str]] = {}
    for each in draws:
        expected.setdefault((each.id, hash_caption(each.caption)), [])
    for key, texts in expected.items():
        for draw in range(3):
            attempts = [each for each in draws if each.id == key[0] and each.draw == draw and each.reason is None]
            texts.extend(each.text or "" for each in attempts[:1])
    assert rewrite_set.accepted("0.tar") == expected


def test_draws_are_kept_whatever_the_gate_says(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    kept = storage.read_parquet(rewrite_set.draws_url("0.tar", 0))
    assert kept.replace_schema_metadata(None).equals(table_of(DRAWS))


def test_a_shard_is_read_with_the_reason_of_each_draw(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    found = rewrite_set.read("0.tar", 0)
    assert found.select(tables.DRAWS_SCHEMA.names).replace_schema_metadata(None).equals(table_of(DRAWS))
    assert found.column("reason").to_pylist() == [each.reason for each in DRAWS]


def test_an_edited_caption_finds_nothing(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    accepted = rewrite_set.accepted("0.tar")
    assert accepted is not None
    assert ("a", hash_caption("caption a, edited")) not in accepted


@pytest.mark.parametrize("shard", ["0.tar", "sub/0.tar", "a.parquet.000000010"])
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


def test_verdicts_without_draws_commit_nothing(rewrite_set: RewriteSet) -> None:
    commit_verdicts(rewrite_set, "0.tar", 0, table_of(DRAWS), reasons_of(DRAWS), ORIGIN)
    assert (rewrite_set.drawn_revisions(), rewrite_set.committed_revisions()) == ({}, {})


def test_another_gate_sees_the_draws_but_not_the_verdicts(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    other = RewriteSet(rewrite_set.location, gate_fingerprint(GateConfig(min_words=3)))
    assert (other.drawn_revisions(), other.committed_revisions()) == ({"0.tar": 0}, {})
    assert other.accepted("0.tar") is None
    commit_verdicts(other, "0.tar", 0, table_of(DRAWS), pa.array(["too_short"] * len(DRAWS)), ORIGIN)
    assert other.accepted("0.tar") == {A: [], B: [], C: []}
    assert rewrite_set.accepted("0.tar") == ACCEPTED


def test_files_that_are_being_written_are_not_seen(tmp_path: Path) -> None:
    local = RewriteSet(str(tmp_path / "human"), "gate")
    commit(local, "0.tar", DRAWS)
    for url in (local.draws_url("1.tar", 0), local.verdicts_url("1.tar", 0)):
        storage.write_bytes(url, b"")
        Path(url).rename(f"{url}{storage.ASIDE_MARK}0")
    assert local.drawn_revisions() == local.committed_revisions() == {"0.tar": 0}


def test_a_shard_without_rows_can_be_committed(rewrite_set: RewriteSet) -> None:
    found = commit(rewrite_set, "0.tar", [])
    assert found == Statistics(engine_s=ORIGIN.engine_s, gpu_s=ORIGIN.gpu_s)
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


def test_an_older_revision_stays_for_who_reads_it(rewrite_set: RewriteSet) -> None:
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


# --- what is known of a shard


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
    assert {shard: known.statistics for shard, known in described.items()} == counted
    assert {shard: known.revision for shard, known in described.items()} == {"0.tar": 0, "1.tar": 3}
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
    digests = [digest_inputs([id for id, _ in each], [hashed for _, hashed in each]) for each in (first, second)]
    assert (digests[0] == digests[1]) == (first == second)
    assert digest_inputs((id for id, _ in first), (hashed for _, hashed in first)) == digests[0]


# --- fingerprints


characters = st.characters(codec="utf-8")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(characters), json_values, max_size=5)


@given(content=json_objects)
def test_a_fingerprint_survives_json_and_the_order_of_keys(content: dict[str, Any]) -> None:
    reordered = dict(reversed(list(content.items())))
    assert fingerprint_of(json.loads(json.dumps(reordered))) == fingerprint_of(content)


@given(first=json_objects, second=json_objects)
def test_different_contents_have_different_fingerprints(first: dict[str, Any], second: dict[str, Any]) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint_of(first) == fingerprint_of(second)) == same


@given(content=json_objects, key=st.text(characters), value=json_values)
def test_any_change_of_a_value_changes_the_fingerprint(content: dict[str, Any], key: str, value: object) -> None:
    assume(key not in content or json.dumps(content[key], sort_keys=True) != json.dumps(value, sort_keys=True))
    assert fingerprint_of({**content, key: value}) != fingerprint_of(content)


def test_every_setting_of_a_gate_changes_its_fingerprint() -> None:
    defaults = GateConfig().model_dump()
    changed = {name: not value if isinstance(value, bool) else (value or 0) + 1 for name, value in defaults.items()}
    changed["picture"] = PictureGateConfig(model="ViT-B-32", pretrained="openai")
    found = {gate_fingerprint(GateConfig(**{**defaults, name: value})) for name, value in changed.items()}
    assert len({gate_fingerprint(GateConfig()), *found}) == len(defaults) + 1
    assert gate_fingerprint(GateConfig(**defaults)) == gate_fingerprint(GateConfig())


def recipe(seed: int = 0, prompt_set: str = "human", **changes: Any) -> dict[str, Any]:
    rewrite = RewriteConfig(**{"model": "org/model", **changes})
    return build_recipe(rewrite, load_prompt_set(prompt_set), seed)


DECIDES: dict[str, list[Any]] = {
    "model": ["org/other"],
    "revision": ["v2"],
    "mode": ["chat"],
    "template": ["reference"],
    "heads": [8],
    "max_caption_characters": [9],
    "sampling": [SamplingConfig(temperature=0.5), SamplingConfig(top_p=0.5), SamplingConfig(max_tokens=9)],
}
"""Settings that change what the model writes, each with other values than the default."""
DOES_NOT_DECIDE: dict[str, Any] = {
    "delivery": "inline",
    "output": "elsewhere",
    "prompt_sets": ["human"],
    "rewrites_per_set": 5,
    "redraws": 3,
    "engine": {"shards_in_flight": 9, "tensor_parallel_size": 2, "args": {"max_model_len": 512}},
    "gate": {"min_words": 0},
    "max_engine_deaths": 9,
    "price": "a price",
    "prices": "prices.yaml",
    "budget": {"gpu_hours": 1.0},
}


def test_every_setting_of_rewriting_is_known_to_decide_what_is_written_or_not_to() -> None:
    assert {*DECIDES, *DOES_NOT_DECIDE} == set(RewriteConfig.model_fields)
    assert not DECIDES.keys() & DOES_NOT_DECIDE.keys()


def test_all_that_decides_what_the_model_writes_changes_the_fingerprint() -> None:
    recipes = [recipe(), recipe(seed=1), recipe(prompt_set="crowd")]
    recipes += [recipe(**{name: value}) for name, values in DECIDES.items() for value in values]
    recipes.append(recipe(engine={"args": {"quantization": "fp8"}}))
    assert len({fingerprint_of(each) for each in recipes}) == len(recipes)


@pytest.mark.parametrize("name", DOES_NOT_DECIDE)
def test_what_does_not_decide_it_leaves_the_recipe(name: str) -> None:
    assert recipe(**{name: DOES_NOT_DECIDE[name]}) == recipe()


def test_a_local_models_files_are_part_of_its_recipe(tmp_path: Path) -> None:
    model = tmp_path / "model"
    storage.write_bytes(str(model / "config.json"), b"{}")
    before = recipe(model=str(model))
    assert recipe(model=str(model)) == before
    storage.write_bytes(str(model / "config.json"), b"[]")
    assert recipe(model=str(model))["weights"] != before["weights"]
    assert recipe(model="org/model")["weights"] is None


# --- places


def claim(location: str, recipe: dict[str, Any], setting: str) -> object:
    return open_for_writing(location, recipe, GateConfig(), setting)


CLAIMS: tuple[Callable[[str, dict[str, Any], str], object], ...] = (check_location, claim)


def test_a_place_is_claimed_once_and_taken_again_by_its_recipe(rewrite_set: RewriteSet) -> None:
    location = rewrite_set.location
    first = open_for_writing(location, recipe(), GateConfig(), "rewrite.output")
    written = storage.read_bytes(f"{location}/recipe.json")
    assert first == rewrite_set
    assert json.loads(written)["fingerprint"] == fingerprint_of(recipe())
    assert json.loads(written)["recipe"] == recipe()
    assert open_for_writing(location, recipe(), GateConfig(), "rewrite.output") == first
    assert storage.read_bytes(f"{location}/recipe.json") == written


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        (recipe(seed=1, heads=8), "heads, seed"),
        (recipe(prompt_set="crowd"), "pairs, prompt_set"),
        (recipe(sampling=SamplingConfig(temperature=0.5)), "sampling"),
    ],
)
def test_another_recipe_in_a_place_is_refused_and_what_differs_is_named(
    rewrite_set: RewriteSet, other: dict[str, Any], differ: str
) -> None:
    location = rewrite_set.location
    open_for_writing(location, recipe(), GateConfig(), "rewrite.output")
    for act in CLAIMS:
        with pytest.raises(UserError, match=rf"rewrite\.output: .* another rewrite set \({differ} differ\)"):
            act(location, other, "rewrite.output")
    assert storage.read_json(f"{location}/recipe.json")["recipe"] == recipe()


def test_a_place_with_other_files_is_refused_and_left_alone(rewrite_set: RewriteSet) -> None:
    storage.write_bytes(f"{rewrite_set.location}/photo.jpg", b"x")
    for act in CLAIMS:
        with pytest.raises(UserError, match=r"rewrite\.output: .* holds files, but no rewrite set"):
            act(rewrite_set.location, recipe(), "rewrite.output")
    assert [storage.name_of(url) for url in storage.list_files(rewrite_set.location)] == ["photo.jpg"]


def test_checking_a_place_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_location(str(tmp_path / "empty"), recipe(), "rewrite.output")
    check_location(str(tmp_path / "none"), recipe(), "rewrite.output")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


# --- several sets


def select(content: dict[str, Any]) -> SetSelection:
    return SetSelection.of(parse_experiment(content))


def test_sets_are_joined_in_their_order_and_missing_ones_left_out(tmp_path: Path) -> None:
    sets = [RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two", "three")]
    commit(sets[0], "0.tar", DRAWS)
    commit(sets[1], "0.tar", [Draw("a", "caption a", "other a"), Draw("d", "caption d", "d d")])
    ours, others = ACCEPTED[A], ["other a"]
    for order, joined in [((0, 1, 2), [*ours, *others]), ((2, 1, 0), [*others, *ours])]:
        expected = {**ACCEPTED, A: joined, ("d", hash_caption("caption d")): ["d d"]}
        found = RewriteSets(tuple(sets[number] for number in order)).rewrites("0.tar")
        assert found == {key: Rewrites(texts) for key, texts in expected.items()}
    assert RewriteSets(tuple(sets)).rewrites("1.tar") is None


def three_and_one(tmp_path: Path) -> tuple[RewriteSet, ...]:
    """A set with three rewrites of a sample, and one with one."""
    sets = tuple(RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two"))
    commit(sets[0], "0.tar", DRAWS)
    commit(sets[1], "0.tar", [Draw("a", "caption a", "other a")])
    return sets


def test_a_sets_weight_is_shared_by_its_rewrites_of_a_sample(tmp_path: Path) -> None:
    found = RewriteSets(three_and_one(tmp_path), {"one": 0.6}).rewrites("0.tar")
    assert found is not None
    assert list(found[A].texts) == [*ACCEPTED[A], "other a"]
    assert list(found[A].weights) == pytest.approx([0.2, 0.2, 0.2, 1.0])


def test_a_set_of_weight_0_is_not_read_and_need_not_be_there(rewrite_set: RewriteSet) -> None:
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
    assert [each.name for each in sets.sets] == ["human"]
    assert sets.rewrites("0.tar") == {A: Rewrites(["text"], [1.0])}


def test_the_weight_of_a_set_is_shared_by_those_of_its_rewrites_that_are_read(tmp_path: Path) -> None:
    found = RewriteSets(three_and_one(tmp_path), {"one": 0.6}, max_rewrites=2).rewrites("0.tar")
    assert found is not None
    assert list(found[A].weights) == pytest.approx([0.3, 0.3])


def test_only_the_first_rewrites_of_each_sample_are_read_where_so_many_are_wanted(tmp_path: Path) -> None:
    sets = RewriteSets(three_and_one(tmp_path), max_rewrites=2)
    found = sets.rewrites("0.tar")
    assert found is not None
    assert found[A] == Rewrites(ACCEPTED[A][:2])
    assert sets.most_rewrites() == 2


def test_the_most_rewrites_are_those_asked_for_in_all_sets_together(tmp_path: Path) -> None:
    sets = [RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two")]
    for rewrite_set, counts in zip(sets, [(1, 3), (2, 2)], strict=True):
        for shard, count in enumerate(counts):
            origin = replace(ORIGIN, rewrites_per_set=count)
            write_draws(rewrite_set, f"{shard}.tar", 0, table_of(DRAWS), origin)
    assert RewriteSets(tuple(sets)).most_rewrites() == 5


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"nobody": 1.0}, "there is no rewrite set 'nobody'; the sets are human"), ({"human": 0.0}, "text.p=0")],
)
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float], message: str) -> None:
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": {"prompt_sets": ["human"]}}
    with pytest.raises(UserError, match=message):
        committed_sets(select({**content, "text": {"weights": weights}}))


def test_a_set_that_was_being_made_is_pinned_at_what_it_has_when_it_is_read_alone(tmp_path: Path) -> None:
    location = str(tmp_path / "human")
    alone = RewriteSets((RewriteSet(location, "gate", newest_revision=3),))
    made = RewriteSets((RewriteSet(location, "gate"),)).revisions()
    assert alone.pinned_at(made) == alone
    assert alone.pinned_at({location: 1}).sets[0].newest_revision == 1
    assert alone.pinned_at({}) == alone


def claimed() -> RewriteSet:
    location = f"memory://unit-{uuid.uuid4().hex}/human"
    return open_for_writing(location, recipe(), GateConfig(), "rewrite.output")


def lineage(rewrite_set: RewriteSet) -> dict[str, Any]:
    (found,) = RewriteSets((rewrite_set,)).lineage()
    return found


def test_lineage_names_recipe_gate_revision_and_the_shards_there_are_now() -> None:
    rewrite_set = claimed()
    empty = lineage(rewrite_set)
    commit(rewrite_set, "0.tar", DRAWS)
    before = lineage(rewrite_set)
    assert before["fingerprint"] == fingerprint_of(recipe())
    assert before["gate"] == gate_fingerprint(GateConfig())
    assert before["newest_revision"] is None
    assert lineage(rewrite_set.pinned())["newest_revision"] == 0
    assert (empty["committed_shards"], before["committed_shards"]) == (0, 1)
    commit(rewrite_set, "1.tar", DRAWS)
    assert len({each["committed_digest"] for each in (empty, before, lineage(rewrite_set))}) == 3


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


def test_lineage_does_not_change_with_what_training_does_not_see() -> None:
    rewrite_set = claimed()
    commit(rewrite_set, "0.tar", DRAWS)
    before = lineage(rewrite_set)
    restamp_verdicts(rewrite_set, "0.tar", 0, replace(ORIGIN, file_identity="11-2.5"))
    assert lineage(rewrite_set) == before
    commit(rewrite_set, "0.tar", [each._replace(output_tokens=9, problems="") for each in DRAWS])
    assert lineage(rewrite_set) == before
    commit(rewrite_set, "0.tar", DRAWS, revision=1)
    assert lineage(rewrite_set) == before
    commit_verdicts(replace(rewrite_set, gate="other"), "0.tar", 1, table_of(DRAWS), reasons_of(DRAWS), ORIGIN)
    assert lineage(rewrite_set) == before


def test_configured_sets_are_those_of_rewriting_unless_others_are_named() -> None:
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": {"prompt_sets": ["human", "crowd"]}}
    found = configured_sets(select(content)).sets
    assert [each.location for each in found] == ["out/rewrites/human", "out/rewrites/crowd"]
    assert {each.gate for each in found} == {gate_fingerprint(GateConfig())}
    named = configured_sets(select({**content, "text": {"rewrites": ["memory://bucket/x"]}})).sets
    assert [(each.location, each.name) for each in named] == [("memory://bucket/x", "x")]


def test_configured_sets_ignore_revisions_that_are_made_later(tmp_path: Path) -> None:
    rewrite_set = RewriteSet(str(tmp_path / "human"), gate_fingerprint(GateConfig()))
    commit(rewrite_set, "0.tar", one("old"), 1)
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "text": {"rewrites": [rewrite_set.location]}}
    sets = configured_sets(select(content))
    commit(rewrite_set, "0.tar", one("new"), 2)
    assert sets.rewrites("0.tar") == {A: Rewrites(["old"])}
    assert configured_sets(select(content)).rewrites("0.tar") == {A: Rewrites(["new"])}
