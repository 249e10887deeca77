"""`laclip run`: rewriting and training in one job, and what resumes both.

    ahead     rewrite everything, then train
    inline    training reads a shard when its rewrites are there: text for every image, from the first batch on
    follow    training never waits; a shard that is read before its rewrites are there shows its captions (`late`)

Rewriting goes shard by shard in the order in which the schedule needs them, and commits as `laclip rewrite` does;
training reads what is committed, and nothing else joins the two. So either half resumes as it does alone, an engine
that dies cannot take training with it, and engines are let go when the last shard is through.

Guarantees: a rewrite is made once, each sample is trained on once an epoch, whatever was killed. Whatever is missing at
the end is named, and the run is incomplete.
"""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.schedule import Schedule
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.onejob.coordinator import CoordinatorQueue, CoordinatorSupply, start_coordinator
from laclip_ray.rewriting.backlog import Backlog, check_prompts, find_backlog
from laclip_ray.rewriting.engine import BuildEngine, VllmEngine
from laclip_ray.rewriting.pipeline import (
    BudgetReachedError,
    RewritingResult,
    RunHooks,
    claim_sets,
    engine_group,
    finish_rewriting,
    scorer_group,
)
from laclip_ray.training.checkpoint import read_position
from laclip_ray.training.run import TrainingResult, TrainingStoppedError, check_training, run_training, worker_group

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OneJobResult:
    """How both halves ended."""

    rewriting: RewritingResult
    training: TrainingResult
    timeline: list[dict[str, Any]]
    """Seconds since the start, event, and the shards rewritten by then."""


RUN_FILE = "run.json"
"""Of a job whose training has ended: the summaries of both halves and the timeline."""


def run_one_job(experiment: Experiment, build_engine: BuildEngine = VllmEngine) -> OneJobResult:
    """Rewrite what is not rewritten and train, as `rewrite.delivery` says; the same command resumes both.

    Args:
        experiment: the configuration.
        build_engine: makes an engine inside each actor.

    Raises:
        UserError: bad input, or a plan that does not fit the cluster, before anything starts.
        IncompleteError: one of the halves is not complete; the same command goes on.
    """
    check_text(experiment)
    work = find_backlog(experiment)
    planned = plans(work)
    for plan in planned:
        cluster.check_local(experiment.ray, plan)  # before models are looked at, which takes seconds
    check_training(experiment)
    check_prompts(experiment, work.prompt_sets.values())
    outputs = {"rewrite.output": experiment.rewrite_output, "train.output": experiment.train_output}
    for plan in planned:
        cluster.connect(experiment.ray, plan, outputs)
    claim_sets(work)
    run = _beside if _is_beside(work) else _ahead
    return run(work, build_engine)


def _is_beside(work: Backlog) -> bool:
    """Whether both halves run at once: not where nothing is left to rewrite."""
    return work.experiment.rewrite.delivery != "ahead" and bool(work.units)


def _write_run(
    experiment: Experiment, training: TrainingResult, timeline: list[dict[str, Any]], is_rewriting_known: bool = True
) -> None:
    """Also where rewriting is incomplete: training is done, and says with what."""
    summary = storage.join(experiment.rewrite_output, "summary.json")
    rewriting = storage.read_json(summary) if is_rewriting_known else None
    content = {"timeline": timeline, "rewriting": rewriting, "training": training.summary}
    storage.write_json(storage.join(experiment.output, RUN_FILE), content)


def plans(work: Backlog) -> list[cluster.Reservation]:
    """What is reserved at once, one phase after another; that of the most CPUs first."""
    experiment = work.experiment
    workers = worker_group(experiment)
    rewriting = (engine_group(work), scorer_group(experiment)) if work.units else ()
    if _is_beside(work):
        return [cluster.Reservation("run", (*rewriting, workers), data_cpus=_STREAM_CPUS + _REWRITING_CPUS)]
    phases = [cluster.Reservation("run", rewriting), cluster.Reservation("run", (workers,))]
    return sorted(phases, key=lambda plan: -plan.cpus)


_STREAM_CPUS = 3
"""CPUs for the training stream beside rewriting: Ray Data gives each half a half of those that nobody has asked for."""
_REWRITING_CPUS = 1
"""CPUs for rewriting's own tasks."""


def _rewriting_cpus(experiment: Experiment) -> float:
    """The logical CPUs that rewriting may use, so that the training stream has others."""
    engine, scorers = experiment.rewrite.engine, scorer_group(experiment)
    return engine.actors.max * engine.cpus_per_actor + scorers.processes * scorers.cpus + _REWRITING_CPUS


def check_text(experiment: Experiment) -> None:
    """Refuse a job whose halves have nothing to do with one another.

    Raises:
        UserError: training would not read what is rewritten.
    """
    if not experiment.text.reads_rewrites:
        raise UserError("text.p: 0, so that training would never read what is rewritten; use `laclip train` for that")
    if experiment.text.rewrites:
        raise UserError("text.rewrites: `laclip run` trains on the rewrites that it makes; leave this out")


def _ahead(work: Backlog, build_engine: BuildEngine) -> OneJobResult:
    """One half after the other; or, with nothing left to rewrite, only training.

    What is trained is trained with all the text that there will be: captions that killed their engines have none in any
    later run either, and end the job as incomplete only when training is done.
    """
    started_s = time.monotonic()
    outcome = finish_rewriting(work, build_engine)
    if outcome.incomplete is not None and outcome.missing:
        raise outcome.incomplete
    timeline = [{"s": round(time.monotonic() - started_s, 3), "event": "rewriting has ended"}]
    training = run_training(work.experiment)
    timeline.append({"s": round(time.monotonic() - started_s, 3), "event": "training has ended"})
    timeline = [{**each, "rewritten_shards": outcome.shards} for each in timeline]
    url = storage.join(work.experiment.output, RUN_FILE)
    if not work.units and storage.exists(url):
        known = storage.read_json(url)
        if known["training"] == training.summary:  # of the job that did the work
            timeline = known["timeline"]
    _write_run(work.experiment, training, timeline)
    if outcome.incomplete is not None:
        raise outcome.incomplete
    return OneJobResult(outcome, training, timeline)


class _Rewriting(threading.Thread):
    """Rewriting beside training, in the driver. It ends with the process, or soon after `stop` is set."""

    def __init__(self, work: Backlog, build_engine: BuildEngine, board: Any, stops_training: bool) -> None:
        super().__init__(daemon=True, name="rewriting")
        self._work = work
        self._build_engine = build_engine
        self._board = board
        self._stops_training = stops_training
        self._left = len(work.units)
        self.stop = threading.Event()
        self.stop_training = threading.Event()
        self.outcome: RewritingResult | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            experiment = self._work.experiment
            order = _order(self._work, self._board)
            companion = RunHooks(self._settle, _rewriting_cpus(experiment), order, sort_by_priority, self.stop.is_set)
            self.outcome = finish_rewriting(self._work, self._build_engine, companion)
            self.error = self.outcome.incomplete
            cause = self.error.__cause__ if self.error is not None else None
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            cause = error
            self.error = IncompleteError(f"rewriting ended early ({error}); the same command continues")
            self.error.__cause__ = error
        # Something other than shards of its own, or its budget.
        is_fatal = cause is not None and not isinstance(cause, BudgetReachedError)
        if is_fatal and self._left and self._stops_training:
            self.stop_training.set()  # else it would go on without the text that it was to wait for
        else:
            self._board.end_rewriting.remote()

    def _settle(self, shard: str, accepted: int | None) -> None:
        self._left -= 1
        self._board.record_settled.remote(shard, accepted)


def _beside(work: Backlog, build_engine: BuildEngine) -> OneJobResult:
    import ray

    sort_by_priority(work)
    work = _bounded(work)
    experiment = work.experiment
    waits = experiment.rewrite.delivery == "inline"
    missing = Counter(unit.shard for unit in work.units)
    board = start_coordinator(missing, len(work.shards), read_position(experiment.train_output).done_below)
    rewriting = _Rewriting(work, build_engine, board, waits)
    rewriting.start()
    try:
        training = run_training(experiment, CoordinatorSupply(board, is_blocking=waits), stop=rewriting.stop_training)
        board.record_event.remote("training has ended")
        rewriting.join()
    except BaseException as error:
        rewriting.stop.set()
        board.end_rewriting.remote()  # lets go of what waits for text
        if isinstance(error, TrainingStoppedError):
            raise IncompleteError(
                f"rewriting ended early, and with it training; the same command continues both\n{rewriting.error}"
            ) from rewriting.error
        raise
    timeline = ray.get(board.timeline.remote())
    # An error that has no outcome may have come before rewriting's summary was written.
    _write_run(experiment, training, timeline, rewriting.outcome is not None)
    if rewriting.error is not None:
        raise rewriting.error
    assert rewriting.outcome is not None
    return OneJobResult(rewriting.outcome, training, timeline)


def _order(work: Backlog, board: Any) -> CoordinatorQueue:
    """The order of what training will read next, known to the board."""
    engine = work.experiment.rewrite.engine
    most = engine.actors.max * engine.held_shards
    return CoordinatorQueue(board, schedule_of(work), tuple(work.shards), most)


def schedule_of(work: Backlog) -> Schedule:
    """What training reads, in its order."""
    experiment = work.experiment
    return Schedule(len(work.shards), experiment.train.epochs, experiment.seed)


def sort_by_priority(work: Backlog) -> None:
    """Put the work in the order in which the rest of the schedule reads its shards."""
    schedule = schedule_of(work)
    names = list(work.shards)
    left = {unit.shard for unit in work.units}
    rank: dict[str, int] = {}
    remaining = read_position(work.experiment.train_output).remaining(schedule)
    for index in (remaining[place] for place in range(len(remaining))):
        if len(rank) == len(left):
            break
        name = names[schedule.entry(index).shard]
        if name in left:
            rank.setdefault(name, len(rank))
    for units in (work.to_draw, work.to_judge, work.to_compare):
        units.sort(key=lambda unit: rank.get(unit.shard, len(rank)))


def _bounded(work: Backlog) -> Backlog:
    """With no more engines and workers than the cluster holds beside one another, where it does not grow.

    Workers come first: engines take what the most workers leave, but at least their fewest, and workers what those
    leave. Ray counts the GPUs of engines as room for workers too, and would wait for them.
    """
    experiment = work.experiment
    if experiment.ray.autoscaling:
        return work
    import ray

    engine = experiment.rewrite.engine
    engines, workers, scorers = engine_group(work), worker_group(experiment), scorer_group(experiment)
    cpus = ray.cluster_resources().get("CPU", 0) - _STREAM_CPUS - _REWRITING_CPUS - scorers.processes * scorers.cpus
    nodes = cluster.nodes_without(scorers, scorers.processes, cluster.alive_nodes())

    def room_beside(group: cluster.ResourceGroup, most: int, other: cluster.ResourceGroup, others: int) -> int:
        """Processes of a group, up to `most`, beside so many others; tasks may take their CPUs from any node."""
        others = cluster.count_fitting(other, nodes, others)
        by_cpus = cluster.count_fitting_in({"CPU": cpus - others * other.cpus}, replace(group, gpus=0.0), most)
        return cluster.count_fitting(group, cluster.nodes_without(other, others, nodes, group), by_cpus)

    most_engines = max(engine.actors.min, room_beside(engines, engine.actors.max, workers, workers.processes))
    if most_engines < engine.actors.max:
        logger.info("at most %d engines, so that training keeps what it needs", most_engines)
    held = most_engines if engines.processes else 0
    most_workers = max(workers.required_processes, room_beside(workers, workers.processes, engines, held))
    if most_workers < workers.processes:
        logger.info("at most %d workers, so that engines keep what they have", most_workers)
    changes: dict[str, Any] = {"rewrite.engine.actors.max": most_engines}
    if workers.required_processes < workers.processes:
        changes["train.workers"] = {"min": workers.required_processes, "max": most_workers}
    if scorers.gpus:
        changes["rewrite.gate.picture.actors.max"] = scorers.processes
    return replace(work, experiment=with_overrides(experiment, changes))
