"""What a shard's captions are asked, how the answers become draws, and that nothing is lost or asked twice."""

import asyncio
import json
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laclip_ray.data.records import Sample, Shard, hash_caption
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.rewriting.attempts import AttemptLog, attempts_url, read_attempts
from laclip_ray.rewriting.draws import build_samples, describe_samples, join_draws, judge_draws, merge_draws
from laclip_ray.rewriting.engine import Answer, Completion, EngineDiedError, RequestError, build_heads
from laclip_ray.rewriting.gate import Gate
from laclip_ray.rewriting.prompts import choose_head, head_pairs, load_prompt_set
from laclip_ray.rewriting.stages import ReadShard, shard_row
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.store import RewriteSet
from laclip_ray.rewriting.tables import (
    MADE_SCHEMA,
    SAMPLES_SCHEMA,
    Origin,
    WorkUnit,
    origin_of,
    slot_bits,
    slot_numbers,
    stream_row,
    table_of,
)
from tests.unit.conftest import write_tar

from laclip_ray.config import MAX_REWRITES_PER_SET, DataConfig, Experiment, parse_experiment
from laclip_ray.rewriting import store, tables
from laclip_ray.rewriting.actor import RewritingActor

PROMPT_SET = load_prompt_set("human")
HEADS = 4
UNANSWERED = "a caption that the engine refuses"
DEADLY = "a caption that the engine dies of"
CAPTIONS = ["a red dog", "A red dog!", "two cats on a sofa", "a blue house", UNANSWERED]
EXAMPLE = PROMPT_SET.pairs[0].target
TEXTS = ["a dog", "the red dog", "The red dog.", "two cats", "cats on the sofa", "the house is blue", EXAMPLE, "x", ""]


def experiment_of(**rewrite: Any) -> Experiment:
    content = {"prompt_sets": ["human"], "heads": HEADS, **rewrite}
    return parse_experiment({"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": content})


def gate_of(experiment: Experiment) -> Gate:
    """The experiment's gate with a tokeniser that takes no time to load."""
    heads = head_pairs(PROMPT_SET, experiment.rewrite.heads, experiment.seed)
    return Gate(experiment.rewrite.gate, heads, lambda text: len(text.split()) + 2)


@dataclass
class RandomEngine:
    """Answers every prompt with random ones of a few texts, so that many are equal and many are refused."""

    random: Random
    prompts: list[tuple[str, int]] = field(default_factory=list)
    tokens: Counter[str] = field(default_factory=Counter)

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engine.Engine`."""
        self.prompts.append((prompt, count))
        await asyncio.sleep(0)
        if UNANSWERED in prompt:
            raise RequestError(tables.PROMPT_TOO_LONG)
        if DEADLY in prompt:
            raise EngineDiedError
        self.tokens.update(prompt_tokens=7, cached_tokens=5, output_tokens=count)
        return Answer([self._completion() for _ in range(count)], 7, 5)

    def _completion(self) -> Completion:
        return Completion(self.random.choice(TEXTS), self.random.random() < 0.1, 1)

    def close(self) -> None:
        """Nothing to stop."""


class ActorDiedError(Exception):
    """In the place of the end of the actor's process."""


class OfflineActor(RewritingActor):
    """The actor without Ray; without a `location` it draws and judges, but has no ledgers."""

    def __init__(self, experiment: Experiment, engine: RandomEngine, location: str = "") -> None:
        """Take what `RewritingActor` makes."""
        self._started_s = 0.0
        self._sets = {"human": RewriteSet(location, "gate")}
        self._run, self._node, self._name = "run", "node", "actor"
        self._turn = asyncio.Condition()
        self._in_hand = self._suspects = 0
        self._rewrite = experiment.rewrite
        self._cache = OrderedDict()
        self._gates = {"human": gate_of(experiment)}
        self._heads = build_heads(experiment.rewrite, [PROMPT_SET], experiment.seed)
        self._engine = engine

    def draw(self, samples: pa.Table) -> pa.Table:
        """The draws of a shard, as they were made."""
        return asyncio.run(self._draw(ROUND_0, samples))

    def call(self, row: pa.Table) -> dict[str, Any]:
        """What the actor makes of a stream row.

        Raises:
            ActorDiedError: with its engine.
        """

        async def tables() -> list[pa.Table]:
            return [table async for table in self(row)]

        (table,) = asyncio.run(tables())
        (found,) = table.to_pylist()
        assert isinstance(found, dict)
        return found

    async def _draw_unit(self, unit: WorkUnit, samples: pa.Table, work: str) -> pa.Table | None:
        try:
            return await super()._draw_unit(unit, samples, work)
        except EngineDiedError as error:
            raise ActorDiedError from error


def sample(sample_id: str, caption: str, *problems: str) -> Sample:
    return Sample(0, sample_id, caption, None, problems)


ROUND_0 = WorkUnit("human", "0.tar", 0)


def samples_of(
    samples: Sequence[Sample],
    experiment: Experiment,
    previous: pa.Table | None = None,
    retry: Iterable[str] = (),
    wanted: int | None = None,
) -> pa.Table:
    unit = ROUND_0 if previous is None else WorkUnit("human", "0.tar", 1, previous=0, retry=tuple(retry))
    wanted = wanted or experiment.rewrite.rewrites_per_set
    return build_samples(describe_samples(samples, experiment), unit, experiment, wanted, previous)


def asked(table: pa.Table) -> list[list[int]]:
    """The numbers of the draws that are asked for each sample."""
    return [[*slot_numbers(bits)] for bits in table.column("draws").to_pylist()]


def known(table: pa.Table) -> list[list[str]]:
    """The accepted rewrites that the actor is told of for each sample."""
    return [json.loads(others) if others else [] for others in table.column("others").to_pylist()]


def judged(draws: pa.Table, reasons: pa.Array) -> pa.Table:
    """Draws as they are read back: with their reasons."""
    return draws.append_column("reason", reasons)


def why_unanswered(each: Sample) -> str | None:
    """The reason why the random engine gives no text for a sample."""
    return {"": "caption_empty", UNANSWERED: tables.PROMPT_TOO_LONG, DEADLY: tables.ENGINE_DIED}.get(each.caption)


LENIENT = {"min_words": 0, "min_shared_words": 0, "drop_truncated": False}


def judged_leniently(draws: pa.Table) -> pa.Table:
    """Draws as another gate sees them, which may accept what the first had drawn again."""
    return judged(draws, judge_draws(draws, gate_of(experiment_of(gate=LENIENT))))


def first_accepted(rows: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """The rewrites of one sample that training reads: the first accepted attempt of each draw."""
    found: dict[int, str] = {}
    for row in rows:
        if row["reason"] is None:
            found.setdefault(row["draw"], row["text"])
    return found


captions = st.sampled_from(CAPTIONS)
some_samples = st.lists(st.one_of(captions, st.just(None)), max_size=8).map(
    lambda found: [
        sample(f"s{row}", caption) if caption else sample(f"s{row}", "", "caption_empty")
        for row, caption in enumerate(found)
    ]
)
randoms = st.integers(0, 2**32).map(Random)
experiments = st.builds(experiment_of, rewrites_per_set=st.integers(1, 3), redraws=st.integers(0, 2))


# --- what is told of samples


@pytest.mark.parametrize(
    ("found", "outcome", "problems"),
    [
        (sample("a", "a caption"), "drawn", ""),
        (sample("a", "a caption", "duplicate_id", "caption_not_utf8"), "drawn", "duplicate_id,caption_not_utf8"),
        (sample("a", "", "caption_missing"), "caption_missing", "caption_missing"),
        (sample("a", "", "caption_empty", "image_missing"), "caption_empty", "caption_empty,image_missing"),
        (sample("a", "", "shard_truncated"), "shard_truncated", "shard_truncated"),
        (sample("a", "x" * 20), "drawn", ""),
        (sample("a", "x" * 21), "caption_too_long", ""),
        (sample("a", "one => two", "duplicate_id"), "drawn", "duplicate_id,separator_in_caption"),
    ],
)
def test_a_sample_is_described_by_its_problems_and_why_it_is_not_drawn(
    found: Sample, outcome: str, problems: str
) -> None:
    assert describe_samples([found], experiment_of(max_caption_characters=20)) == {
        "id": ["a"],
        "caption_hash": [hash_caption(found.caption)],
        "caption": [found.caption],
        "problems": [problems],
        "outcome": [outcome],
    }


@given(samples=some_samples, experiment=experiments)
def test_at_first_every_rewrite_of_every_sample_is_asked_for(samples: list[Sample], experiment: Experiment) -> None:
    table = samples_of(samples, experiment)
    assert table.schema == SAMPLES_SCHEMA
    assert table.column("id").to_pylist() == [each.id for each in samples]
    assert asked(table) == [[*range(experiment.rewrite.rewrites_per_set)]] * len(samples)
    assert {*table.column("attempt").to_pylist()} <= {0}
    assert not any(known(table))


@given(samples=some_samples)
def test_equal_captions_share_the_head_of_the_first(samples: list[Sample]) -> None:
    experiment = experiment_of()
    first: dict[str, str] = {}
    for each in samples:
        first.setdefault(each.caption, each.id)
    expected = [choose_head("human", first[each.caption], HEADS, experiment.seed) for each in samples]
    assert samples_of(samples, experiment).column("head").to_pylist() == expected


# --- one round: what is made of the answers


@dataclass
class Round:
    """What one run of an actor over a shard gave."""

    samples: pa.Table
    made: pa.Table
    draws: pa.Table
    engine: RandomEngine

    @property
    def reasons(self) -> pa.Array:
        return self.made.column("reason").combine_chunks()

    @property
    def kept(self) -> pa.Table:
        return judged(self.draws, self.reasons)


def run_round(samples: pa.Table, experiment: Experiment, random: Random) -> Round:
    engine = RandomEngine(random)
    made = OfflineActor(experiment, engine).draw(samples)
    return Round(samples, made, join_draws(samples, made), engine)


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_every_sample_has_rows_and_those_of_one_stand_together_in_order(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random)
    assert found.made.schema == MADE_SCHEMA
    assert found.draws.schema == tables.DRAWS_SCHEMA
    rows = found.draws.to_pylist()
    assert [*dict.fromkeys(row["id"] for row in rows)] == [each.id for each in samples]
    keys = [(samples.index(by_id(samples, row["id"])), row["draw"], row["attempt"]) for row in rows]
    assert keys == sorted({*keys})


def by_id(samples: Sequence[Sample], sample_id: str) -> Sample:
    return next(each for each in samples if each.id == sample_id)


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_a_sample_without_an_answer_has_a_row_with_the_reason_for_each_rewrite_asked_for(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random).kept.to_pylist()
    everything = range(experiment.rewrite.rewrites_per_set)
    names = ("id", "draw", "attempt", "outcome", "reason", "text", *tables.TOKENS)
    assert [tuple(row[name] for name in names) for row in found if row["outcome"] != tables.DRAWN] == [
        (each.id, draw, 0, reason, reason, None, 0, 0, 0)
        for each in samples
        if (reason := why_unanswered(each))
        for draw in everything
    ]
    assert all(row["text"] is not None for row in found if row["outcome"] == tables.DRAWN)


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_equal_captions_are_asked_once_and_get_the_same_draws(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random)
    distinct = {each.caption for each in samples if each.caption}
    assert len({prompt for prompt, _ in found.engine.prompts}) == len(distinct)
    assert len(found.engine.prompts) <= len(distinct) * (1 + experiment.rewrite.redraws)
    draws: dict[str, list[tuple[int, int, str | None]]] = {}
    for row in found.draws.to_pylist():
        draws.setdefault(row["id"], []).append((row["draw"], row["attempt"], row["text"]))
    for each in samples:
        twin = next(other for other in samples if other.caption == each.caption)
        assert draws[each.id] == draws[twin.id]


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_tokens_are_counted_once_for_each_distinct_caption(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random)
    counts = Statistics.of(found.draws, found.reasons)
    assert {name: getattr(counts, name) for name in tables.TOKENS} == {
        name: found.engine.tokens[name] for name in tables.TOKENS
    }
    drawn = [each.caption for each in samples if each.caption not in ("", UNANSWERED)]
    assert counts.reused == len(drawn) - len({*drawn})


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_every_rewrite_asked_for_is_accepted_or_has_a_reason(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random)
    counts = Statistics.of(found.draws, found.reasons)
    rewrites_per_set = experiment.rewrite.rewrites_per_set
    assert counts.captions == len(samples)
    assert counts.accepted + counts.unfilled.total() == len(samples) * rewrites_per_set
    unanswered = Counter(reason for each in samples if (reason := why_unanswered(each)))
    for reason, count in unanswered.items():
        assert counts.unfilled[reason] == counts.rejected[reason] == count * rewrites_per_set


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_only_refused_draws_are_drawn_again_and_not_more_often_than_allowed(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random).kept.to_pylist()
    attempts: dict[tuple[str, int], list[str | None]] = {}
    for row in found:
        if row["outcome"] == tables.DRAWN:
            reasons = attempts.setdefault((row["id"], row["draw"]), [])
            assert row["attempt"] == len(reasons)
            reasons.append(row["reason"])
    for reasons in attempts.values():
        assert None not in reasons[:-1]
        assert reasons[-1] is None or len(reasons) == 1 + experiment.rewrite.redraws


def test_greedy_draws_are_not_drawn_again() -> None:
    experiment = experiment_of(redraws=2, sampling={"temperature": 0.0}, gate={"min_words": 50})
    found = run_round(samples_of([sample("a", "a red dog")], experiment), experiment, Random(0))
    assert found.draws.num_rows == len(found.engine.prompts) == 1


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_judging_again_gives_what_was_found_while_drawing(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    found = run_round(samples_of(samples, experiment), experiment, random)
    assert judge_draws(found.draws, gate_of(experiment)).equals(found.reasons)


def reasons_of_texts(texts: Iterable[tuple[int, int, str]]) -> list[str | None]:
    """The reasons against texts for one caption, each with its draw and attempt."""
    rows = [
        {
            **dict.fromkeys(("id", "caption_hash"), "a"),
            **dict.fromkeys(tables.TOKENS, 0),
            "caption": "a red dog",
            "problems": "",
            "draw": draw,
            "attempt": attempt,
            "head": 0,
            "outcome": tables.DRAWN,
            "text": text,
            "truncated": False,
        }
        for draw, attempt, text in texts
    ]
    draws = pa.Table.from_pylist(rows, schema=tables.DRAWS_SCHEMA)
    reasons: list[str | None] = judge_draws(draws, gate_of(experiment_of())).to_pylist()
    return reasons


def test_a_text_that_two_attempts_give_is_accepted_where_it_was_drawn_first() -> None:
    texts = [(0, 0, "x"), (0, 1, "the red dog"), (1, 0, "The red dog."), (2, 0, "a big dog"), (2, 1, "the RED dog")]
    assert reasons_of_texts(texts) == ["too_short", "copy_of_rewrite", None, None, "copy_of_rewrite"]


def test_only_the_first_accepted_attempt_of_a_draw_is_one_that_others_may_not_copy() -> None:
    texts = [(0, 0, "the red dog"), (0, 1, "a big dog"), (1, 1, "A big dog."), (2, 1, "The red dog."), (2, 2, "my dog")]
    assert reasons_of_texts(texts) == [None, None, None, "copy_of_rewrite", None]


@settings(max_examples=60)
@given(samples=some_samples, experiment=experiments, random=randoms)
def test_by_any_gate_the_rewrites_that_are_read_differ_and_a_copy_is_one_of_those(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    def plain(text: str) -> str:
        return text.lower().strip(".!")

    found = run_round(samples_of(samples, experiment), experiment, random)
    for rows in by_key(judged_leniently(found.draws).to_pylist()).values():
        read = [plain(text) for text in first_accepted(rows).values()]
        assert len(read) == len({*read})
        assert {plain(row["text"]) for row in rows if row["reason"] == "copy_of_rewrite"} <= {*read}


# --- a second round: what is missing, and nothing else


@dataclass
class Case:
    """A shard that was done, and what there is to do now."""

    before: list[Sample]
    now: list[Sample]
    first: Experiment
    second: Experiment
    retry: tuple[str, ...]
    random: Random

    @property
    def wanted(self) -> int:
        """How many rewrites each sample is to have: what there was to be is not made less by another configuration."""
        return max(each.rewrite.rewrites_per_set for each in (self.first, self.second))


RETRIED = ("too_short", "copy_of_rewrite", "empty", "prompt_too_long", "caption_empty")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Samples may have vanished, be edited, be new, or stand in another order; there may be more or less to draw."""
    before = draw(some_samples)
    now = [each for each in before if draw(st.integers(0, 3))]
    now = [each if draw(st.integers(0, 3)) else sample(each.id, draw(captions)) for each in now]
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
    return run_round(samples_of(case.before, case.first), case.first, case.random).kept


def second_samples(case: Case, previous: pa.Table) -> pa.Table:
    return samples_of(case.now, case.second, previous, case.retry, case.wanted)


def by_key(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["id"], row["caption_hash"]), []).append(row)
    return found


def wanted(case: Case, rows: Sequence[Mapping[str, Any]] | None) -> list[int]:
    """The draws to make for one sample, by the rows that there are for it."""
    everything = [*range(case.wanted)]
    if rows is None:
        return everything
    found: dict[int, list[str | None]] = {}
    for row in rows:
        found.setdefault(row["draw"], []).append(row["reason"])
    again = {number for number, reasons in found.items() if None not in reasons and reasons[-1] in case.retry}
    return sorted(again | ({*everything} - found.keys()))


@settings(max_examples=80)
@given(case=cases())
def test_only_what_is_missing_or_to_be_tried_again_is_asked_for(case: Case) -> None:
    previous = judged_leniently(first_round(case).drop_columns(["reason"]))
    rows = by_key(previous.to_pylist())
    table = second_samples(case, previous)
    assert asked(table) == [wanted(case, rows.get((each.id, each.caption_hash))) for each in case.now]


@settings(max_examples=60)
@given(case=cases())
def test_nothing_is_asked_of_a_shard_that_is_complete(case: Case) -> None:
    table = samples_of(case.before, case.first, first_round(case))
    found = run_round(table, case.first, case.random)
    assert not any(asked(table))
    assert found.made.num_rows == len(found.engine.prompts) == 0


@settings(max_examples=60)
@given(case=cases())
def test_new_attempts_come_after_the_old_ones_and_know_what_is_accepted(case: Case) -> None:
    previous = judged_leniently(first_round(case).drop_columns(["reason"]))
    rows = by_key(previous.to_pylist())
    table = second_samples(case, previous)
    for each, numbers, attempt, others in zip(
        case.now, asked(table), table.column("attempt").to_pylist(), known(table), strict=True
    ):
        old = rows.get((each.id, each.caption_hash), [])
        if numbers:
            assert all(row["attempt"] < attempt for row in old)
            assert others == [*first_accepted(old).values()]


@settings(max_examples=60)
@given(case=cases())
def test_just_what_is_asked_for_is_made_from_the_attempt_that_is_asked_for(case: Case) -> None:
    table = second_samples(case, first_round(case))
    made = by_key(run_round(table, case.second, case.random).draws.to_pylist())
    for each, numbers, attempt in zip(case.now, asked(table), table.column("attempt").to_pylist(), strict=True):
        attempts: dict[int, list[int]] = {}
        for row in made.pop((each.id, each.caption_hash), []):
            assert row["outcome"] == (why_unanswered(each) or tables.DRAWN)
            attempts.setdefault(row["draw"], []).append(row["attempt"])
        assert [*attempts] == numbers
        more = 0 if why_unanswered(each) else case.second.rewrite.redraws
        for found in attempts.values():
            assert found == [*range(attempt, attempt + len(found))]
            assert len(found) <= 1 + more
    assert not made


@settings(max_examples=80)
@given(case=cases())
def test_old_and_new_draws_are_those_of_the_samples_that_there_are_in_their_order(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)
    assert merged.schema == tables.DRAWS_SCHEMA
    keys = [(each.id, each.caption_hash) for each in case.now]
    old, new, found = (by_key(table.to_pylist()) for table in (previous, again.draws, merged))
    assert [*found] == keys
    for key in keys:
        made_again = {row["draw"] for row in new.get(key, [])}
        # Only a reason that stands in the place of a text goes, and only where the same rewrite was tried again.
        stay = [row for row in old.get(key, []) if row["outcome"] == tables.DRAWN or row["draw"] not in made_again]
        expected = [{name: row[name] for name in tables.DRAWS_SCHEMA.names} for row in stay] + new.get(key, [])
        assert found[key] == sorted(expected, key=lambda row: (row["draw"], row["attempt"]))


@settings(max_examples=60)
@given(case=cases())
def test_judging_old_and_new_draws_together_changes_no_verdict(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)

    def verdicts(table: pa.Table) -> dict[tuple[Any, ...], str | None]:
        names = ("id", "caption_hash", "draw", "attempt")
        return {tuple(row[name] for name in names): row["reason"] for row in table.to_pylist()}

    before = {**verdicts(previous), **verdicts(again.kept)}
    after = verdicts(judged(merged, judge_draws(merged, gate_of(case.second))))
    assert after == {key: before[key] for key in after}


@settings(max_examples=40)
@given(case=cases())
def test_a_shard_is_complete_after_its_second_round(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)
    complete = judged(merged, judge_draws(merged, gate_of(case.second)))
    assert not any(asked(samples_of(case.now, case.second, complete, wanted=case.wanted)))


@settings(max_examples=80)
@given(case=cases())
def test_after_its_second_round_every_rewrite_of_a_shard_is_accepted_or_has_a_reason_by_any_gate(case: Case) -> None:
    previous = first_round(case)
    again = run_round(second_samples(case, previous), case.second, case.random)
    merged = merge_draws(again.samples, previous, again.draws)
    for found in (judged(merged, judge_draws(merged, gate_of(case.second))), judged_leniently(merged)):
        counts = Statistics.of(merged, found.column("reason").combine_chunks())
        assert counts.captions == len(case.now)
        assert counts.accepted + counts.unfilled.total() == len(case.now) * case.wanted
        rows = by_key(found.to_pylist())
        assert counts.accepted == sum(len(first_accepted(each)) for each in rows.values())


def test_a_draw_that_kills_its_engine_is_counted_beside_the_draws_that_there_are() -> None:
    one, two = experiment_of(gate={"min_words": 0, "min_shared_words": 0}), experiment_of(rewrites_per_set=2)
    samples = [sample("a", "a red dog")]
    previous = run_round(samples_of(samples, one), one, Random(1)).kept
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


# --- how many rewrites a shard that is done again is to have


def write_shard(path: Path, captions: Mapping[str, str]) -> Shard:
    write_tar(path, [(f"{name}.txt", caption.encode()) for name, caption in captions.items()])
    (shard,) = list_shards(DataConfig(path=str(path.parent)))
    return shard


def read_unit(shard: Shard, experiment: Experiment, rewrite_set: RewriteSet, unit: WorkUnit) -> Mapping[str, Any]:
    """The stream row that the reading task makes of a unit."""
    item = {name: [value] for name, value in shard_row(shard, [unit]).items()}
    (table,) = ReadShard(experiment, {"human": rewrite_set}, {"human": PROMPT_SET})(pa.table(item))
    (row,) = table.to_pylist()
    assert isinstance(row, dict)
    return row


def test_a_ticket_is_read_as_the_shard_that_the_order_gives_for_it(tmp_path: Path) -> None:
    class Reversed:
        """The last shard for the first ticket."""

        def offer(self, items: Mapping[str, Mapping[str, str]]) -> None:
            self.items = list(items.values())[::-1]

        def take(self, ticket: int) -> Mapping[str, str]:
            return self.items[ticket]

        def give_back(self, shard: str, item: Mapping[str, str]) -> None:
            raise AssertionError("no engine is lost here")

    experiment, order, units = experiment_of(), Reversed(), []
    offered: dict[str, dict[str, str]] = {}
    for number in range(2):
        shard = write_shard(tmp_path / str(number) / f"{number}.tar", {f"s{number}": "a red dog"})
        units.append(WorkUnit("human", shard.name, 0))
        offered[shard.name] = shard_row(shard, units[-1:])
    order.offer(offered)
    sets = {"human": RewriteSet(str(tmp_path / "set"), "gate")}
    (table,) = ReadShard(experiment, sets, {"human": PROMPT_SET}, order)(pa.table({"id": [0]}))
    (row,) = table.to_pylist()
    assert WorkUnit.from_json(row["unit"]) == units[1]


@pytest.mark.parametrize("is_judged", [True, False])
@pytest.mark.parametrize("then", [1, 3, 4])
def test_an_edited_shard_has_as_many_rewrites_as_were_ever_asked_for(
    tmp_path: Path, then: int, is_judged: bool
) -> None:
    rewrite_set = RewriteSet(str(tmp_path / "set"), "gate")
    first, second = experiment_of(rewrites_per_set=3), experiment_of(rewrites_per_set=then)
    shard = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": "two cats on a sofa", "c": " "})
    found = run_round(samples_of([*read_samples(shard, first.data, with_images=False)], first), first, Random(0))
    origin = Origin(shard.file_identity, "inputs", 3)
    store.write_draws(rewrite_set, shard.name, 0, found.draws, origin)
    if is_judged:
        store.commit_verdicts(rewrite_set, shard.name, 0, found.draws, found.reasons, origin)

    edited = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": "a blue house", "c": " "})
    row = read_unit(edited, second, rewrite_set, WorkUnit("human", "0.tar", 1, previous=0))
    most = max(3, then)
    added = [*range(3, most)]
    assert origin_of(row).rewrites_per_set == most
    table = table_of(row["samples"])
    assert asked(table) == [added, [*range(most)], added]

    again = run_round(table, second, Random(1))
    merged = merge_draws(table, found.draws, again.draws)
    counts = Statistics.of(merged, judge_draws(merged, gate_of(second)))
    assert counts.accepted + counts.unfilled.total() == 3 * most
    assert counts.unfilled["caption_empty"] == most


# --- engines that die


def rewrite_until_done(
    row: pa.Table, experiment: Experiment, location: str, random: Random
) -> tuple[pa.Table, list[RandomEngine]]:
    """The draws of a stream row, another actor going on after each death; and the engines that it took."""
    engines: list[RandomEngine] = []
    while True:
        engines.append(RandomEngine(random))
        assert len(engines) < 100, "there is no end"
        try:
            found = OfflineActor(experiment, engines[-1], location).call(row)
        except ActorDiedError:
            continue
        assert found["failure"] is None
        return table_of(found["made"]), engines


@pytest.fixture(scope="module", autouse=True)
def _node_lives() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("laclip_ray.rewriting.actor._alive_nodes", lambda: {"node"})
        yield


@settings(max_examples=25)
@given(
    others=some_samples,
    places=st.sets(st.integers(0, 8), min_size=1, max_size=3),
    experiment=experiments,
    random=randoms,
)
def test_captions_that_kill_engines_have_that_reason_for_each_of_their_rewrites(
    others: list[Sample], places: set[int], experiment: Experiment, random: Random
) -> None:
    samples = [*others]
    for place in sorted(places):
        samples.insert(place, sample(f"deadly{place}", DEADLY))
    table = samples_of(samples, experiment)
    row = stream_row(ROUND_0, Origin("source", "inputs", experiment.rewrite.rewrites_per_set), table)
    made, engines = rewrite_until_done(row, experiment, f"memory://unit-{uuid.uuid4().hex}", random)
    assert len(engines) == 2 + experiment.rewrite.max_engine_deaths * len(places)
    draws, reasons = join_draws(table, made), made.column("reason").combine_chunks()
    rows = by_key(judged(draws, reasons).to_pylist())
    assert [*rows] == [(each.id, each.caption_hash) for each in samples]
    everything = [*range(experiment.rewrite.rewrites_per_set)]
    for each in samples:
        found = rows[each.id, each.caption_hash]
        assert {one["outcome"] for one in found} == {why_unanswered(each) or tables.DRAWN}
        assert [*dict.fromkeys(one["draw"] for one in found)] == everything
    counts = Statistics.of(draws, reasons)
    assert counts.accepted + counts.unfilled.total() == len(samples) * len(everything)
    assert counts.unfilled[tables.ENGINE_DIED] == len(places) * len(everything)


WITH_DEADLY = [sample("a", "a red dog"), sample("b", DEADLY), sample("c", "two cats on a sofa")]
ORIGIN = Origin("source", "inputs", 1)


def test_what_is_kept_of_a_suspect_shard_is_not_asked_again() -> None:
    experiment, location = experiment_of(), f"memory://unit-{uuid.uuid4().hex}"
    row = stream_row(ROUND_0, ORIGIN, samples_of(WITH_DEADLY, experiment))
    made, _ = rewrite_until_done(row, experiment, location, Random(0))
    again, (engine,) = rewrite_until_done(row, experiment, location, Random(1))
    assert again.equals(made)
    assert not engine.prompts


@pytest.mark.parametrize(
    ("unit", "origin"),
    [
        (ROUND_0, replace(ORIGIN, file_identity="another file")),
        (ROUND_0, replace(ORIGIN, inputs="other captions")),
        (ROUND_0, replace(ORIGIN, rewrites_per_set=2)),
        (replace(ROUND_0, revision=1), ORIGIN),
        (replace(ROUND_0, previous=0), ORIGIN),
        (replace(ROUND_0, retry=("too_short",)), ORIGIN),
    ],
)
def test_nothing_that_is_kept_of_a_suspect_shard_is_used_for_an_edited_one_or_another_unit(
    unit: WorkUnit, origin: Origin
) -> None:
    experiment, location = experiment_of(), f"memory://unit-{uuid.uuid4().hex}"
    rewrite_until_done(
        stream_row(ROUND_0, ORIGIN, samples_of(WITH_DEADLY, experiment)), experiment, location, Random(0)
    )
    url = attempts_url(location, ROUND_0.shard)
    before = read_attempts(url)
    assert before.failed == (1,)

    edited = [WITH_DEADLY[0], sample("b", "a blue house"), WITH_DEADLY[2]]
    made, (engine,) = rewrite_until_done(
        stream_row(unit, origin, samples_of(edited, experiment)), experiment, location, Random(0)
    )
    assert {*made.column("outcome").to_pylist()} == {tables.DRAWN}
    assert len({prompt for prompt, _ in engine.prompts}) == 3
    assert read_attempts(url) == AttemptLog()

    # A death over it begins a search of its own, which blames nobody yet.
    deadly = stream_row(unit, origin, samples_of(WITH_DEADLY[::-1], experiment))
    with pytest.raises(ActorDiedError):
        OfflineActor(experiment, RandomEngine(Random(0)), location).call(deadly)
    after = read_attempts(url)
    assert after.work != before.work
    assert after.attempt is not None
    assert (after.pieces, after.failed) == ((), ())


# --- what travels


@given(numbers=st.sets(st.integers(0, MAX_REWRITES_PER_SET - 1)))
def test_numbers_of_draws_survive_their_bits_in_a_table(numbers: set[int]) -> None:
    bits = pa.array([slot_bits(numbers)], SAMPLES_SCHEMA.field("draws").type)
    assert slot_numbers(bits[0].as_py()) == tuple(sorted(numbers))


@given(retry=st.lists(st.text(), max_size=2).map(tuple), engine_s=st.floats(0, 1e6), samples=some_samples)
def test_a_stream_row_holds_its_unit_origin_and_samples(
    retry: tuple[str, ...], engine_s: float, samples: list[Sample]
) -> None:
    unit = WorkUnit("human", "sub/0.tar", 3, 2, retry)
    origin = Origin("10-1.5", "abc", 2, engine_s)
    table = samples_of(samples, experiment_of())
    (row,) = stream_row(unit, origin, table).to_pylist()
    assert WorkUnit.from_json(row["unit"]) == unit
    assert origin_of(row) == origin
    assert table_of(row["samples"]).equals(table)
    assert row["failure"] is None


def test_a_failure_travels_in_the_place_of_samples() -> None:
    (row,) = stream_row(ROUND_0, failure="cannot be read").to_pylist()
    assert (WorkUnit.from_json(row["unit"]), row["failure"], row["samples"]) == (ROUND_0, "cannot be read", None)
