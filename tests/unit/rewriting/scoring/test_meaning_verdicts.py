import asyncio
from dataclasses import replace
from random import Random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import MeaningGateConfig
from laclip_ray.rewriting.draws import join_draws
from laclip_ray.rewriting.judging.meaning import MEANING_ADDED, MEANING_LOST
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate, judge_by_meaning, read_scored_draws, verdicts_of
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import MEANING_SCORES, SCORED_DRAWS_SCHEMA
from tests.unit.rewriting.meaning_fakes import FakeEncoders, meaning_gate
from tests.unit.rewriting.rounds import (
    FIRST_UNIT,
    ORIGIN,
    RandomEngine,
    Round,
    experiment_of,
    gate_of,
    generator_of,
    new_location,
    sample,
    samples_of,
)

EXPERIMENT = experiment_of(rewrites_per_set=3, redraws=2)
SAMPLES = samples_of([sample("a", "a red dog"), sample("b", "two cats on a sofa"), sample("c", "")], EXPERIMENT)
randoms = st.randoms(use_true_random=False)


def draw(meaning: MeaningGate | None, random: Random) -> Round:
    engine = RandomEngine(random)
    generator = replace(generator_of(EXPERIMENT, engine, new_location()), meaning=meaning)
    made = asyncio.run(generator.generate(FIRST_UNIT, ORIGIN, SAMPLES))
    return Round(SAMPLES, made, join_draws(SAMPLES, made), engine)


def without_scores(draws: pa.Table) -> pa.Table:
    for name in MEANING_SCORES:
        column = draws.schema.get_field_index(name)
        draws = draws.set_column(column, draws.schema.field(column), pa.nulls(draws.num_rows, pa.float32()))
    return draws


def encoders(meaning: MeaningGate) -> FakeEncoders:
    assert isinstance(meaning.encoders, FakeEncoders)
    return meaning.encoders


@given(random=randoms, threshold=st.floats(0.2, 0.9))
def test_judging_again_gives_the_verdicts_and_scores_found_while_drawing(random: Random, threshold: float) -> None:
    meaning = meaning_gate(min_faithfulness=threshold)
    round_ = draw(meaning, random)
    found = verdicts_of(round_.made, meaning)
    again = judge_by_meaning(without_scores(round_.draws), gate_of(EXPERIMENT), meaning)
    assert again.reasons.equals(found.reasons)
    assert all(again.scores[name].equals(found.scores[name]) for name in MEANING_SCORES)


@given(random=randoms, threshold=st.floats(0.2, 0.9))
def test_another_threshold_needs_no_encoder_where_the_scores_are_known(random: Random, threshold: float) -> None:
    round_ = draw(meaning_gate(min_faithfulness=0.5), random)
    other = meaning_gate(min_faithfulness=threshold)
    again = judge_by_meaning(round_.draws, gate_of(EXPERIMENT), other)
    assert not encoders(other).scored
    assert again.reasons.equals(judge_by_meaning(without_scores(round_.draws), gate_of(EXPERIMENT), other).reasons)


@given(random=randoms)
def test_a_text_that_the_gate_refuses_is_not_scored(random: Random) -> None:
    meaning = meaning_gate()
    round_ = draw(meaning, random)
    plain = judge_by_meaning(round_.draws, gate_of(EXPERIMENT), None)
    assert not plain.scores
    texts = round_.draws.column("text").to_pylist()
    for row, (score, reason) in enumerate(
        zip(round_.draws.column("meaning").to_pylist(), round_.reasons.to_pylist(), strict=True)
    ):
        if texts[row] is None or reason not in (None, MEANING_LOST, MEANING_ADDED, "copy_of_rewrite"):
            assert score is None


def test_refused_draws_are_drawn_again() -> None:
    strict = [draw(meaning_gate(min_faithfulness=1.0), Random(seed)) for seed in range(5)]
    off = [draw(None, Random(seed)) for seed in range(5)]
    assert {MEANING_LOST, MEANING_ADDED} & {reason for round_ in strict for reason in round_.reasons.to_pylist()}
    assert sum(round_.made.num_rows for round_ in strict) > sum(round_.made.num_rows for round_ in off)


def test_stored_scores_are_read_with_the_draws(tmp_path: object) -> None:
    meaning = meaning_gate()
    round_ = draw(meaning, Random(1))
    rewrite_set = RewriteSet(f"{tmp_path}/cleaned", "gate")
    verdicts = verdicts_of(round_.made, meaning)
    store.write_draws(rewrite_set, "0.tar", 0, round_.draws, ORIGIN)
    store.commit_verdicts(
        rewrite_set, "0.tar", 0, round_.draws, verdicts.reasons, ORIGIN, verdicts.scores, verdicts.scorers
    )
    read = read_scored_draws(replace(rewrite_set, gate="other"), "0.tar", 0, meaning)
    assert read.replace_schema_metadata(None).equals(round_.draws)
    other = replace(meaning, scorers=dict.fromkeys(MEANING_SCORES, "another encoder"))
    assert read_scored_draws(rewrite_set, "0.tar", 0, other).column("meaning").null_count == read.num_rows
    assert read.schema.names == SCORED_DRAWS_SCHEMA.names


def test_the_gate_can_be_off() -> None:
    assert MeaningGateConfig().min_faithfulness > 0
    assert draw(None, Random(0)).draws.column("meaning").null_count == draw(None, Random(0)).draws.num_rows
