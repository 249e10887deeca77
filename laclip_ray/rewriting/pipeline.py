"""The rewriting pipeline: shards through Ray Data to a pool of engines, and out as committed rewrite sets.

    work list -> read captions, build prompts (tasks) -> generate (engine actors) -> judge and commit (tasks)

Guarantees: a rerun does only what is not committed; a row that cannot be rewritten is committed with its reason; a
shard that cannot be read, or that kills its engine too often, is left out and named, and the run is incomplete.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment, RewriteConfig
from laclip_ray.data.shards import NO_CAPTION, Sample, Shard, list_shards, read_samples
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting import store
from laclip_ray.rewriting.actor import STREAM_SCHEMA, BuildEngine, RewritingActor, payload_of, stream_row
from laclip_ray.rewriting.engine import VllmEngine
from laclip_ray.rewriting.gate import Candidate, judge
from laclip_ray.rewriting.prompts import (
    SEPARATOR,
    PromptSet,
    build_heads,
    build_prompt,
    choose_head,
    head_pairs,
    load_prompt_set,
)
from laclip_ray.rewriting.store import RewriteSet, RewriteSets, Statistics

logger = logging.getLogger(__name__)

SEPARATOR_IN_CAPTION = "separator_in_caption"
"""A problem that is only noted: the prompt shows the separator in another form."""


@dataclass(frozen=True)
class Work:
    """What there is to do, and where it goes."""

    experiment: Experiment
    shards: dict[str, Shard]
    prompt_sets: dict[str, PromptSet]
    sets: dict[str, RewriteSet]
    to_draw: dict[str, list[str]]
    """Shard name to the prompt sets that have no draws for it."""
    to_judge: dict[str, list[str]]
    """Shard name to the prompt sets that have draws, but no verdicts of this gate."""


@dataclass
class Outcome:
    """How a rewriting run ended."""

    statistics: dict[str, Statistics] = field(default_factory=dict)
    """By prompt set, over all committed shards."""
    shards: int = 0
    shards_done_before: int = 0
    """Shards that were committed for every set when the run began."""
    commits: int = 0
    """Shards times prompt sets committed by this run."""
    engines: set[str] = field(default_factory=set)
    """The engines that this run's rewrites came from."""
    missing: dict[str, str] = field(default_factory=dict)
    """`prompt set/shard` that is not committed, and why."""
    elapsed_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "complete": not self.missing,
            "shards": self.shards,
            "shards_done_before": self.shards_done_before,
            "commits": self.commits,
            "engines": len(self.engines),
            "elapsed_s": round(self.elapsed_s, 3),
            "missing": self.missing,
            "prompt_sets": {name: statistics.to_json() for name, statistics in self.statistics.items()},
        }


def plan_work(experiment: Experiment) -> Work:
    """Find what is left to do; starts and writes nothing.

    Raises:
        UserError: the data, a prompt set, the model or the output place is not usable.
    """
    rewrite = experiment.rewrite
    prompt_sets = [load_prompt_set(name) for name in rewrite.prompt_sets]
    by_name = {prompt_set.name: prompt_set for prompt_set in prompt_sets}
    if len(by_name) < len(prompt_sets):
        raise UserError("rewrite.prompt_sets: two sets have the same name")
    _check_model(rewrite)
    gate = store.gate_fingerprint(rewrite.gate)
    sets = {name: RewriteSet(storage.join(experiment.rewrite_output, name), gate) for name in by_name}
    for name, prompt_set in by_name.items():
        recipe = store.build_recipe(rewrite, prompt_set, experiment.seed)
        store.check_place(sets[name].location, recipe, "rewrite.output")
    shards = {shard.name: shard for shard in list_shards(experiment.data)}
    drawn = {name: each.drawn_shards() for name, each in sets.items()}
    committed = {name: each.committed_shards() for name, each in sets.items()}
    to_draw, to_judge = {}, {}
    for shard in shards:
        if missing := [name for name in sets if shard not in drawn[name]]:
            to_draw[shard] = missing
        if unjudged := [name for name in sets if shard in drawn[name] and shard not in committed[name]]:
            to_judge[shard] = unjudged
    return Work(experiment, shards, by_name, sets, to_draw, to_judge)


def _check_model(rewrite: RewriteConfig) -> None:
    looks_local = rewrite.model.startswith((".", "/", "~"))
    directory = store.model_directory(rewrite.model)
    if looks_local and not storage.exists(storage.join(directory, "config.json")):
        raise UserError(f"rewrite.model: {rewrite.model!r} is not a directory with a model (no config.json)")
    if rewrite.engine.args:
        from laclip_ray.rewriting.engine import engine_arguments

        engine_arguments(rewrite, seed=0)


def run_rewriting(experiment: Experiment, build_engine: BuildEngine = VllmEngine) -> Outcome:
    """Rewrite every caption that has no outcome yet, and commit shard by shard.

    Args:
        experiment: the configuration; `rewrite.output` holds the result.
        build_engine: makes an engine inside each actor.

    Raises:
        UserError: bad input, before any engine starts.
        IncompleteError: some shards are not committed; all others are.
    """
    work = plan_work(experiment)
    rewrite = experiment.rewrite
    plan = cluster.Plan(
        "rewrite",
        rewrite.engine.actors.min if work.to_draw else 0,
        rewrite.engine.cpus_per_actor,
        data_cpus=1,
    )
    cluster.connect(experiment, plan, {"rewrite.output": experiment.rewrite_output})
    for name, prompt_set in work.prompt_sets.items():
        recipe = store.build_recipe(rewrite, prompt_set, experiment.seed)
        store.open_for_writing(work.sets[name].location, recipe, rewrite.gate, "rewrite.output")
    started_s = time.monotonic()
    outcome = Outcome(shards=len(work.shards))
    outcome.shards_done_before = len(work.shards) - len({*work.to_draw, *work.to_judge})
    error: Exception | None = None
    try:
        _execute(work, build_engine, outcome)
    except Exception as failure:  # noqa: BLE001 - whatever Ray Data raises, what is committed is counted first
        error = failure
    _count(work, outcome)
    outcome.elapsed_s = time.monotonic() - started_s
    storage.write_json(storage.join(experiment.rewrite_output, "summary.json"), outcome.to_json())
    if outcome.missing:
        raise IncompleteError(_describe_missing(outcome, experiment, error)) from error
    if error is not None:
        logger.warning("everything is committed, but Ray Data ended with an error: %s", error)
    return outcome


def _describe_missing(outcome: Outcome, experiment: Experiment, error: Exception | None) -> str:
    shown = [f"  {name}: {why}" for name, why in list(outcome.missing.items())[:20]]
    if rest := len(outcome.missing) - len(shown):
        shown.append(f"  and {rest} more, in {storage.join(experiment.rewrite_output, 'summary.json')}")
    if error is not None:
        cause = str(error).strip() or type(error).__name__
        shown.append(f"the run was stopped by: {cause.splitlines()[-1]}")
    units = outcome.shards * len(outcome.statistics)
    return "\n".join(
        [
            f"rewriting is incomplete: {len(outcome.missing)} of {units} (prompt set / shard) are not committed; "
            "the same command continues",
            *shown,
        ]
    )


def _count(work: Work, outcome: Outcome) -> None:
    """Fill in the counts over everything that is committed, by this run and earlier ones."""
    for name, rewrite_set in work.sets.items():
        committed = rewrite_set.committed_shards() & work.shards.keys()
        outcome.statistics[name] = store.read_statistics(rewrite_set, committed)
        storage.write_json(storage.join(rewrite_set.location, "summary.json"), outcome.statistics[name].to_json())
        for shard in work.shards.keys() - committed:
            outcome.missing.setdefault(f"{name}/{shard}", "not done")
        for shard in committed:
            outcome.missing.pop(f"{name}/{shard}", None)


def _execute(work: Work, build_engine: BuildEngine, outcome: Outcome) -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    experiment = work.experiment
    streams = []
    if work.to_judge:
        streams.append(_sources(work.to_judge).map_batches(
            _ReadDraws(work.sets), batch_size=1, batch_format="pyarrow", num_cpus=1
        ))  # fmt: skip
    if work.to_draw:
        engine = experiment.rewrite.engine
        prompts = _sources(work.to_draw).map_batches(
            _ReadPrompts(experiment, work.shards, work.prompt_sets),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=0.5,  # mostly waits for storage; and unlike the actor, so that Ray does not fuse it with that
        )
        streams.append(
            prompts.map_batches(
                RewritingActor,
                fn_constructor_args=(experiment.rewrite, experiment.seed, work.sets, build_engine),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=engine.actors.min,
                    max_size=engine.actors.max,
                    max_tasks_in_flight_per_actor=engine.shards_in_flight + 1,
                    max_concurrent_calls_per_actor=engine.shards_in_flight,
                ),
                num_cpus=engine.cpus_per_actor,
                num_gpus=cluster.gpus_each(engine.gpus_per_actor),
            )
        )
    if not streams:
        return
    stream = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
    done = stream.map_batches(
        _JudgeAndCommit(experiment, work.sets, work.prompt_sets),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
    )
    total = sum(map(len, work.to_draw.values())) + sum(map(len, work.to_judge.values()))
    for row in done.iter_rows():
        if row["failure"]:
            outcome.missing[f"{row['prompt_set']}/{row['shard']}"] = row["failure"]
            logger.error("%s/%s: %s", row["prompt_set"], row["shard"], row["failure"])
            continue
        outcome.commits += 1
        if row["engine"]:
            outcome.engines.add(row["engine"])
        logger.info(
            "committed %d of %d: %s/%s, %d captions, %d accepted rewrites",
            outcome.commits, total, row["prompt_set"], row["shard"], row["captions"], row["accepted"],
        )  # fmt: skip


def _sources(todo: dict[str, list[str]]) -> Any:
    """A dataset with a block for each shard, so that each is a task of its own."""
    import ray

    items = [{"shard": shard, "prompt_sets": json.dumps(names)} for shard, names in todo.items()]
    return ray.data.from_items(items, override_num_blocks=len(items))


@dataclass(frozen=True)
class _ReadPrompts:
    """Task: one shard in, one stream row a prompt set out; its table has a row a sample, with the prompt."""

    experiment: Experiment
    shards: dict[str, Shard]
    prompt_sets: dict[str, PromptSet]

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        (item,) = batch.to_pylist()
        names = json.loads(item["prompt_sets"])
        try:
            samples = list(read_samples(self.shards[item["shard"]], self.experiment.data, with_images=False))
        except (OSError, ValueError) as error:
            for name in names:
                yield stream_row(item["shard"], name, None, failure=f"cannot be read: {error}")
            return
        for name in names:
            prompts = build_prompts(samples, self.prompt_sets[name], self.experiment)
            yield stream_row(item["shard"], name, prompts)


@dataclass(frozen=True)
class _ReadDraws:
    """Task: one shard in, its committed draws out, to be judged again."""

    sets: dict[str, RewriteSet]

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        (item,) = batch.to_pylist()
        for name in json.loads(item["prompt_sets"]):
            draws = storage.read_parquet(self.sets[name].draws_url(item["shard"]))
            yield stream_row(item["shard"], name, draws)


def build_prompts(samples: Sequence[Sample], prompt_set: PromptSet, experiment: Experiment) -> pa.Table:
    """The samples of a shard with their prompts.

    Equal captions get one prompt, by the id of the first, so that they are generated once.

    Returns:
        A row a sample: id, caption_hash, caption, problems, head, prompt (null where `outcome` says why there is
        none), outcome.
    """
    rewrite = experiment.rewrite
    heads = build_heads(prompt_set, rewrite.heads, experiment.seed)
    head_of: dict[str, int] = {}
    rows = []
    for sample in samples:
        outcome = store.DRAWN
        problems = sample.problems
        if unusable := NO_CAPTION.intersection(problems):
            outcome = min(unusable)
        elif len(sample.caption) > rewrite.max_caption_characters:
            outcome = store.CAPTION_TOO_LONG
        elif SEPARATOR in sample.caption:
            problems = (*problems, SEPARATOR_IN_CAPTION)
        head = prompt = None
        if outcome == store.DRAWN:
            head = head_of.setdefault(
                sample.caption, choose_head(prompt_set.name, sample.id, rewrite.heads, experiment.seed)
            )
            prompt = build_prompt(heads[head], sample.caption)
        rows.append(
            {
                "id": sample.id,
                "caption_hash": sample.caption_hash,
                "caption": sample.caption,
                "problems": ",".join(problems),
                "head": head,
                "prompt": prompt,
                "outcome": outcome,
            }
        )
    return pa.Table.from_pylist(rows, schema=_PROMPTS_SCHEMA)


_PROMPTS_SCHEMA = pa.schema(
    [
        *(store.DRAWS_SCHEMA.field(name) for name in ("id", "caption_hash", "caption", "problems", "head")),
        pa.field("prompt", pa.string()),
        store.DRAWS_SCHEMA.field("outcome"),
    ]
)


@dataclass(frozen=True)
class _JudgeAndCommit:
    """Task: judge the draws of one stream row and commit them."""

    experiment: Experiment
    sets: dict[str, RewriteSet]
    prompt_sets: dict[str, PromptSet]

    def __call__(self, batch: pa.Table) -> pa.Table:
        (row,) = batch.to_pylist()
        captions = accepted = 0
        if not row["failure"]:
            rewrite_set = self.sets[row["prompt_set"]]
            draws = payload_of(row)
            reasons = judge_draws(draws, self.prompt_sets[row["prompt_set"]], self.experiment)
            if row["engine"]:
                store.commit_draws(rewrite_set, row["shard"], draws)
            statistics = store.commit_verdicts(rewrite_set, row["shard"], draws, reasons)
            captions, accepted = statistics.captions, statistics.accepted
        report = {
            **{name: row[name] for name in ("shard", "prompt_set", "failure", "engine")},
            "captions": captions,
            "accepted": accepted,
        }
        return pa.Table.from_pylist([report], schema=_REPORT_SCHEMA)


_REPORT_SCHEMA = pa.schema(
    [
        *(STREAM_SCHEMA.field(name) for name in ("shard", "prompt_set", "failure", "engine")),
        ("captions", pa.int64()),
        ("accepted", pa.int64()),
    ]
)


def judge_draws(draws: pa.Table, prompt_set: PromptSet, experiment: Experiment) -> list[str | None]:
    """The reason why each draw is refused, or None; a caption without a draw has its outcome as the reason."""
    rewrite = experiment.rewrite
    tokenizer = tokenizer_spec(experiment.model.name)
    pairs = head_pairs(prompt_set, rewrite.heads, experiment.seed)
    reasons: list[str | None] = []
    columns = ("outcome", "text", "caption", "truncated", "head")
    for outcome, text, caption, truncated, head in zip(
        *(draws.column(name).to_pylist() for name in columns), strict=True
    ):
        if outcome != store.DRAWN:
            reasons.append(outcome)
            continue
        reasons.append(
            judge(
                Candidate(text, caption, truncated, pairs[head]),
                rewrite.gate,
                partial(count_tokens, tokenizer),
            )
        )
    return reasons


def committed_sets(experiment: Experiment) -> RewriteSets:
    """The rewrite sets that training reads.

    Raises:
        UserError: a set does not exist, or its draws have no verdicts of this experiment's gate.
    """
    sets = store.configured_sets(experiment)
    for each in sets.sets:
        if not storage.exists(storage.join(each.location, "recipe.json")):
            raise UserError(
                f"text.p is {experiment.text.p:g}, but there is no rewrite set at {each.location}; "
                "run `laclip rewrite` first, name other sets in text.rewrites, or set text.p=0"
            )
        unjudged = len(each.drawn_shards() - each.committed_shards())
        if unjudged and not each.committed_shards():
            raise UserError(
                f"{each.location}: {unjudged} shards have rewrites, but no verdicts of this gate; run `laclip rewrite` "
                "with this config to judge them (no engine is needed)"
            )
    return sets
