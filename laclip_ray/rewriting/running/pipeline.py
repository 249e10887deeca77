"""The rewriting pipeline: the backlog goes through Ray Data and comes out as committed rewrite sets.

    backlog -> read -> generate, judge, redraw -> commit
               tasks   engine actors              tasks, or actors with the picture model
               all three ask the actors with the sentence encoder for scores of meaning

Guarantees: a rerun does only the work left. A caption that cannot be rewritten is committed with its reason. An
unreadable shard is named, and the run is incomplete. However a run ends, it leaves only whole shards. A run that
yields nothing, or mostly failures, is incomplete (`shortfall`).
"""

import logging
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laclip_ray import cluster, lease, progress, storage
from laclip_ray.config import EngineConfig, Experiment, PictureGateConfig, inputs_on_nodes
from laclip_ray.data.dataset_index import keep_index
from laclip_ray.data.tokens import tokenizer_spec
from laclip_ray.errors import UserError
from laclip_ray.progress.messages import RewritingEnd
from laclip_ray.rewriting.engines.engine import BuildEngine, VllmEngine
from laclip_ray.rewriting.engines.heads import build_heads, packed_heads, watch_cache
from laclip_ray.rewriting.engines.probe_record import read_probe
from laclip_ray.rewriting.engines.work import EngineSpeed
from laclip_ray.rewriting.recipe import build_recipe, fingerprint_of
from laclip_ray.rewriting.running.actor import RewritingActor
from laclip_ray.rewriting.running.backlog import Backlog, check_prompts, find_backlog
from laclip_ray.rewriting.running.changes import compare_replaced_files
from laclip_ray.rewriting.running.hooks import NO_HOOKS, RunHooks
from laclip_ray.rewriting.running.progress import Progress
from laclip_ray.rewriting.running.result import RewritingResult, count_committed, find_incomplete
from laclip_ray.rewriting.running.shortfall import (
    ShortfallError,
    failed_share_error,
    few_accepted_warning,
    nothing_accepted_error,
)
from laclip_ray.rewriting.running.stages import (
    CommitShard,
    CommitShardByPicture,
    ReadShard,
    ShardQueue,
    emit_units,
    shard_row,
)
from laclip_ray.rewriting.running.tracked import track_rewriting
from laclip_ray.rewriting.scoring.meaning_pool import encoder_group, start_meaning_gate
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.progress_file import ProgressFile
from laclip_ray.rewriting.tables import WorkUnit
from laclip_ray.tracking.choice import check_trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline with its Ray Data settings."""

    run: Any
    """A function of one row, or the class of an actor."""
    cpus: float
    """Logical CPUs of a task or an actor."""
    gpus: float | None = None
    """GPUs of an actor. None: zero."""
    pool: Any = None
    """Ray Data's compute strategy. None: as many tasks as the CPUs allow."""
    arguments: Mapping[str, Any] | None = None
    """Of an actor's constructor."""
    placement: Mapping[str, Any] = field(default_factory=dict)
    """Ray options that choose the nodes."""

    def apply(self, stream: Any) -> Any:
        """The stream after this stage. Each call gets one row."""
        return stream.map_batches(
            self.run,
            fn_constructor_kwargs=self.arguments,
            batch_size=1,
            batch_format="pyarrow",
            compute=self.pool,
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            **self.placement,
        )


def pipeline_stages(
    backlog: Backlog,
    build_engine: BuildEngine,
    queue: ShardQueue | None,
    meaning: MeaningGate | None,
    run: str,
    is_first_round: bool,
) -> tuple[Stage, Stage, Stage]:
    """The stages of rewriting: read, generate, commit."""
    import ray

    experiment, sets, gates = backlog.experiment, backlog.sets, backlog.gates
    rewrite, engine = experiment.rewrite, experiment.rewrite.engine
    gpus_per_engine = cluster.gpus_per_process(configured_gpus(engine))
    read = _task_stage(
        ReadShard(experiment.data, rewrite, experiment.seed, sets, gates, meaning, queue),
        # A task mostly waits for storage. Other resources than the actor's keep Ray from fusing the two stages.
        0.5,
        engine,
        queue,
    )
    generate = Stage(
        RewritingActor,
        cpus=engine.cpus_per_actor,
        gpus=gpus_per_engine,
        pool=ray.data.ActorPoolStrategy(
            min_size=engine.actors.min,
            max_size=engine.actors.max,
            max_tasks_in_flight_per_actor=engine.held_shards,
            max_concurrent_calls_per_actor=engine.shards_in_flight,
        ),
        arguments={
            "rewrite": rewrite,
            "seed": experiment.seed,
            "tokenizer": tokenizer_spec(experiment.model.name),
            "build_heads": packed_heads(rewrite, backlog.prompt_sets, backlog.heads),
            "gates": gates,
            "sets": sets,
            "run": run,
            "build_engine": build_engine,
            "meaning": meaning,
            "is_first_round": is_first_round,
            "is_watched": progress.is_watched(),
        },
        placement=_placement(engine),
    )
    return read, generate, _commit_stage(backlog, gpus_per_engine, queue, meaning)


def _task_stage(run: Any, cpus: float, engine: EngineConfig, queue: ShardQueue | None) -> Stage:
    """A stage of tasks. With a queue, they take none of the CPUs that training and rewriting share, and are few.

    Ray Data grants each of the two streams a whole number of CPUs, and keeps tasks that want more waiting as long as
    others of their stream run. Tasks that wait for a turn in the queue do run, and wait for a commit.
    """
    import ray

    if queue is None:
        return Stage(run, cpus)
    return Stage(run, 0, pool=ray.data.TaskPoolStrategy(size=max(2, engine.actors.max // 4)))


def _commit_stage(
    backlog: Backlog, gpus_per_engine: float, queue: ShardQueue | None, meaning: MeaningGate | None
) -> Stage:
    import ray

    picture = backlog.experiment.rewrite.gate.picture
    if picture is None:
        commit = CommitShard(backlog.sets, backlog.gates, gpus_per_engine, meaning)
        return _task_stage(commit, 1, backlog.experiment.rewrite.engine, queue)
    return Stage(
        CommitShardByPicture,
        cpus=1,
        gpus=picture.gpus_per_actor,
        pool=ray.data.ActorPoolStrategy(min_size=picture.actors.min, max_size=picture.actors.max),
        arguments={
            "sets": backlog.sets,
            "gates": backlog.gates,
            "gpus_per_engine": gpus_per_engine,
            "meaning": meaning,
            "picture": picture,
            "data": backlog.experiment.data,
            "shards": backlog.shards,
        },
    )


def _placement(engine: EngineConfig) -> dict[str, Any]:
    options = {"accelerator_type": engine.accelerator_type, "label_selector": engine.label_selector}
    return {name: value for name, value in options.items() if value}


def configured_gpus(engine: EngineConfig) -> float | None:
    """GPUs of an engine; None: the configuration leaves it to the cluster."""
    if engine.gpus_per_actor is None and engine.tensor_parallel_size > 1:
        return float(engine.tensor_parallel_size)
    return engine.gpus_per_actor


def engine_group(backlog: Backlog) -> cluster.ResourceGroup:
    """The engines that rewriting starts with; zero if there are no draws left."""
    engine = backlog.experiment.rewrite.engine
    return engines_of(engine, engine.actors.min if backlog.to_draw or backlog.to_compare else 0)


def engines_of(engine: EngineConfig, processes: int) -> cluster.ResourceGroup:
    """A number of engines."""
    return cluster.ResourceGroup(
        "engines",
        processes,
        engine.cpus_per_actor,
        configured_gpus(engine),
        accelerator_type=engine.accelerator_type,
        label_selector=engine.label_selector,
    )


def scorer_group(picture: PictureGateConfig | None) -> cluster.ResourceGroup:
    """The models of the picture gate that rewriting starts with."""
    if picture is None:
        return cluster.ResourceGroup("picture models", 0, 1.0)
    return cluster.ResourceGroup("picture models", picture.actors.min, 1.0, picture.gpus_per_actor)


def rewriting_groups(backlog: Backlog) -> tuple[cluster.ResourceGroup, ...]:
    """All processes that rewriting holds from its start."""
    rewrite = backlog.experiment.rewrite
    return engine_group(backlog), scorer_group(rewrite.gate.picture), encoder_group(rewrite)


def run_rewriting(
    experiment: Experiment, build_engine: BuildEngine = VllmEngine, retry: Collection[str] = ()
) -> RewritingResult:
    """Rewrite every caption without an outcome, and commit shard by shard.

    Args:
        experiment: the configuration; `rewrite.output` holds the result.
        build_engine: starts an engine inside each actor.
        retry: reasons. Slots whose last draw ended with one of them are drawn again.

    Raises:
        UserError: bad input, before any engine starts.
        IncompleteError: shards are missing, or captions killed their engines; all other shards are committed.
    """
    output = experiment.rewrite_output
    check_trackers(experiment.track, experiment.output)
    storage.check_output(output, "rewrite.output", cluster.in_ray_job(), 1, experiment.ray.shared_paths)
    with lease.hold(output, "rewrite.output", "rewrite"):
        with progress.phase("listing the data and what is done"):
            backlog = find_backlog(experiment, retry)
        if backlog.units:
            check_prompts(backlog)
            reservation = cluster.Reservation("rewrite", rewriting_groups(backlog))
            inputs = inputs_on_nodes(experiment, "data", "rewrite", "model")
            cluster.connect(experiment.ray, reservation, {"rewrite.output": output}, inputs)
            claim_sets(backlog)
        result = finish_rewriting(backlog, build_engine)
    if result.incomplete is not None:
        raise result.incomplete
    return result


def claim_sets(backlog: Backlog) -> None:
    """Claim the directory of each rewrite set, and keep what listing the data found out.

    Raises:
        UserError: a directory holds something else.
    """
    rewrite = backlog.experiment.rewrite
    for name, prompt_set in backlog.prompt_sets.items():
        recipe = build_recipe(rewrite, prompt_set, backlog.experiment.seed, backlog.heads[name])
        store.open_for_writing(backlog.sets[name].location, recipe, backlog.sets[name].gate, "rewrite.output")
    keep_index(backlog.experiment.data, backlog.experiment.output, backlog.shards.table)


def finish_rewriting(backlog: Backlog, build_engine: BuildEngine, hooks: RunHooks = NO_HOOKS) -> RewritingResult:
    """Do the work left, on the Ray that this process is connected to. The result says whether it is complete.

    Args:
        backlog: the work left.
        build_engine: starts an engine inside each actor.
        hooks: follow and steer the run.
    """
    started_s = time.monotonic()
    result = RewritingResult(shards=len(backlog.shards), shards_done_before=backlog.untouched_shards)
    error: Exception | None = None
    if backlog.units:
        for name, committed in backlog.committed.items():
            backlog.sets[name].save_register(committed, backlog.listed[name])
        try:
            compare_replaced_files(backlog, hooks.on_settled)
            hooks.sort(backlog)
            _execute(backlog, build_engine, result, hooks)
        except Exception as failure:  # noqa: BLE001 - Ray Data raises many types; committed shards must be counted
            error = failure
        finally:
            progress.tell(RewritingEnd())
    count_committed(backlog, result)
    if hooks.queue is None:  # else engines wait for training
        result.bare_tokens_per_s = _bare_tokens_per_s(backlog, result.speed)
    result.elapsed_s = time.monotonic() - started_s
    summary_url = storage.join(backlog.experiment.rewrite_output, "summary.json")
    storage.write_json(summary_url, result.to_json())
    ProgressFile(backlog.experiment.rewrite_output).remove()
    result.incomplete = find_incomplete(result, error, summary_url)
    if error is not None and not result.missing:
        logger.warning("everything is committed, but Ray Data ended with an error: %s", error)
    shortfall = None if result.missing else _find_shortfall(backlog, result)
    if shortfall is not None:
        result.incomplete = shortfall
    elif warning := few_accepted_warning(result.statistics):
        logger.warning("%s", warning)
    if backlog.units:
        track_rewriting(backlog, result)
    return result


def _bare_tokens_per_s(backlog: Backlog, speed: EngineSpeed) -> float | None:
    """The speed of the bare engine, by a probe of this run's recipes on its hardware; None: not measured."""
    output, rewrite, seed = backlog.experiment.rewrite_output, backlog.experiment.rewrite, backlog.experiment.seed
    probe = None
    try:
        probe = read_probe(output)
    except UserError as error:
        logger.warning("%s", error)
    if probe is None:
        return None
    recipes = {
        name: fingerprint_of(build_recipe(rewrite, prompt_set, seed, backlog.heads[name]))
        for name, prompt_set in backlog.prompt_sets.items()
    }
    return probe.tokens_per_s if probe.is_of(recipes, speed) else None


def _find_shortfall(backlog: Backlog, result: RewritingResult) -> ShortfallError | None:
    """Whether a run that has no work left yields too little."""
    shards = len(backlog.shards)
    limit = backlog.experiment.rewrite.max_failed_share
    return nothing_accepted_error(result.statistics) or failed_share_error(result.statistics, limit, shards, shards)


def _execute(backlog: Backlog, build_engine: BuildEngine, result: RewritingResult, hooks: RunHooks) -> None:
    """Draw and judge the backlog, in rounds.

    An engine that does not restart gives its shards back. With a queue, the other engines take them when the queue says
    so. Shards still left at the end of a round are drawn in the next round.
    """
    import ray

    from laclip_ray.data.executor_throttle import limit_overhead

    limit_overhead(ray.data.DataContext.get_current())
    experiment, run = backlog.experiment, uuid.uuid4().hex
    followed = Progress(backlog, result, hooks, gpu_s=backlog.spent_gpu_s)
    # A reached limit forbids new draws, but existing draws are still judged.
    reached = followed.reached_limit() if backlog.to_draw else None
    to_draw, to_judge = [] if reached else backlog.to_draw, backlog.to_judge
    followed.units = len(to_draw) + len(to_judge)
    heads = build_heads(experiment.rewrite, backlog.prompt_sets, backlog.heads) if to_draw else {}
    followed.cache = watch_cache(experiment.rewrite, heads)
    meaning = start_meaning_gate(experiment.rewrite)
    is_first_round = True
    while to_draw or to_judge:
        read, generate, commit = pipeline_stages(backlog, build_engine, hooks.queue, meaning, run, is_first_round)
        streams = []
        if to_judge:
            emit = _task_stage(emit_units, 0.5, experiment.rewrite.engine, hooks.queue)
            streams.append(emit.apply(_shard_rows(backlog, to_judge)))
        if to_draw:
            streams.append(generate.apply(read.apply(_shard_rows(backlog, to_draw, hooks.queue))))
        reports = commit.apply(streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0])
        if hooks.cpus is not None:
            # Ray Data gives the dataset that comes first all the CPUs it asks for, and the next one the rest.
            limits = ray.data.ExecutionResources.for_limits(cpu=hooks.cpus)
            reports.context.execution_options.resource_limits = limits
        to_draw, to_judge = followed.follow(reports, to_draw), []
        is_first_round = False
    if reached:
        raise reached


def _shard_rows(backlog: Backlog, units: Sequence[WorkUnit], queue: ShardQueue | None = None) -> Any:
    """A dataset with a block for each shard, so each shard is a task of its own. With a queue, a block is a ticket."""
    import ray

    units_of: dict[str, list[WorkUnit]] = {}
    for unit in units:
        units_of.setdefault(unit.shard, []).append(unit)
    rows = {name: shard_row(backlog.shards[name], units) for name, units in units_of.items()}
    if queue is None:
        return ray.data.from_items(list(rows.values()), override_num_blocks=len(rows))
    queue.offer(rows)
    return ray.data.range(len(rows), override_num_blocks=len(rows))
