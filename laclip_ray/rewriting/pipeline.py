"""The rewriting pipeline: shards through Ray Data to a pool of engines, and out as committed rewrite sets.

    work list -> read captions (tasks) -> generate, judge, draw again (engine actors) -> commit (tasks)

Guarantees: a rerun does only what is not committed; a caption that cannot be rewritten is committed with its reason; a
shard that cannot be read is left out and named, and the run is incomplete. A run that is stopped, by whatever, leaves
only whole shards.
"""

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.errors import IncompleteError
from laclip_ray.rewriting import store, tables
from laclip_ray.rewriting.actor import RewritingActor
from laclip_ray.rewriting.backlog import Backlog, check_prompts, find_backlog
from laclip_ray.rewriting.engine import BuildEngine, EngineStartError, VllmEngine
from laclip_ray.rewriting.prices import budget_reached, cost_per_thousand, spending
from laclip_ray.rewriting.recipe import build_recipe
from laclip_ray.rewriting.stages import CommitShard, CommitShardByPicture, ReadShard, ShardQueue, name_draws, shard_row
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.tables import WorkUnit

logger = logging.getLogger(__name__)


@dataclass
class RewritingResult:
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
    incomplete: IncompleteError | None = None
    """Says what is missing, and is caused by what stopped the run; or else which captions killed their engines."""

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


@dataclass(frozen=True)
class RunHooks:
    """What runs beside rewriting; by default nothing does."""

    settled: Callable[[str, int | None], None] = lambda *_: None
    """Called with a shard's name and its accepted rewrites each time that one of its prompt sets is committed, or with
    None where it is given up."""
    cpus: float | None = None
    """The logical CPUs that rewriting may use; None: all."""
    order: ShardQueue | None = None
    """Says which shard is next; None: the order of the work."""
    sort: Callable[[Backlog], None] = lambda _: None
    """Puts what is left to do in order once more, when it is known which of the replaced files have changed."""
    stopped: Callable[[], bool] = lambda: False
    """Whether rewriting is to end early."""


NO_HOOKS = RunHooks()


def run_rewriting(
    experiment: Experiment, build_engine: BuildEngine = VllmEngine, retry: Collection[str] = ()
) -> RewritingResult:
    """Rewrite every caption that has no outcome yet, and commit shard by shard.

    Args:
        experiment: the configuration; `rewrite.output` holds the result.
        build_engine: makes an engine inside each actor.
        retry: reasons; rewrites that ended with one of them are drawn again.

    Raises:
        UserError: bad input, before any engine starts.
        IncompleteError: some shards are not committed, or some captions killed their engines; all others are done.
    """
    work = find_backlog(experiment, retry)
    if work.units:
        check_prompts(experiment, work.prompt_sets.values())
        plan = cluster.Reservation("rewrite", (engine_group(work), scorer_group(experiment)))
        cluster.connect(experiment, plan, {"rewrite.output": experiment.rewrite_output})
        claim_sets(work)
    outcome = finish_rewriting(work, build_engine)
    if outcome.incomplete is not None:
        raise outcome.incomplete
    return outcome


def engine_group(work: Backlog) -> cluster.ResourceGroup:
    """The engines that rewriting begins with; none where nothing is left to draw."""
    engine = work.experiment.rewrite.engine
    engines = engine.actors.min if work.to_draw or work.to_compare else 0
    return cluster.ResourceGroup(
        "engines",
        engines,
        engine.cpus_per_actor,
        gpus_configured(work.experiment),
        accelerator_type=engine.accelerator_type,
        label_selector=engine.label_selector,
    )


def scorer_group(experiment: Experiment) -> cluster.ResourceGroup:
    """The models of the picture gate that rewriting begins with."""
    picture = experiment.rewrite.gate.picture
    if picture is None:
        return cluster.ResourceGroup("picture models", 0, 1.0)
    return cluster.ResourceGroup("picture models", picture.actors.min, 1.0, picture.gpus_per_actor)


def claim_sets(work: Backlog) -> None:
    """Claim the place of each rewrite set.

    Raises:
        UserError: it holds something else.
    """
    rewrite = work.experiment.rewrite
    for name, prompt_set in work.prompt_sets.items():
        recipe = build_recipe(rewrite, prompt_set, work.experiment.seed)
        store.open_for_writing(work.sets[name].location, recipe, rewrite.gate, "rewrite.output")


def finish_rewriting(work: Backlog, build_engine: BuildEngine, companion: RunHooks = NO_HOOKS) -> RewritingResult:
    """Do what is left, on the Ray that this process is connected to; the outcome says whether it is complete.

    Args:
        work: what is left.
        build_engine: makes an engine inside each actor.
        companion: what runs beside.
    """
    experiment = work.experiment
    started_s = time.monotonic()
    outcome = RewritingResult(shards=len(work.shards), shards_done_before=work.untouched_shards)
    error: Exception | None = None
    if work.units:
        try:
            _compare(work, companion)
            _execute(work, build_engine, outcome, companion)
        except Exception as failure:  # noqa: BLE001 - whatever Ray Data raises, what is committed is counted first
            error = failure
    _count(work, outcome)
    outcome.elapsed_s = time.monotonic() - started_s
    storage.write_json(storage.join(experiment.rewrite_output, "summary.json"), outcome.to_json())
    if outcome.missing:
        outcome.incomplete = IncompleteError(_describe_missing(outcome, experiment, error))
        outcome.incomplete.__cause__ = error
        return outcome
    if error is not None:
        logger.warning("everything is committed, but Ray Data ended with an error: %s", error)
    if died := outcome.total.unfilled[tables.ENGINE_DIED]:
        names = ", ".join(outcome.total.named.get(tables.ENGINE_DIED, []))
        outcome.incomplete = IncompleteError(
            f"{died} rewrites are missing because their captions killed their engines: {names}. Everything else is "
            f"committed; `laclip rewrites retry CONFIG --reason {tables.ENGINE_DIED}` tries them again"
        )
    return outcome


class BudgetReachedError(Exception):
    """Rewriting has cost what it may; the message says which limit was reached."""


class StoppedError(Exception):
    """Rewriting ended early because it was told to."""


def _describe_missing(outcome: RewritingResult, experiment: Experiment, error: Exception | None) -> str:
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
    return text if isinstance(error, EngineStartError | BudgetReachedError | StoppedError) else text.splitlines()[-1]


def _count(work: Backlog, outcome: RewritingResult) -> None:
    """Fill in the counts over everything that is committed, by this run and earlier ones."""
    for name, rewrite_set in work.sets.items():
        known = work.committed[name]
        revisions = {
            shard: number for shard, number in rewrite_set.committed_revisions().items() if shard in work.shards
        }
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


def _compare(work: Backlog, companion: RunHooks) -> None:
    """Sort the shards whose file was replaced into those with the same captions, and those to be done again."""
    import ray

    data = work.experiment.data

    @ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")
    def digest(name: str, shard: Shard) -> tuple[str, str | None]:
        try:
            samples = list(read_samples(shard, data, with_images=False))
        except Exception:  # noqa: BLE001 - it is read again, and the reason given, where it is to be rewritten
            return name, None
        return name, store.digest_inputs((each.id for each in samples), (each.caption_hash for each in samples))

    def digests(names: Iterator[str]) -> Iterator[tuple[str, str | None]]:
        """Each as it comes: what has not changed is passed on at once."""
        under_way = [digest.remote(name, work.shards[name]) for name in itertools.islice(names, _COMPARED_AT_ONCE)]
        while under_way:
            (ready,), under_way = ray.wait(under_way)
            under_way += [digest.remote(name, work.shards[name]) for name in itertools.islice(names, 1)]
            yield ray.get(ready)

    by_shard: dict[str, list[tuple[WorkUnit, int]]] = {}
    for unit in work.to_compare:
        assert unit.previous is not None, "what is compared has been drawn"
        by_shard.setdefault(unit.shard, []).append((unit, unit.previous))
    origins = {
        name: rewrite_set.origins(
            {unit.shard: drawn for units in by_shard.values() for unit, drawn in units if unit.prompt_set == name}
        )
        for name, rewrite_set in work.sets.items()
    }
    for shard, inputs in digests(iter(by_shard)):
        for unit, drawn in by_shard[shard]:
            origin = origins[unit.prompt_set][shard]
            if inputs != origin.inputs:
                logger.info("%s/%s: its captions have changed; what changed is rewritten", unit.prompt_set, shard)
                work.to_draw.append(unit)
            elif shard in work.committed[unit.prompt_set]:
                stamped = replace(origin, file_identity=work.shards[shard].file_identity)
                store.restamp_verdicts(work.sets[unit.prompt_set], shard, drawn, stamped)
                companion.settled(shard, 0)
            else:
                work.to_judge.append(WorkUnit(unit.prompt_set, shard, drawn))
    work.to_compare.clear()
    companion.sort(work)


_COMPARED_AT_ONCE = 256
"""Files that are read, or wait for a CPU."""


def _execute(work: Backlog, build_engine: BuildEngine, outcome: RewritingResult, companion: RunHooks) -> None:
    import ray

    from laclip_ray.data.executor_throttle import limit_overhead

    limit_overhead(ray.data.DataContext.get_current())
    # What is drawn is judged also where nothing more may be drawn.
    reached = _limit_reached(work.spent_gpu_s, work.experiment) if work.to_draw else None
    to_draw = [] if reached else work.to_draw
    to_judge = work.to_judge
    progress = _Progress(len(to_draw) + len(to_judge), work.spent_gpu_s)
    while to_draw or to_judge:
        streams = []
        if to_judge:
            streams.append(_sources(work, to_judge).map_batches(
                name_draws, batch_size=1, batch_format="pyarrow", num_cpus=0.5
            ))  # fmt: skip
        if to_draw:
            streams.append(_draw(work, to_draw, build_engine, companion.order, progress))
        to_draw, to_judge = _report(streams, work, to_draw, progress, outcome, companion), []
        progress.rounds += 1
    if reached:
        raise BudgetReachedError(reached)


@dataclass
class _Progress:
    """How far a run is, over all its rounds."""

    units: int
    gpu_s: float
    rounds: int = 0
    engines: set[str] = field(default_factory=set)
    """All that were heard of."""
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names the run in ledgers."""


def _report(
    streams: list[Any],
    work: Backlog,
    to_draw: Sequence[WorkUnit],
    progress: _Progress,
    outcome: RewritingResult,
    companion: RunHooks,
) -> list[WorkUnit]:
    """Run the streams, and note each unit as it is committed.

    What an engine gives back that did not start again is drawn by the others: where there is an order, as soon as it
    comes to it, and what is left at the end in another round, for which it is returned.

    Raises:
        EngineStartError: an engine did not start, and no other is known to work.
    """
    import ray

    engine = work.experiment.rewrite.engine
    left = {(unit.prompt_set, unit.shard): unit for unit in to_draw}
    stream = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
    gpus = cluster.gpus_each(gpus_configured(work.experiment)) if to_draw else 0.0
    done = _commit(stream, work, gpus)
    if companion.cpus is not None:
        # Ray Data gives the dataset that comes first all that it asks for, and the next one what is left.
        limits = ray.data.ExecutionResources.for_limits(cpu=companion.cpus)
        done.context.execution_options.resource_limits = limits
    drawn = 0
    given_back = 0  # since something was last drawn
    start_failure: EngineStartError | None = None
    for row in _as_they_come(done):
        if companion.stopped():
            raise StoppedError("it was told to stop")
        name = f"{row['prompt_set']}/{row['shard']}"
        progress.gpu_s += row["gpu_s"]
        if row["engine_start_failure"]:
            start_failure = EngineStartError(row["engine_start_failure"])
            progress.engines.add(row["engine"])
            # Twice what all engines but one can hold, so that those do not count that are lost and not heard of.
            if given_back >= 2 * engine.held_shards * (len(progress.engines) - 1):
                raise start_failure
            given_back += 1
            logger.error("%s is left to other engines, as its own is lost: %s", name, start_failure)
            if companion.order is not None:
                unit = left[row["prompt_set"], row["shard"]]
                companion.order.give_back(unit.shard, shard_row(work.shards[unit.shard], [unit]))
            continue
        left.pop((row["prompt_set"], row["shard"]), None)
        if row["failure"]:
            outcome.failures[name] = row["failure"]
            logger.error("%s: %s", name, row["failure"])
            companion.settled(row["shard"], None)
            continue
        outcome.commits += 1
        companion.settled(row["shard"], row["accepted"])
        if row["engine"]:
            drawn += 1
            given_back = 0
            progress.engines.add(row["engine"])
            outcome.engines.add(row["engine"])
        logger.info(
            "committed %d of %d: %s, %d captions, %d accepted rewrites",
            outcome.commits, progress.units, name, row["captions"], row["accepted"],
        )  # fmt: skip
        if drawn < len(to_draw) and (reached := _limit_reached(progress.gpu_s, work.experiment)):
            raise BudgetReachedError(reached)
    if start_failure is None:
        return []  # what is left was not given back
    if left and not drawn:
        raise start_failure
    return list(left.values())


def _as_they_come(reports: Any) -> Iterator[dict[str, Any]]:
    """Each report at once: `Dataset.iter_rows` gives a block only when the next one is there."""
    for block in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from block.to_pylist()


def _commit(stream: Any, work: Backlog, gpus_per_engine: float) -> Any:
    """The stream of reports on committed units."""
    import ray

    picture = work.experiment.rewrite.gate.picture
    arguments = (work.experiment, work.sets, work.prompt_sets, gpus_per_engine)
    if picture is None:
        return stream.map_batches(CommitShard(*arguments), batch_size=1, batch_format="pyarrow", num_cpus=1)
    return stream.map_batches(
        CommitShardByPicture,
        fn_constructor_args=(*arguments, work.shards),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=picture.actors.min, max_size=picture.actors.max),
        num_cpus=1,
        num_gpus=picture.gpus_per_actor,
    )


def _limit_reached(gpu_s: float, experiment: Experiment) -> str | None:
    return budget_reached(spending(gpu_s / 3600, experiment.rewrite), experiment.rewrite.budget)


def gpus_configured(experiment: Experiment) -> float | None:
    """GPUs of an engine, where the configuration says."""
    engine = experiment.rewrite.engine
    if engine.gpus_per_actor is None and engine.tensor_parallel_size > 1:
        return float(engine.tensor_parallel_size)
    return engine.gpus_per_actor


def _draw(
    work: Backlog, units: Sequence[WorkUnit], build_engine: BuildEngine, order: ShardQueue | None, progress: _Progress
) -> Any:
    """The stream of drawn units."""
    import ray

    experiment = work.experiment
    engine = experiment.rewrite.engine
    where: dict[str, Any] = {}
    if engine.accelerator_type:
        where["accelerator_type"] = engine.accelerator_type
    if engine.label_selector:
        where["label_selector"] = engine.label_selector
    samples = _sources(work, units, order).map_batches(
        ReadShard(experiment, work.sets, work.prompt_sets, order),
        batch_size=1,
        batch_format="pyarrow",
        # Mostly waits for storage; and unlike the actor, so that Ray does not fuse it with that. What waits for its
        # turn has none, so that it never holds back the commit that it waits for.
        num_cpus=0.5 if order is None else 0,
        compute=None if order is None else ray.data.TaskPoolStrategy(size=max(2, engine.actors.max // 4)),
    )
    return samples.map_batches(
        RewritingActor,
        fn_constructor_args=(experiment, work.prompt_sets, work.sets, progress.run, build_engine),
        fn_constructor_kwargs={"is_first": progress.rounds == 0},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=engine.actors.min,
            max_size=engine.actors.max,
            max_tasks_in_flight_per_actor=engine.held_shards,
            max_concurrent_calls_per_actor=engine.shards_in_flight,
        ),
        num_cpus=engine.cpus_per_actor,
        num_gpus=cluster.gpus_each(gpus_configured(experiment)),
        **where,
    )


def _sources(work: Backlog, units: Sequence[WorkUnit], order: ShardQueue | None = None) -> Any:
    """A dataset with a block for each shard, so that each is a task of its own; with an order, a block for a ticket."""
    import ray

    by_shard: dict[str, list[WorkUnit]] = {}
    for unit in units:
        by_shard.setdefault(unit.shard, []).append(unit)
    items = {name: shard_row(work.shards[name], found) for name, found in by_shard.items()}
    if order is None:
        return ray.data.from_items(list(items.values()), override_num_blocks=len(items))
    order.offer(items)
    return ray.data.range(len(items), override_num_blocks=len(items))
