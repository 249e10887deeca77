"""The generator asks each distinct caption once, judges and redraws, and finds the captions that kill engines."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.data.records import Sample
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.draws import join_draws, judge_draws
from laclip_ray.rewriting.engines.engine import Answer, Completion, EngineDiedError
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.running.generator import ShardGivenUpError
from laclip_ray.rewriting.storing.attempts import (
    MAX_FAILED_CAPTIONS,
    AttemptLog,
    attempts_url,
    read_attempts,
)
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import MADE_SCHEMA, Origin, WorkUnit
from tests.cases import case
from tests.unit.rewriting.rounds import (
    DEADLY,
    FIRST_UNIT,
    LENIENT,
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
    assert round_.draws.schema == tables.SCORED_DRAWS_SCHEMA
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


# --- errors of one row

ODD = "a caption that breaks something"


class PanicException(BaseException):
    """As native code raises it: no `Exception`."""


class OddEngine(RandomEngine):
    """Gives a bad answer, or none, for the odd caption."""

    def __init__(self, odd: Callable[[], Any]) -> None:
        super().__init__(Random(0))
        self.odd = odd

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        if ODD not in prompt:
            return Answer([Completion("the red dog of a friend", False, 5)] * count, 7, 5)
        answer: Answer = self.odd()
        return answer


def raise_(error: BaseException) -> Any:
    raise error


ODD_ANSWERS: dict[str, Callable[[], Any]] = {
    "an engine that raises RuntimeError": lambda: raise_(RuntimeError("no")),
    "an engine that panics": lambda: raise_(PanicException("no")),
    "an engine that times out": lambda: raise_(TimeoutError()),
    "an engine whose own task is cancelled": lambda: raise_(asyncio.CancelledError()),
    "an engine that gives too few texts": lambda: Answer([], 7, 5),
    "an engine that gives no text but None": lambda: Answer([Completion(cast("str", None), False, 1)], 7, 5),
    "an engine that gives no answer but None": lambda: None,
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=case(
                "Reading data", f"{kind} for one caption", "the others are rewritten", counted_as="request_failed"
            ),
        )
        for kind in ODD_ANSWERS
    ],
)
def test_an_engines_error_for_one_caption_is_its_reason_and_logged_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = experiment_of(gate=LENIENT)
    captions = [ODD, "a red dog", f"{ODD} again"]
    table = samples_of([sample(f"s{row}", caption) for row, caption in enumerate(captions)], experiment)
    generator = generator_of(experiment, OddEngine(ODD_ANSWERS[kind]), new_location())
    made = asyncio.run(generator.generate(FIRST_UNIT, ORIGIN, table))
    assert made.column("reason").to_pylist() == [tables.REQUEST_FAILED, None, tables.REQUEST_FAILED]
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("cleaned/0.tar/")


def test_a_cancelled_shard_ends_as_cancelled() -> None:
    class WaitingEngine(RandomEngine):
        """Never answers."""

        async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
            """See `laclip_ray.rewriting.engines.engine.Engine`."""
            await asyncio.Event().wait()
            raise AssertionError

    async def cancel() -> None:
        generator = generator_of(experiment_of(), WaitingEngine(Random(0)), new_location())
        table = samples_of([sample("a", "a red dog")], experiment_of())
        task = asyncio.create_task(generator.generate(FIRST_UNIT, ORIGIN, table))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def test_an_error_of_a_second_attempt_keeps_the_draws_of_the_first_one() -> None:
    class OnceEngine(RandomEngine):
        """Answers the first request, one text good and one refused."""

        async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
            """See `laclip_ray.rewriting.engines.engine.Engine`."""
            if request_id.endswith("/1"):
                raise RuntimeError
            return Answer([Completion(text, False, 1) for text in ("my red dog", "x")], 7, 5)

    experiment = experiment_of(rewrites_per_set=2, redraws=1)
    table = samples_of([sample("a", "a red dog")], experiment)
    made = asyncio.run(
        generator_of(experiment, OnceEngine(Random(0)), new_location()).generate(FIRST_UNIT, ORIGIN, table)
    )
    assert made.column("text").to_pylist() == ["my red dog", "x"]
    assert made.column("reason").to_pylist() == [None, "too_short"]


def test_a_text_that_no_file_can_store_is_repaired() -> None:
    experiment = experiment_of(gate={**LENIENT, "drop_broken_characters": False})
    odd = OddEngine(lambda: Answer([Completion("a dog \ud800 and \x1b[31mred\x1b[0m\x00", False, 1)], 7, 5))
    table = samples_of([sample("a", ODD)], experiment)
    made = asyncio.run(generator_of(experiment, odd, new_location()).generate(FIRST_UNIT, ORIGIN, table))
    assert made.column("text").to_pylist() == ["a dog \ufffd and red"]


class BrokenGate:
    """Raises an error for the texts of the odd caption."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def judge(self, text: str, caption: str, truncated: bool, head: int, others: Sequence[str] = ()) -> str | None:
        """See `laclip_ray.rewriting.judging.gate.Gate`."""
        if ODD in caption:
            raise self.error
        return None


@case(
    "Reading data",
    "a text over which the gate, or CLIP's tokeniser in it, raises an error",
    "that rewrite is refused; the others are judged",
    counted_as="gate_failed",
)
@pytest.mark.parametrize("error", [ValueError("no"), RecursionError(), PanicException("no")], ids=repr)
def test_a_gates_error_over_one_text_is_its_reason_while_drawing_and_judging(error: BaseException) -> None:
    experiment = experiment_of(redraws=0)
    table = samples_of([sample("a", ODD), sample("b", "a red dog")], experiment)
    engine = OddEngine(lambda: Answer([Completion("some text", False, 1)], 7, 5))
    gate = cast("Gate", BrokenGate(error))
    generator = replace(generator_of(experiment, engine, new_location()), gates={"cleaned": gate})
    made = asyncio.run(generator.generate(FIRST_UNIT, ORIGIN, table))
    assert made.column("reason").to_pylist() == [tables.GATE_FAILED, None]
    assert judge_draws(join_draws(table, made), gate).to_pylist() == [tables.GATE_FAILED, None]


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


@case(
    "Identity",
    "a damaged file of draws kept from an engine's death",
    "it is named in a warning, and its captions are drawn again",
)
def test_a_damaged_kept_piece_is_drawn_again() -> None:
    experiment, location = experiment_of(), new_location()
    table = samples_of(WITH_DEADLY, experiment)
    generate_until_done(table, experiment, location, Random(0))
    pieces = [url for url in storage.list_files(location) if url.endswith(".arrow")]
    for url, content in zip(pieces, (b"", b"cut"), strict=False):
        storage.write_bytes(url, content)
    made, (engine,) = generate_until_done(table, experiment, location, Random(1))
    assert made.column("outcome").to_pylist().count(tables.ENGINE_DIED) == 1
    assert engine.prompts


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
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
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
    suspect = WorkUnit("cleaned", "suspect", 0)
    with pytest.raises(EngineDiedError):
        asyncio.run(
            generator_of(experiment, RandomEngine(Random(0)), location).generate(
                suspect, ORIGIN, samples_of(WITH_DEADLY, experiment)
            )
        )

    async def generate_all(units: Sequence[WorkUnit]) -> list[Any]:
        generator = generator_of(experiment, engine, location)
        return await asyncio.gather(*(generator.generate(unit, ORIGIN, table) for unit in units))

    asyncio.run(generate_all([WorkUnit("cleaned", "first", 0), WorkUnit("cleaned", "second", 0), suspect]))
    assert engine.company == {"first": {"second"}, "second": {"first"}, "suspect": set()}


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_a_draw_has_the_log_probability_of_its_completion(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    round_ = run_round(samples_of(samples, experiment), experiment, random)
    for row in round_.draws.to_pylist():
        assert (row["log_probability"] is None) == (row["outcome"] != tables.DRAWN)
        assert row["log_probability"] is None or -1 <= row["log_probability"] <= 0
