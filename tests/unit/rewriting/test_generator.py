"""The generator asks each distinct caption once, judges and redraws, and finds the captions that kill engines."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.data.records import Sample
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.attempts import (
    MAX_FAILED_CAPTIONS,
    AttemptLog,
    attempts_url,
    read_attempts,
)
from laclip_ray.rewriting.draws import join_draws, judge_draws
from laclip_ray.rewriting.engine import Answer, EngineDiedError
from laclip_ray.rewriting.generator import ShardGivenUpError
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.tables import MADE_SCHEMA, Origin, WorkUnit
from tests.unit.rewriting.rounds import (
    DEADLY,
    FIRST_UNIT,
    ORIGIN,
    UNANSWERED,
    RandomEngine,
    by_key,
    experiment_of,
    experiments,
    gate_of,
    generator_of,
    new_location,
    randoms,
    reason_without_text,
    run_round,
    sample,
    samples_of,
    some_samples,
    with_reasons,
)

# --- answers become draws


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_every_sample_has_rows_and_they_stand_together_in_order(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    round_ = run_round(samples_of(samples, experiment), experiment, random)
    assert round_.made.schema == MADE_SCHEMA
    assert round_.draws.schema == tables.DRAWS_SCHEMA
    rows = round_.draws.to_pylist()
    ids = [record.id for record in samples]
    assert [*dict.fromkeys(row["id"] for row in rows)] == ids
    keys = [(ids.index(row["id"]), row["draw"], row["attempt"]) for row in rows]
    assert keys == sorted({*keys})


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_a_sample_without_an_answer_has_a_row_with_the_reason_for_each_slot(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    rows = run_round(samples_of(samples, experiment), experiment, random).judged.to_pylist()
    names = ("id", "draw", "attempt", "outcome", "reason", "text", *tables.TOKENS)
    assert [tuple(row[name] for name in names) for row in rows if row["outcome"] != tables.DRAWN] == [
        (record.id, slot, 0, reason, reason, None, 0, 0, 0)
        for record in samples
        if (reason := reason_without_text(record))
        for slot in range(experiment.rewrite.rewrites_per_set)
    ]
    assert all(row["text"] is not None for row in rows if row["outcome"] == tables.DRAWN)


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_equal_captions_are_generated_once_and_get_the_same_draws(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    round_ = run_round(samples_of(samples, experiment), experiment, random)
    distinct = {record.caption for record in samples if record.caption}
    assert len({prompt for prompt, _ in round_.engine.prompts}) == len(distinct)
    assert len(round_.engine.prompts) <= len(distinct) * (1 + experiment.rewrite.redraws)
    draws: dict[str, list[tuple[int, int, str | None]]] = {}
    for row in round_.draws.to_pylist():
        draws.setdefault(row["id"], []).append((row["draw"], row["attempt"], row["text"]))
    for record in samples:
        twin = next(other for other in samples if other.caption == record.caption)
        assert draws[record.id] == draws[twin.id]


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_tokens_are_counted_once_for_each_distinct_caption(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    round_ = run_round(samples_of(samples, experiment), experiment, random)
    counts = Statistics.of(round_.draws, round_.reasons)
    assert {name: getattr(counts, name) for name in tables.TOKENS} == {
        name: round_.engine.tokens[name] for name in tables.TOKENS
    }
    drawn = [record.caption for record in samples if record.caption not in ("", UNANSWERED)]
    assert counts.reused == len(drawn) - len({*drawn})


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_every_slot_is_accepted_or_has_a_reason(samples: list[Sample], experiment: Experiment, random: Random) -> None:
    round_ = run_round(samples_of(samples, experiment), experiment, random)
    counts = Statistics.of(round_.draws, round_.reasons)
    rewrites_per_set = experiment.rewrite.rewrites_per_set
    assert counts.captions == len(samples)
    assert counts.accepted + counts.unfilled.total() == len(samples) * rewrites_per_set
    unanswered = Counter(reason for record in samples if (reason := reason_without_text(record)))
    for reason, count in unanswered.items():
        assert counts.unfilled[reason] == counts.rejected[reason] == count * rewrites_per_set


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_only_refused_draws_are_redrawn_and_not_more_often_than_allowed(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    rows = run_round(samples_of(samples, experiment), experiment, random).judged.to_pylist()
    reasons_of_slot: dict[tuple[str, int], list[str | None]] = {}
    for row in rows:
        if row["outcome"] == tables.DRAWN:
            reasons = reasons_of_slot.setdefault((row["id"], row["draw"]), [])
            assert row["attempt"] == len(reasons)
            reasons.append(row["reason"])
    for reasons in reasons_of_slot.values():
        assert None not in reasons[:-1]
        assert reasons[-1] is None or len(reasons) == 1 + experiment.rewrite.redraws


def test_greedy_draws_are_not_redrawn() -> None:
    experiment = experiment_of(redraws=2, sampling={"temperature": 0.0}, gate={"min_words": 50})
    round_ = run_round(samples_of([sample("a", "a red dog")], experiment), experiment, Random(0))
    assert round_.draws.num_rows == len(round_.engine.prompts) == 1


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_judging_again_gives_the_reasons_found_while_drawing(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    round_ = run_round(samples_of(samples, experiment), experiment, random)
    assert judge_draws(round_.draws, gate_of(experiment)).equals(round_.reasons)


# --- engines that die


def generate_until_done(
    samples: pa.Table,
    experiment: Experiment,
    location: str,
    random: Random,
    unit: WorkUnit = FIRST_UNIT,
    origin: Origin = ORIGIN,
) -> tuple[pa.Table, list[RandomEngine]]:
    """The draws of a unit, with a new generator after each death; and the engines that it took."""
    engines: list[RandomEngine] = []
    while True:
        engines.append(RandomEngine(random))
        assert len(engines) < 100, "there is no end"
        generator = generator_of(experiment, engines[-1], location)
        try:
            return asyncio.run(generator.generate(unit, origin, samples)), engines
        except EngineDiedError:
            continue


@given(
    others=some_samples,
    places=st.sets(st.integers(0, 8), min_size=1, max_size=3),
    experiment=experiments,
    random=randoms,
)
def test_exactly_the_captions_that_kill_engines_have_that_outcome_in_each_slot(
    others: list[Sample], places: set[int], experiment: Experiment, random: Random
) -> None:
    samples = [*others]
    for place in sorted(places):
        samples.insert(place, sample(f"deadly{place}", DEADLY))
    table = samples_of(samples, experiment)
    made, engines = generate_until_done(table, experiment, new_location(), random)
    assert len(engines) == 2 + experiment.rewrite.max_engine_deaths * len(places)
    draws, reasons = join_draws(table, made), made.column("reason").combine_chunks()
    rows = by_key(with_reasons(draws, reasons).to_pylist())
    assert [*rows] == [(record.id, record.caption_hash) for record in samples]
    slots = [*range(experiment.rewrite.rewrites_per_set)]
    for record in samples:
        rows_of_sample = rows[record.id, record.caption_hash]
        assert {row["outcome"] for row in rows_of_sample} == {reason_without_text(record) or tables.DRAWN}
        assert [*dict.fromkeys(row["draw"] for row in rows_of_sample)] == slots
    counts = Statistics.of(draws, reasons)
    assert counts.accepted + counts.unfilled.total() == len(samples) * len(slots)
    assert counts.unfilled[tables.ENGINE_DIED] == len(places) * len(slots)


WITH_DEADLY = [sample("a", "a red dog"), sample("b", DEADLY), sample("c", "two cats on a sofa")]


def test_the_kept_pieces_of_a_suspect_shard_are_not_generated_again() -> None:
    experiment, location = experiment_of(), new_location()
    table = samples_of(WITH_DEADLY, experiment)
    made, _ = generate_until_done(table, experiment, location, Random(0))
    again, (engine,) = generate_until_done(table, experiment, location, Random(1))
    assert again.equals(made)
    assert not engine.prompts


@pytest.mark.parametrize(
    ("unit", "origin"),
    [
        (FIRST_UNIT, replace(ORIGIN, file_identity="another file")),
        (FIRST_UNIT, replace(ORIGIN, inputs="other captions")),
        (FIRST_UNIT, replace(ORIGIN, rewrites_per_set=2)),
        (replace(FIRST_UNIT, revision=1), ORIGIN),
        (replace(FIRST_UNIT, previous=0), ORIGIN),
        (replace(FIRST_UNIT, retry=("too_short",)), ORIGIN),
    ],
)
def test_kept_pieces_are_never_used_for_an_edited_shard_or_another_unit(unit: WorkUnit, origin: Origin) -> None:
    experiment, location = experiment_of(), new_location()
    generate_until_done(samples_of(WITH_DEADLY, experiment), experiment, location, Random(0))
    url = attempts_url(location, FIRST_UNIT.shard)
    before = read_attempts(url)
    assert before.failed == (1,)

    edited = samples_of([WITH_DEADLY[0], sample("b", "a blue house"), WITH_DEADLY[2]], experiment)
    made, (engine,) = generate_until_done(edited, experiment, location, Random(0), unit, origin)
    assert {*made.column("outcome").to_pylist()} == {tables.DRAWN}
    assert len({prompt for prompt, _ in engine.prompts}) == 3
    assert read_attempts(url) == AttemptLog()

    # A death over the edited shard begins a search of its own, and blames no caption yet.
    deadly = samples_of(WITH_DEADLY[::-1], experiment)
    generator = generator_of(experiment, RandomEngine(Random(0)), location)
    with pytest.raises(EngineDiedError):
        asyncio.run(generator.generate(unit, origin, deadly))
    after = read_attempts(url)
    assert after.work != before.work
    assert after.attempt is not None
    assert (after.pieces, after.failed) == ((), ())


def test_a_shard_with_too_many_deadly_captions_is_given_up_until_its_attempts_are_removed() -> None:
    experiment, location = experiment_of(max_engine_deaths=1), new_location()
    count = MAX_FAILED_CAPTIONS + 1
    table = samples_of([sample(f"s{number}", f"{DEADLY} {number}") for number in range(count)], experiment)
    for _ in range(2):
        with pytest.raises(ShardGivenUpError, match=r"look at the engine first\. .* remove memory:.*/0\.tar\.\*"):
            generate_until_done(table, experiment, location, Random(0))
    for url in storage.list_files(location):
        storage.remove(url)
    with pytest.raises(EngineDiedError):
        asyncio.run(generator_of(experiment, RandomEngine(Random(0)), location).generate(FIRST_UNIT, ORIGIN, table))


class TurnEngine(RandomEngine):
    """Records, by request, the other shards in flight."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.in_flight: list[str] = []
        self.company: dict[str, set[str]] = {}

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engine.Engine`."""
        shard = request_id.split("/")[1]
        self.in_flight.append(shard)
        try:
            for _ in range(20):
                await asyncio.sleep(0.001)
                for other in self.in_flight:
                    self.company.setdefault(other, set()).update({*self.in_flight} - {other})
            return await super().generate(prompt, count, request_id)
        finally:
            self.in_flight.remove(shard)


def test_a_suspect_shard_runs_alone_and_others_run_together() -> None:
    experiment, location, engine = experiment_of(), new_location(), TurnEngine()
    table = samples_of([sample("a", "a red dog"), sample("b", "a blue house")], experiment)
    suspect = WorkUnit("human", "suspect", 0)
    with pytest.raises(EngineDiedError):
        asyncio.run(
            generator_of(experiment, RandomEngine(Random(0)), location).generate(
                suspect, ORIGIN, samples_of(WITH_DEADLY, experiment)
            )
        )

    async def generate_all(units: Sequence[WorkUnit]) -> list[Any]:
        generator = generator_of(experiment, engine, location)
        return await asyncio.gather(*(generator.generate(unit, ORIGIN, table) for unit in units))

    asyncio.run(generate_all([WorkUnit("human", "first", 0), WorkUnit("human", "second", 0), suspect]))
    assert engine.company == {"first": {"second"}, "second": {"first"}, "suspect": set()}
