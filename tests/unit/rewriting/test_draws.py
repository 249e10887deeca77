"""Only missing rewrites are drawn; old and new draws merge without loss and are judged alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import Experiment
from laclip_ray.data.records import Sample, hash_caption
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.draws import describe_samples, judge_draws, merge_draws
from laclip_ray.rewriting.prompting.prompts import choose_head
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import SAMPLES_SCHEMA
from tests.unit.rewriting.rounds import (
    HEADS,
    by_key,
    captions,
    experiment_of,
    experiments,
    first_accepted,
    gate_of,
    judged_leniently,
    known_rewrites,
    randoms,
    reason_without_text,
    run_round,
    sample,
    samples_of,
    slots_to_draw,
    some_samples,
    with_reasons,
)

# --- the samples of a first round


@pytest.mark.parametrize(
    ("record", "outcome", "problems"),
    [
        (sample("a", "a caption"), "drawn", ""),
        (sample("a", "a caption", "duplicate_id", "caption_not_utf8"), "drawn", "duplicate_id,caption_not_utf8"),
        (sample("a", "", "caption_missing"), "caption_missing", "caption_missing"),
        (sample("a", "", "caption_empty", "image_missing"), "caption_empty", "caption_empty,image_missing"),
        (sample("a", "", "shard_truncated"), "shard_truncated", "shard_truncated"),
        (sample("a", "12.5"), "nothing_to_rewrite", ""),
        (sample("a", "img_2034.jpg", "duplicate_id"), "nothing_to_rewrite", "duplicate_id"),
        (sample("a", "x" * 20), "drawn", ""),
        (sample("a", "x" * 21), "caption_too_long", ""),
        (sample("a", "one => two", "duplicate_id"), "drawn", "duplicate_id,separator_in_caption"),
    ],
)
def test_a_sample_is_described_by_its_problems_and_why_it_is_not_drawn(
    record: Sample, outcome: str, problems: str
) -> None:
    assert describe_samples([record], max_caption_characters=20, drop_wordless_captions=True) == {
        "id": ["a"],
        "caption_hash": [hash_caption(record.caption)],
        "caption": [record.caption],
        "problems": [problems],
        "outcome": [outcome],
    }


def test_a_caption_without_a_word_is_drawn_if_it_shall_be() -> None:
    described = describe_samples([sample("a", "12.5")], max_caption_characters=20, drop_wordless_captions=False)
    assert described["outcome"] == ["drawn"]


@given(samples=some_samples, experiment=experiments)
def test_at_first_every_slot_of_every_sample_is_drawn(samples: list[Sample], experiment: Experiment) -> None:
    table = samples_of(samples, experiment)
    assert table.schema == SAMPLES_SCHEMA
    assert table.column("id").to_pylist() == [record.id for record in samples]
    assert slots_to_draw(table) == [[*range(experiment.rewrite.rewrites_per_set)]] * len(samples)
    assert {*table.column("attempt").to_pylist()} <= {0}
    assert not any(known_rewrites(table))


@given(samples=some_samples)
def test_equal_captions_share_the_head_of_the_first(samples: list[Sample]) -> None:
    experiment = experiment_of()
    first: dict[str, str] = {}
    for record in samples:
        first.setdefault(record.caption, record.id)
    expected = [choose_head("cleaned", first[record.caption], HEADS, experiment.seed) for record in samples]
    assert samples_of(samples, experiment).column("head").to_pylist() == expected


# --- judging


def reasons_of_texts(texts: Iterable[tuple[int, int, str]]) -> list[str | None]:
    """The reasons against texts for one caption, each with its slot and attempt."""
    rows = [
        {
            **dict.fromkeys(("id", "caption_hash"), "a"),
            **dict.fromkeys(tables.TOKENS, 0),
            "caption": "a red dog",
            "problems": "",
            "draw": slot,
            "attempt": attempt,
            "head": 0,
            "outcome": tables.DRAWN,
            "text": text,
            "truncated": False,
        }
        for slot, attempt, text in texts
    ]
    draws = pa.Table.from_pylist(rows, schema=tables.DRAWS_SCHEMA)
    reasons: list[str | None] = judge_draws(draws, gate_of(experiment_of())).to_pylist()
    return reasons


def test_of_two_equal_texts_the_one_drawn_first_is_accepted() -> None:
    texts = [(0, 0, "x"), (0, 1, "my red dog"), (1, 0, "My red dog."), (2, 0, "a big dog"), (2, 1, "my RED dog")]
    assert reasons_of_texts(texts) == ["too_short", "copy_of_rewrite", None, None, "copy_of_rewrite"]


def test_only_copies_of_the_first_accepted_text_of_a_slot_are_refused() -> None:
    texts = [(0, 0, "my red dog"), (0, 1, "a big dog"), (1, 1, "A big dog."), (2, 1, "My red dog."), (2, 2, "my dog")]
    assert reasons_of_texts(texts) == [None, None, None, "copy_of_rewrite", None]


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_by_any_gate_the_rewrites_that_training_reads_differ_and_each_copy_equals_one(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    def plain(text: str) -> str:
        return text.lower().strip(".!")

    draws = run_round(samples_of(samples, experiment), experiment, random).draws
    for rows in by_key(judged_leniently(draws).to_pylist()).values():
        texts = [plain(text) for text in first_accepted(rows).values()]
        assert len(texts) == len({*texts})
        assert {plain(row["text"]) for row in rows if row["reason"] == "copy_of_rewrite"} <= {*texts}


# --- a second round: only the missing draws


@dataclass
class Case:
    """A finished shard, and its samples and settings in a second round."""

    before: list[Sample]
    now: list[Sample]
    first: Experiment
    second: Experiment
    retry: tuple[str, ...]
    random: Random

    @property
    def slots(self) -> int:
        """Slots of each sample: a smaller second configuration does not reduce them."""
        return max(experiment.rewrite.rewrites_per_set for experiment in (self.first, self.second))


RETRIED = ("too_short", "copy_of_rewrite", "empty", "prompt_too_long", "caption_empty")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Samples may have vanished, be edited, be new, or stand in another order; there may be more or fewer slots."""
    before = draw(some_samples)
    now = [record for record in before if draw(st.integers(0, 3))]
    now = [record if draw(st.integers(0, 3)) else sample(record.id, draw(captions)) for record in now]
    now += [sample(f"new{number}", caption) for number, caption in enumerate(draw(st.lists(captions, max_size=2)))]
    return Case(
        before,
        draw(st.permutations(now)),
        experiment_of(rewrites_per_set=draw(st.integers(1, 3)), redraws=draw(st.integers(0, 1))),
        experiment_of(rewrites_per_set=draw(st.integers(1, 3)), redraws=draw(st.integers(0, 1))),
        tuple(draw(st.lists(st.sampled_from(RETRIED), max_size=2, unique=True))),
        draw(randoms),
    )


def first_round(case: Case) -> pa.Table:
    return run_round(samples_of(case.before, case.first), case.first, case.random).judged


def second_samples(case: Case, previous: pa.Table) -> pa.Table:
    return samples_of(case.now, case.second, previous, case.retry, case.slots)


def expected_slots(case: Case, rows: Sequence[Mapping[str, Any]] | None) -> list[int]:
    """The slots of one sample to draw, by its existing rows."""
    slots = [*range(case.slots)]
    if rows is None:
        return slots
    reasons_of: dict[int, list[str | None]] = {}
    for row in rows:
        reasons_of.setdefault(row["draw"], []).append(row["reason"])
    again = {slot for slot, reasons in reasons_of.items() if None not in reasons and reasons[-1] in case.retry}
    return sorted(again | ({*slots} - reasons_of.keys()))


@given(case=cases())
def test_only_missing_and_retried_slots_are_drawn(case: Case) -> None:
    previous = judged_leniently(first_round(case).drop_columns(["reason"]))
    rows = by_key(previous.to_pylist())
    table = second_samples(case, previous)
    assert slots_to_draw(table) == [
        expected_slots(case, rows.get((record.id, record.caption_hash))) for record in case.now
    ]


@given(case=cases())
def test_a_complete_shard_has_no_slots_to_draw(case: Case) -> None:
    table = samples_of(case.before, case.first, first_round(case))
    again = run_round(table, case.first, case.random)
    assert not any(slots_to_draw(table))
    assert again.made.num_rows == len(again.engine.prompts) == 0


@given(case=cases())
def test_new_attempts_are_numbered_after_the_old_ones_and_know_the_accepted_rewrites(case: Case) -> None:
    previous = judged_leniently(first_round(case).drop_columns(["reason"]))
    rows = by_key(previous.to_pylist())
    table = second_samples(case, previous)
    for record, slots, attempt, others in zip(
        case.now, slots_to_draw(table), table.column("attempt").to_pylist(), known_rewrites(table), strict=True
    ):
        old = rows.get((record.id, record.caption_hash), [])
        if slots:
            assert all(row["attempt"] < attempt for row in old)
            assert others == [*first_accepted(old).values()]


@given(case=cases())
def test_exactly_the_slots_to_draw_are_drawn_from_their_first_attempt_on(case: Case) -> None:
    table = second_samples(case, first_round(case))
    made = by_key(run_round(table, case.second, case.random).draws.to_pylist())
    for record, slots, attempt in zip(case.now, slots_to_draw(table), table.column("attempt").to_pylist(), strict=True):
        attempts_at: dict[int, list[int]] = {}
        for row in made.pop((record.id, record.caption_hash), []):
            assert row["outcome"] == (reason_without_text(record) or tables.DRAWN)
            attempts_at.setdefault(row["draw"], []).append(row["attempt"])
        assert [*attempts_at] == slots
        redraws = 0 if reason_without_text(record) else case.second.rewrite.redraws
        for attempts in attempts_at.values():
            assert attempts == [*range(attempt, attempt + len(attempts))]
            assert len(attempts) <= 1 + redraws
    assert not made


# --- merging old and new draws


@given(case=cases())
def test_merged_draws_are_those_of_the_current_samples_in_their_order(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)
    assert merged.schema == tables.SCORED_DRAWS_SCHEMA
    keys = [(record.id, record.caption_hash) for record in case.now]
    old, new, merged_rows = (by_key(table.to_pylist()) for table in (previous, again.draws, merged))
    assert [*merged_rows] == keys
    for key in keys:
        redrawn = {row["draw"] for row in new.get(key, [])}
        # Only a row without a text goes, and only if its slot was drawn again.
        stay = [row for row in old.get(key, []) if row["outcome"] == tables.DRAWN or row["draw"] not in redrawn]
        expected = [{name: row[name] for name in tables.SCORED_DRAWS_SCHEMA.names} for row in stay] + new.get(key, [])
        assert merged_rows[key] == sorted(expected, key=lambda row: (row["draw"], row["attempt"]))


@given(case=cases())
def test_judging_old_and_new_draws_together_changes_no_verdict(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)

    def verdicts(table: pa.Table) -> dict[tuple[Any, ...], str | None]:
        names = ("id", "caption_hash", "draw", "attempt")
        return {tuple(row[name] for name in names): row["reason"] for row in table.to_pylist()}

    before = {**verdicts(previous), **verdicts(again.judged)}
    after = verdicts(with_reasons(merged, judge_draws(merged, gate_of(case.second))))
    assert after == {key: before[key] for key in after}


@given(case=cases())
def test_a_shard_is_complete_after_its_second_round(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)
    complete = with_reasons(merged, judge_draws(merged, gate_of(case.second)))
    assert not any(slots_to_draw(samples_of(case.now, case.second, complete, rewrites_per_set=case.slots)))


@given(case=cases())
def test_after_the_second_round_every_slot_is_accepted_or_has_a_reason_by_any_gate(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)
    for judged in (with_reasons(merged, judge_draws(merged, gate_of(case.second))), judged_leniently(merged)):
        counts = Statistics.of(merged, judged.column("reason").combine_chunks())
        assert counts.captions == len(case.now)
        assert counts.accepted + counts.unfilled.total() == len(case.now) * case.slots
        rows = by_key(judged.to_pylist())
        assert counts.accepted == sum(len(first_accepted(rows_of_sample)) for rows_of_sample in rows.values())


def test_a_draw_that_kills_its_engine_is_counted_beside_the_existing_draws() -> None:
    one, two = experiment_of(gate={"min_words": 0, "min_shared_words": 0}), experiment_of(rewrites_per_set=2)
    samples = [sample("a", "a red dog")]
    previous = run_round(samples_of(samples, one), one, Random(1)).judged
    assert previous.column("reason").to_pylist() == [None]
    table = samples_of(samples, two, previous)
    died = table.set_column(
        table.schema.get_field_index("outcome"), SAMPLES_SCHEMA.field("outcome"), pa.array([tables.ENGINE_DIED])
    )
    again = run_round(died, two, Random(0))
    merged = merge_draws(table, previous, again.draws)
    reasons = judge_draws(merged, gate_of(one))
    assert list(zip(merged.column("draw").to_pylist(), reasons.to_pylist(), strict=True)) == [
        (0, None),
        (1, tables.ENGINE_DIED),
    ]
    assert Statistics.of(merged, reasons).unfilled == {tables.ENGINE_DIED: 1}
