"""Rewrites of several sets are merged by slot: accepted ones with their scores, refused and missing ones by weight."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import parse_experiment
from laclip_ray.data.text_choice import Rewrites
from laclip_ray.rewriting.storing.sets import RewriteSets, SetSelection, committed_sets
from laclip_ray.rewriting.storing.slots import Accepted, Slots, merge_accepted, merge_slots
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, write_draws
from tests.unit.rewriting.shards import ACCEPTED, DRAWS, ORIGIN, A, B, C, Draw, claimed, commit, reasons_of, table_of

some_sets = st.lists(
    st.dictionaries(st.integers(0, 2), st.none() | st.builds(Accepted, st.text(max_size=3)), max_size=3), max_size=3
).map(lambda sets: dict(enumerate(sets)))


def accepted(*names: str) -> Slots:
    """Slots with these texts; an empty one is refused."""
    return {slot: Accepted(name) if name else None for slot, name in enumerate(names)}


@given(slots_of_sets=some_sets, limit=st.none() | st.integers(1, 5))
def test_accepted_rewrites_are_joined_in_order(slots_of_sets: Mapping[int, Slots], limit: int | None) -> None:
    texts = [rewrite.text for slots in slots_of_sets.values() for rewrite in slots.values() if rewrite is not None]
    assert merge_accepted(slots_of_sets, limit=limit) == Rewrites(texts[:limit])


@given(slots_of_sets=some_sets, limit=st.none() | st.integers(1, 9), with_weights=st.booleans())
def test_every_slot_has_its_weight_whether_it_holds_a_rewrite_or_not(
    slots_of_sets: Mapping[int, Slots], limit: int | None, with_weights: bool
) -> None:
    counts = [3] * len(slots_of_sets)
    weights = [1.0 + number for number in slots_of_sets] if with_weights else None
    merged = merge_slots(slots_of_sets, counts, weights, limit=limit)
    total = sum(merged.weights) if weights else len(merged.texts)
    shares = [(weights[number] / 3 if weights else 1.0) for number in slots_of_sets for _ in range(3)][:limit]
    assert total + merged.refused + merged.missing == pytest.approx(sum(shares))


def test_refused_and_missing_slots_are_told_apart() -> None:
    merged = merge_slots({0: accepted("a", "", "c"), 1: accepted("")}, [3, 1, 2])
    assert merged == Rewrites(["a", "c"], (), refused=2.0, missing=2.0)


def test_a_sets_weight_is_shared_by_its_slots() -> None:
    merged = merge_slots({0: accepted("a", ""), 1: accepted("b")}, [2, 1], [0.5, 1.0])
    assert merged == Rewrites(["a", "b"], [0.25, 1.0], refused=0.25, missing=0.0)


def test_at_most_max_rewrites_are_the_first_slots_and_not_the_first_accepted_ones() -> None:
    slots = {0: accepted("", "b"), 1: accepted("c", "d")}
    assert merge_slots(slots, [2, 2], limit=3) == Rewrites(["b", "c"], (), refused=1.0)
    assert merge_accepted(slots, limit=2) == Rewrites(["b", "c"])


def test_each_rewrite_brings_its_scores() -> None:
    slots: dict[int, Slots] = {0: {0: Accepted("a", (0.5, None))}, 1: {0: None, 1: Accepted("b", (None, 2.0))}}
    scores = {"meaning": [0.5, None], "added": [None, 2.0]}
    assert merge_accepted(slots, scores=("meaning", "added")).scores == scores
    assert merge_slots(slots, [1, 2], scores=("meaning", "added")).scores == scores


# --- in storage


def test_the_slots_of_a_shard_are_read_with_scores_of_gate_and_engine(rewrite_set: RewriteSet) -> None:
    values = [0.125 * row for row in range(len(DRAWS))]
    table = table_of(DRAWS)
    table = table.set_column(
        table.column_names.index("log_probability"),
        "log_probability",
        pa.array([-value for value in values], pa.float32()),
    )
    write_draws(rewrite_set, "0.tar", 0, table, ORIGIN)
    meaning = pa.array(values, pa.float32())
    commit_verdicts(rewrite_set, "0.tar", 0, table, reasons_of(DRAWS), ORIGIN, {"meaning": meaning}, {"meaning": "x"})
    slots = rewrite_set.slots("0.tar", ("meaning", "log_probability", "picture"))
    assert slots == {
        A: {
            0: Accepted("first a", (0.0, 0.0, None)),
            1: Accepted("second a", (0.25, -0.25, None)),
            2: Accepted("third a", (0.375, -0.375, None)),
        },
        B: {0: None},
        C: {0: None},
    }


def test_sets_give_the_share_of_refused_rewrites_to_the_caption(tmp_path: Path) -> None:
    sets = tuple(RewriteSet(str(tmp_path / name), "gate") for name in ("one", "two"))
    commit(sets[0], "0.tar", DRAWS)
    commit(sets[1], "0.tar", [Draw("a", "caption a", "other a"), Draw("b", "caption b", "b", "looping")])
    for rewrite_set in sets:
        write_draws(rewrite_set, "1.tar", 0, table_of(DRAWS), replace(ORIGIN, rewrites_per_set=3))
    rewrites = RewriteSets(sets, refused="caption").counted()
    assert (rewrites.counts, rewrites.most_rewrites()) == ((3, 3), 6)
    assert rewrites.rewrites("0.tar") == {
        A: Rewrites([*ACCEPTED[A], "other a"], missing=2.0),
        B: Rewrites([], refused=2.0, missing=4.0),
        C: Rewrites([], refused=1.0, missing=5.0),
    }


def test_a_run_reads_the_scores_that_its_texts_depend_on() -> None:
    rewrite_set = claimed()
    commit(rewrite_set, "0.tar", DRAWS)
    by = {"low": 0.0, "high": 1.0, "p_low": 1.0, "p_high": 0.0, "unscored": 0.5}
    text: dict[str, Any] = {
        "rewrites": [rewrite_set.location],
        "p": {"by": "meaning", **by},
        "choice": {"by": "log_probability", "temperature": 1.0},
        "refused": "caption",
    }
    rewrite: dict[str, Any] = {"gate": {"meaning": {}}}
    content = {"name": "a", "output": "out", "data": {"path": "b"}, "text": text, "rewrite": rewrite}
    selection = replace(SetSelection.of(parse_experiment(content)), gate="gate")
    assert selection.scores == ("meaning", "log_probability")
    sets = committed_sets(selection)
    assert (sets.scores, sets.refused) == (selection.scores, "caption")
    text["p"] = {"by": "caption_words", **by}
    assert SetSelection.of(parse_experiment(content)).scores == ("log_probability",)
