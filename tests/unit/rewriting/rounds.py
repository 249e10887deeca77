"""One round of drawing a shard without Ray, vLLM or files: random engines, random samples, and the generator."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.data.records import Sample
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.draws import build_samples, describe_samples, join_draws, judge_draws
from laclip_ray.rewriting.engines.engine import Answer, Completion, EngineDiedError, RequestError
from laclip_ray.rewriting.engines.heads import build_heads
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.prompting.head_choice import pairs_of, unaligned_heads
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from laclip_ray.rewriting.running.generator import ShardGenerator, useful_redraws
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import Origin, WorkUnit, slot_numbers

PROMPT_SET = load_prompt_set("cleaned")
HEADS = 4
UNANSWERED = "a caption that the engine refuses"
DEADLY = "a caption that kills the engine"
CAPTIONS = ["a red dog", "A red dog!", "two cats on a sofa", "a blue house", UNANSWERED]
EXAMPLE = PROMPT_SET.pairs[0].target
TEXTS = [
    *("a dog", "the dog is red", "The dog is red.", "a dog, all red", "two cats", "cats on the sofa", "two sofa cats"),
    *("the house is blue", EXAMPLE, "x", ""),
]
FIRST_UNIT = WorkUnit("cleaned", "0.tar", 0)
ORIGIN = Origin("file identity", "inputs", 1)
LENIENT = {"min_words": 0, "min_shared_words": 0, "drop_truncated": False}


def experiment_of(**rewrite: Any) -> Experiment:
    content = {"model": "demo-rewriter", "prompt_sets": ["cleaned"], "heads": HEADS, **rewrite}
    return parse_experiment({"name": "a", "output": "out", "data": {"path": "b"}, "rewrite": content})


def gate_of(experiment: Experiment) -> Gate:
    """The experiment's gate, with a tokeniser that takes no time to load."""
    heads = pairs_of(PROMPT_SET, unaligned_heads(PROMPT_SET, experiment.rewrite.heads, experiment.seed))
    return Gate(experiment.rewrite.gate, heads, lambda text: len(text.split()) + 2)


@dataclass
class RandomEngine:
    """Answers every prompt with random ones of a few texts: many are equal, and the gate refuses many."""

    random: Random
    prompts: list[tuple[str, int]] = field(default_factory=list)
    tokens: Counter[str] = field(default_factory=Counter)

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        self.prompts.append((prompt, count))
        await asyncio.sleep(0)
        if UNANSWERED in prompt:
            raise RequestError(tables.PROMPT_TOO_LONG)
        if DEADLY in prompt:
            raise EngineDiedError
        self.tokens.update(prompt_tokens=7, cached_tokens=5, output_tokens=count)
        return Answer([self._completion() for _ in range(count)], 7, 5)

    def _completion(self) -> Completion:
        return Completion(self.random.choice(TEXTS), self.random.random() < 0.1, 1, -self.random.random())

    def close(self) -> None:
        """There is no process to stop."""


def generator_of(experiment: Experiment, engine: RandomEngine, location: str) -> ShardGenerator:
    """A generator for the prompt set `cleaned` with its attempts at `location`."""
    numbers = unaligned_heads(PROMPT_SET, experiment.rewrite.heads, experiment.seed)
    return ShardGenerator(
        engine=engine,
        heads=build_heads(experiment.rewrite, {"cleaned": PROMPT_SET}, {"cleaned": numbers}),
        gates={"cleaned": gate_of(experiment)},
        sets={"cleaned": RewriteSet(location, "gate")},
        redraws=useful_redraws(experiment.rewrite),
        max_engine_deaths=experiment.rewrite.max_engine_deaths,
        run="run",
        node="node",
        alive_nodes=lambda: {"node"},
        completions=experiment.rewrite.completions,
    )


def new_location() -> str:
    """An empty directory in memory."""
    return f"memory://unit-{uuid.uuid4().hex}"


def sample(sample_id: str, caption: str, *problems: str) -> Sample:
    return Sample(0, sample_id, caption, None, problems)


def samples_of(
    samples: Sequence[Sample],
    experiment: Experiment,
    previous: pa.Table | None = None,
    retry: Iterable[str] = (),
    rewrites_per_set: int | None = None,
) -> pa.Table:
    """The samples table of a first round, or with `previous` draws of a second one."""
    unit = FIRST_UNIT if previous is None else WorkUnit("cleaned", "0.tar", 1, previous=0, retry=tuple(retry))
    rewrite = experiment.rewrite
    described = describe_samples(samples, rewrite.max_caption_characters, rewrite.gate.drop_wordless_captions)
    slots = rewrites_per_set or rewrite.rewrites_per_set
    return build_samples(described, unit, rewrite.heads, experiment.seed, slots, previous)


@dataclass
class Round:
    """One run of the generator over a shard."""

    samples: pa.Table
    made: pa.Table
    draws: pa.Table
    engine: RandomEngine

    @property
    def reasons(self) -> pa.Array:
        return self.made.column("reason").combine_chunks()

    @property
    def judged(self) -> pa.Table:
        return with_reasons(self.draws, self.reasons)


def run_round(samples: pa.Table, experiment: Experiment, random: Random) -> Round:
    engine = RandomEngine(random)
    generator = generator_of(experiment, engine, new_location())
    made = asyncio.run(generator.generate(FIRST_UNIT, ORIGIN, samples))
    return Round(samples, made, join_draws(samples, made), engine)


def slots_to_draw(table: pa.Table) -> list[list[int]]:
    """The slots to draw of each sample."""
    return [[*slot_numbers(bits)] for bits in table.column("slots").to_pylist()]


def known_rewrites(table: pa.Table) -> list[list[str]]:
    """The accepted rewrites that each sample already has."""
    return [json.loads(others) if others else [] for others in table.column("others").to_pylist()]


def with_reasons(draws: pa.Table, reasons: pa.Array) -> pa.Table:
    """Draws as a reader gets them from storage."""
    return draws.append_column("reason", reasons)


def judged_leniently(draws: pa.Table) -> pa.Table:
    """Draws judged by another gate, which may accept draws that the first gate had drawn again."""
    return with_reasons(draws, judge_draws(draws, gate_of(experiment_of(gate=LENIENT))))


def reason_without_text(record: Sample) -> str | None:
    """The reason why the random engine gives no text for a sample; None: it gives one."""
    reasons = {"": "caption_empty", UNANSWERED: tables.PROMPT_TOO_LONG, DEADLY: tables.ENGINE_DIED}
    return reasons.get(record.caption)


def first_accepted(rows: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """The rewrites of one sample that training reads: the first accepted attempt at each slot."""
    texts: dict[int, str] = {}
    for row in rows:
        if row["reason"] is None:
            texts.setdefault(row["draw"], row["text"])
    return texts


def by_key(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Rows by (id, caption hash), in order."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["id"], row["caption_hash"]), []).append(row)
    return grouped


captions = st.sampled_from(CAPTIONS)
some_samples = st.lists(st.one_of(captions, st.just(None)), max_size=8).map(
    lambda drawn: [
        sample(f"s{row}", caption) if caption else sample(f"s{row}", "", "caption_empty")
        for row, caption in enumerate(drawn)
    ]
)
randoms = st.integers(0, 2**32).map(Random)
experiments = st.builds(experiment_of, rewrites_per_set=st.integers(1, 3), redraws=st.integers(0, 2))
