"""The rewriting pipeline: shards through Ray Data to a pool of engines, and out as committed rewrite sets.

    work list -> read captions (tasks) -> generate, judge, draw again (engine actors) -> commit (tasks)

Guarantees: a rerun does only what is not committed; a caption that cannot be rewritten is committed with its reason; a
shard that cannot be read is left out and named, and the run is incomplete. A run that is stopped, by whatever, leaves
only whole shards.
"""

import json
import logging
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import pyarrow as pa

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment
from laclip_ray.data.shards import NO_CAPTION, Sample, Shard, read_samples
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting import store
from laclip_ray.rewriting.actor import (
    SAMPLES_SCHEMA,
    BuildEngine,
    RewritingActor,
    build_gate,
    draw_bits,
    origin_of,
    stream_row,
    table_of,
    unit_of,
)
from laclip_ray.rewriting.cost import budget_reached, cost_per_thousand, spending
from laclip_ray.rewriting.engine import EngineStartError, VllmEngine
from laclip_ray.rewriting.gate import Gate
from laclip_ray.rewriting.ledger import ledger_url, piece_url, read_ledger
from laclip_ray.rewriting.prompts import SEPARATOR, PromptSet, choose_head
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.store import Origin, RewriteSet, RewriteSets
from laclip_ray.rewriting.work import Unit, Work, plan_work

logger = logging.getLogger(__name__)

SEPARATOR_IN_CAPTION = "separator_in_caption"
"""A problem that is only noted: the prompt shows the separator in another form."""


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
    failures: dict[str, str] = field(default_factory=dict)
    """`prompt set/shard` that was given up, and why."""
    missing: dict[str, str] = field(default_factory=dict)
    """`prompt set/shard` that is not committed, and why."""
    elapsed_s: float = 0.0
    costs: dict[str, Any] = field(default_factory=dict)
    """Of all committed shards: GPU-hours, money, and what a thousand accepted rewrites took."""

    @property
    def total(self) -> Statistics:
        """All prompt sets together."""
        total = Statistics()
        for statistics in self.statistics.values():
            total.add(statistics)
        return total

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "complete": not self.missing,
            "shards": self.shards,
            "shards_done_before": self.shards_done_before,
            "commits": self.commits,
            "engines": len(self.engines),
            "elapsed_s": round(self.elapsed_s, 3),
            **self.costs,
            "missing": self.missing,
            "prompt_sets": {name: statistics.to_json() for name, statistics in self.statistics.items()},
        }


def run_rewriting(
    experiment: Experiment, build_engine: BuildEngine = VllmEngine, retry: Collection[str] = ()
) -> Outcome:
    """Rewrite every caption that has no outcome yet, and commit shard by shard.

    Args:
        experiment: the configuration; `rewrite.output` holds the result.
        build_engine: makes an engine inside each actor.
        retry: reasons; rewrites that ended with one of them are drawn again.

    Raises:
        UserError: bad input, before any engine starts.
        IncompleteError: some shards are not committed, or some captions killed their engines; all others are done.
    """
    work = plan_work(experiment, retry)
    rewrite = experiment.rewrite
    started_s = time.monotonic()
    outcome = Outcome(shards=len(work.shards), shards_done_before=work.untouched_shards)
    error: Exception | None = None
    if work.to_draw or work.to_judge or work.to_compare:
        plan = cluster.Plan(
            "rewrite",
            rewrite.engine.actors.min if work.to_draw or work.to_compare else 0,
            rewrite.engine.cpus_per_actor,
            data_cpus=1,
        )
        cluster.connect(experiment, plan, {"rewrite.output": experiment.rewrite_output})
        for name, prompt_set in work.prompt_sets.items():
            recipe = store.build_recipe(rewrite, prompt_set, experiment.seed)
            store.open_for_writing(work.sets[name].location, recipe, rewrite.gate, "rewrite.output")
        try:
            _compare(work)
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
    if died := outcome.total.unfilled[store.ENGINE_DIED]:
        names = ", ".join(outcome.total.named.get(store.ENGINE_DIED, []))
        raise IncompleteError(
            f"{died} rewrites are missing because their captions killed their engines: {names}. Everything else is "
            f"committed; `laclip rewrites retry CONFIG --reason {store.ENGINE_DIED}` tries them again"
        )
    return outcome


class _BudgetReachedError(Exception):
    """Rewriting has cost what it may; the message says which limit was reached."""


def _describe_missing(outcome: Outcome, experiment: Experiment, error: Exception | None) -> str:
    shown = [f"  {name}: {why}" for name, why in list(outcome.missing.items())[:20]]
    if rest := len(outcome.missing) - len(shown):
        shown.append(f"  and {rest} more, in {storage.join(experiment.rewrite_output, 'summary.json')}")
    if error is not None:
        shown.append(f"the run was stopped by: {_cause(error)}")
    units = outcome.shards * len(outcome.statistics)
    return "\n".join(
        [
            f"rewriting is incomplete: {len(outcome.missing)} of {units} (prompt set / shard) are not committed; "
            "the same command continues",
            *shown,
        ]
    )


def _cause(error: BaseException) -> str:
    """What a user can act on in an error that came through Ray."""
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, EngineStartError | _BudgetReachedError) else text.splitlines()[-1]


def _count(work: Work, outcome: Outcome) -> None:
    """Fill in the counts over everything that is committed, by this run and earlier ones."""
    for name, rewrite_set in work.sets.items():
        known = work.committed[name]
        revisions = {shard: number for shard, number in rewrite_set.committed().items() if shard in work.shards}
        new = {
            shard: number for shard, number in revisions.items() if shard not in known or known[shard].revision < number
        }
        described = {**known, **rewrite_set.describe(new)}
        total = Statistics()
        for shard in sorted(revisions):
            total.add(described[shard].statistics)
        outcome.statistics[name] = total
        storage.write_json(storage.join(rewrite_set.location, "summary.json"), total.to_json())
        for unit in work.units:
            if unit.prompt_set == name and revisions.get(unit.shard, -1) < unit.revision:
                key = f"{name}/{unit.shard}"
                outcome.missing[key] = outcome.failures.get(key, "not done")
    total = outcome.total
    spent = spending(total.gpu_s / 3600, work.experiment.rewrite)
    outcome.costs = {
        "engine_hours": round(total.engine_s / 3600, 6),
        "gpu_hours": round(spent.gpu_hours, 6),
        "money": spent.money,
        "currency": spent.currency,
        "cost_per_thousand_accepted": cost_per_thousand(spent, total.accepted),
        "prompt_tokens": total.prompt_tokens,
        "output_tokens": total.output_tokens,
        "cached_share": total.cached_tokens / total.prompt_tokens if total.prompt_tokens else 0.0,
    }


def _compare(work: Work) -> None:
    """Sort the shards whose file was replaced into those with the same captions, and those to be done again."""
    import ray

    data = work.experiment.data

    @ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")
    def digest(shard: Shard) -> str:
        samples = list(read_samples(shard, data, with_images=False))
        return store.digest_inputs((each.id for each in samples), (each.caption_hash for each in samples))

    names = sorted({unit.shard for unit in work.to_compare})
    digests = dict(zip(names, ray.get([digest.remote(work.shards[name]) for name in names]), strict=True))
    for unit in work.to_compare:
        assert unit.previous is not None
        rewrite_set = work.sets[unit.prompt_set]
        origin = rewrite_set.origin(unit.shard, unit.previous)
        if digests[unit.shard] != origin.inputs:
            logger.warning("%s/%s: its captions have changed; what changed is rewritten", unit.prompt_set, unit.shard)
            work.to_draw.append(unit)
        elif unit.shard in work.committed[unit.prompt_set]:
            stamped = replace(origin, source=work.shards[unit.shard].source)
            store.restamp_verdicts(rewrite_set, unit.shard, unit.previous, stamped)
        else:
            work.to_judge.append(Unit(unit.prompt_set, unit.shard, unit.previous))
    work.to_compare.clear()


def _execute(work: Work, build_engine: BuildEngine, outcome: Outcome) -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.memory_usage_poll_interval_s = None  # it reads the process's maps each second, and nobody asks for it
    streams = []
    if work.to_judge:
        streams.append(_sources(work, work.to_judge).map_batches(
            _name_draws, batch_size=1, batch_format="pyarrow", num_cpus=0.5
        ))  # fmt: skip
    if work.to_draw:
        streams.append(_draw(work, build_engine))
    if not streams:
        return
    stream = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
    gpus = cluster.gpus_each(_gpus_configured(work.experiment)) if work.to_draw else 0.0
    done = stream.map_batches(
        _Commit(work.experiment, work.sets, work.prompt_sets, gpus),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
    )
    total = len(work.to_draw) + len(work.to_judge)
    rewrite = work.experiment.rewrite
    gpu_s = sum(each.statistics.gpu_s for known in work.committed.values() for each in known.values())
    _check_spent(gpu_s, work.experiment)
    for row in done.iter_rows():
        name = f"{row['prompt_set']}/{row['shard']}"
        if row["engine_start_failure"]:
            raise EngineStartError(row["engine_start_failure"])
        if row["failure"]:
            outcome.failures[name] = row["failure"]
            logger.error("%s: %s", name, row["failure"])
            continue
        outcome.commits += 1
        if row["engine"]:
            outcome.engines.add(row["engine"])
        logger.info(
            "committed %d of %d: %s, %d captions, %d accepted rewrites",
            outcome.commits, total, name, row["captions"], row["accepted"],
        )  # fmt: skip
        gpu_s += row["gpu_s"]
        if outcome.commits < total and rewrite.budget != type(rewrite.budget)():
            _check_spent(gpu_s, work.experiment)


def _check_spent(gpu_s: float, experiment: Experiment) -> None:
    reached = budget_reached(spending(gpu_s / 3600, experiment.rewrite), experiment.rewrite.budget)
    if reached:
        raise _BudgetReachedError(reached)


def _gpus_configured(experiment: Experiment) -> float | None:
    engine = experiment.rewrite.engine
    if engine.gpus_per_actor is None and engine.tensor_parallel_size > 1:
        return float(engine.tensor_parallel_size)
    return engine.gpus_per_actor


def _draw(work: Work, build_engine: BuildEngine) -> Any:
    """The stream of drawn units."""
    import ray

    experiment = work.experiment
    engine = experiment.rewrite.engine
    where: dict[str, Any] = {}
    if engine.accelerator_type:
        where["accelerator_type"] = engine.accelerator_type
    if engine.label_selector:
        where["label_selector"] = engine.label_selector
    samples = _sources(work, work.to_draw).map_batches(
        _Read(experiment, work.sets, work.prompt_sets),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0.5,  # mostly waits for storage; and unlike the actor, so that Ray does not fuse it with that
    )
    return samples.map_batches(
        RewritingActor,
        fn_constructor_args=(experiment, work.prompt_sets, work.sets, uuid.uuid4().hex, build_engine),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=engine.actors.min,
            max_size=engine.actors.max,
            max_tasks_in_flight_per_actor=engine.shards_in_flight + 1,
            max_concurrent_calls_per_actor=engine.shards_in_flight,
        ),
        num_cpus=engine.cpus_per_actor,
        num_gpus=cluster.gpus_each(_gpus_configured(experiment)),
        **where,
    )


def _sources(work: Work, units: Sequence[Unit]) -> Any:
    """A dataset with a block for each shard, so that each is a task of its own."""
    import ray

    by_shard: dict[str, list[Unit]] = {}
    for unit in units:
        by_shard.setdefault(unit.shard, []).append(unit)
    items = [
        {"shard": json.dumps(asdict(work.shards[name])), "units": json.dumps([asdict(unit) for unit in found])}
        for name, found in by_shard.items()
    ]
    return ray.data.from_items(items, override_num_blocks=len(items))


def _source_of(item: Mapping[str, str]) -> tuple[Shard, list[Unit]]:
    described = json.loads(item["shard"])
    columns = described["columns"]
    shard = Shard(**{**described, "columns": tuple(columns) if columns is not None else None})
    return shard, [Unit(**{**each, "retry": tuple(each["retry"])}) for each in json.loads(item["units"])]


def _name_draws(batch: pa.Table) -> Iterator[pa.Table]:
    """Task: units whose draws are to be judged; they are read where they are committed."""
    (item,) = batch.to_pylist()
    for unit in _source_of(item)[1]:
        yield stream_row(unit)


@dataclass(frozen=True)
class _Read:
    """Task: one shard in, one stream row a unit out, with a row a sample."""

    experiment: Experiment
    sets: dict[str, RewriteSet]
    prompt_sets: dict[str, PromptSet]

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        (item,) = batch.to_pylist()
        shard, units = _source_of(item)
        try:
            samples = list(read_samples(shard, self.experiment.data, with_images=False))
        except (OSError, ValueError) as error:
            for unit in units:
                yield stream_row(unit, failure=f"cannot be read: {error}")
            return
        described = describe_samples(samples, self.experiment)
        inputs = store.digest_inputs(described["id"], described["caption_hash"])
        for unit in units:
            previous = None
            rewrites_per_set = self.experiment.rewrite.rewrites_per_set
            if unit.previous is not None:
                previous = self._judged(unit, unit.previous)
                before = self.sets[unit.prompt_set].origin(unit.shard, unit.previous)
                rewrites_per_set = max(rewrites_per_set, before.rewrites_per_set)
            origin = Origin(shard.source, inputs, rewrites_per_set)
            yield stream_row(unit, origin, build_samples(described, unit, self.experiment, rewrites_per_set, previous))

    def _judged(self, unit: Unit, revision: int) -> pa.Table:
        """Draws with their reasons, judged here if nobody has judged them by this gate."""
        rewrite_set = self.sets[unit.prompt_set]
        if storage.exists(rewrite_set.verdicts_url(unit.shard, revision)):
            return rewrite_set.read(unit.shard, revision)
        draws = storage.read_parquet(rewrite_set.draws_url(unit.shard, revision))
        gate = build_gate(self.experiment, self.prompt_sets[unit.prompt_set])
        return draws.append_column("reason", judge_draws(draws, gate))


def describe_samples(samples: Sequence[Sample], experiment: Experiment) -> dict[str, list[Any]]:
    """What all prompt sets are told of a shard's samples: columns of `SAMPLES_SCHEMA`."""
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "caption_hash", "caption", "problems", "outcome")}
    for sample in samples:
        outcome = store.DRAWN
        problems = sample.problems
        if problems and (unusable := NO_CAPTION.intersection(problems)):
            outcome = min(unusable)
        elif len(sample.caption) > experiment.rewrite.max_caption_characters:
            outcome = store.CAPTION_TOO_LONG
        elif SEPARATOR in sample.caption:
            problems = (*problems, SEPARATOR_IN_CAPTION)
        columns["id"].append(sample.id)
        columns["caption_hash"].append(sample.caption_hash)
        columns["caption"].append(sample.caption)
        columns["problems"].append(",".join(problems))
        columns["outcome"].append(outcome)
    return columns


def build_samples(
    described: Mapping[str, list[Any]],
    unit: Unit,
    experiment: Experiment,
    rewrites_per_set: int,
    previous: pa.Table | None = None,
) -> pa.Table:
    """The samples of a shard and what is to be drawn for each: a table of `SAMPLES_SCHEMA`.

    Equal captions get one head, by the id of the first, so that they are generated once.

    Args:
        described: from `describe_samples`.
        unit: what is done; its `retry` names the reasons whose rewrites are drawn again.
        experiment: the configuration.
        rewrites_per_set: how many rewrites each sample is to have.
        previous: the draws that there are, with their `reason`; None: none.
    """
    rewrite = experiment.rewrite
    everything = range(rewrites_per_set)
    head_of: dict[str, int] = {}
    heads = []
    for sample_id, caption in zip(described["id"], described["caption"], strict=True):
        head = head_of.get(caption)
        if head is None:
            head = head_of[caption] = choose_head(unit.prompt_set, sample_id, rewrite.heads, experiment.seed)
        heads.append(head)
    count = len(heads)
    draws = [draw_bits(everything)] * count
    attempts = [0] * count
    others: list[str | None] = [None] * count
    if previous is not None:
        kept = _kept_draws(previous)
        for row, key in enumerate(zip(described["id"], described["caption_hash"], strict=True)):
            if key in kept:
                draws[row] = draw_bits(kept[key].missing(everything, unit.retry))
                attempts[row] = kept[key].attempts
                others[row] = json.dumps([*kept[key].accepted.values()]) if kept[key].accepted else None
    columns = {**described, "head": heads, "draws": draws, "attempt": attempts, "others": others}
    return pa.table([pa.array(columns[each.name], each.type) for each in SAMPLES_SCHEMA], schema=SAMPLES_SCHEMA)


@dataclass
class _Kept:
    """The draws that there are for a sample."""

    accepted: dict[int, str] = field(default_factory=dict)
    last_reason: dict[int, str | None] = field(default_factory=dict)
    attempts: int = 0

    def missing(self, wanted: Iterable[int], retry: Collection[str]) -> set[int]:
        """Numbers of the draws to make: those that are wanted and not there, and those to be drawn again."""
        again = {draw for draw, reason in self.last_reason.items() if draw not in self.accepted and reason in retry}
        return again | {draw for draw in wanted if draw not in self.last_reason}


def _kept_draws(previous: pa.Table) -> dict[tuple[str, str], _Kept]:
    kept: dict[tuple[str, str], _Kept] = {}
    names = ("id", "caption_hash", "draw", "attempt", "text", "reason")
    for sample_id, caption_hash, draw, attempt, text, reason in zip(
        *(previous.column(name).to_pylist() for name in names), strict=True
    ):
        known = kept.setdefault((sample_id, caption_hash), _Kept())
        known.attempts = max(known.attempts, attempt + 1)
        known.last_reason[draw] = reason
        if reason is None:
            known.accepted.setdefault(draw, text)
    return kept


@dataclass(frozen=True)
class _Commit:
    """Task: commit the draws of one stream row; judge them first where nobody has."""

    experiment: Experiment
    sets: dict[str, RewriteSet]
    prompt_sets: dict[str, PromptSet]
    gpus_per_engine: float

    def __call__(self, batch: pa.Table) -> pa.Table:
        (row,) = batch.to_pylist()
        unit = unit_of(row)
        report = {
            "shard": unit.shard,
            "prompt_set": unit.prompt_set,
            "failure": row["failure"],
            "engine_start_failure": row["engine_start_failure"],
            "engine": row["engine"],
            "captions": 0,
            "accepted": 0,
            "gpu_s": row["engine_s"] * self.gpus_per_engine,
        }
        if not (row["failure"] or row["engine_start_failure"]):
            statistics = self._commit(unit, row)
            report |= {"captions": statistics.captions, "accepted": statistics.accepted}
        return pa.Table.from_pylist([report], schema=_REPORT_SCHEMA)

    def _commit(self, unit: Unit, row: Mapping[str, Any]) -> Statistics:
        rewrite_set = self.sets[unit.prompt_set]
        url = rewrite_set.draws_url(unit.shard, unit.revision)
        reasons: pa.Array | None = None
        if storage.exists(url):
            # Judged by another gate, or an earlier attempt at this commit: what readers may have seen stays.
            draws = storage.read_parquet(url)
            origin = rewrite_set.origin(unit.shard, unit.revision)
        else:
            origin = self._origin(unit, row)
            samples, made = table_of(row["samples"]), table_of(row["made"])
            draws = join_draws(samples, made)
            reasons = made.column("reason").combine_chunks()
            if unit.previous is not None:
                before = storage.read_parquet(rewrite_set.draws_url(unit.shard, unit.previous))
                draws, reasons = merge_draws(samples, before, draws), None
            store.write_draws(rewrite_set, unit.shard, unit.revision, draws, origin)
        if reasons is None:
            reasons = judge_draws(draws, build_gate(self.experiment, self.prompt_sets[unit.prompt_set]))
        statistics = store.commit_verdicts(rewrite_set, unit.shard, unit.revision, draws, reasons, origin)
        if row["engine"]:
            _remove_attempts(rewrite_set.location, unit.shard)
        return statistics

    def _origin(self, unit: Unit, row: Mapping[str, Any]) -> Origin:
        origin = origin_of(row)
        engine_s, gpu_s = row["engine_s"], row["engine_s"] * self.gpus_per_engine
        if unit.previous is not None:
            before = self.sets[unit.prompt_set].origin(unit.shard, unit.previous)
            engine_s, gpu_s = engine_s + before.engine_s, gpu_s + before.gpu_s
        return replace(origin, engine_s=engine_s, gpu_s=gpu_s)


_REPORT_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("prompt_set", pa.string()),
        ("failure", pa.string()),
        ("engine_start_failure", pa.string()),
        ("engine", pa.string()),
        ("captions", pa.int64()),
        ("accepted", pa.int64()),
        ("gpu_s", pa.float64()),
    ]
)


def _remove_attempts(location: str, shard_name: str) -> None:
    """Remove what was kept of a suspect shard while it was not committed."""
    url = ledger_url(location, shard_name)
    ledger = read_ledger(url)
    for piece in ledger.pieces:
        storage.remove(piece_url(location, shard_name, ledger, piece))
    storage.remove(url)


def join_draws(samples: pa.Table, made: pa.Table) -> pa.Table:
    """The draws table of a shard: each draw with its sample's columns."""
    rows = samples.take(made.column("row"))
    columns = [(made if name in made.column_names else rows).column(name) for name in store.DRAWS_SCHEMA.names]
    return pa.table(columns, schema=store.DRAWS_SCHEMA)


def merge_draws(samples: pa.Table, before: pa.Table, new: pa.Table) -> pa.Table:
    """Old and new draws of the samples that there are now, in their order; draws of other samples are dropped."""
    order = {key: row for row, key in enumerate(_keys(samples))}
    both = pa.concat_tables([before.select(store.DRAWS_SCHEMA.names), new])
    draws, attempts = both.column("draw").to_pylist(), both.column("attempt").to_pylist()
    # Where there was no text, the next attempt takes its place.
    redrawn = {*zip(_keys(new), new.column("draw").to_pylist(), strict=True)}
    textless = [outcome != store.DRAWN for outcome in before.column("outcome").to_pylist()] + [False] * new.num_rows
    ranked = sorted(
        (order[key], draws[row], attempts[row], row)
        for row, key in enumerate(_keys(both))
        if key in order and not (textless[row] and (key, draws[row]) in redrawn)
    )
    return both.take(pa.array([row for *_, row in ranked], pa.int64()))


def _keys(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table.column("id").to_pylist(), table.column("caption_hash").to_pylist(), strict=True)


def judge_draws(draws: pa.Table, gate: Gate) -> pa.Array:
    """The reason why each draw is refused, or null; a caption without a draw has its outcome as the reason."""
    reasons: list[str | None] = list(draws.column("outcome").to_pylist())
    names = ("id", "text", "caption", "truncated", "head", "draw", "attempt")
    columns = {name: draws.column(name).to_pylist() for name in names}
    by_sample = groupby(range(draws.num_rows), key=columns["id"].__getitem__)
    for _, rows in by_sample:
        accepted: dict[int, str] = {}
        # As they were made: every first attempt comes before any second one.
        for row in sorted(rows, key=lambda row: (columns["attempt"][row], columns["draw"][row])):
            if reasons[row] != store.DRAWN:
                continue
            text = columns["text"][row]
            head = columns["head"][row] or 0  # null: imported, and the gate was made without examples
            others = [*accepted.values()]
            reason = gate.judge(text, columns["caption"][row], columns["truncated"][row], head, others)
            reasons[row] = reason
            if reason is None:
                accepted.setdefault(columns["draw"][row], text)  # only the first one of a draw is read
    return pa.array(reasons, pa.string())


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
        if not each.committed() and (unjudged := len(each.drawn())):
            raise UserError(
                f"{each.location}: {unjudged} shards have rewrites, but no verdicts of this gate; run `laclip rewrite` "
                "with this config to judge them (no engine is needed)"
            )
    return sets
