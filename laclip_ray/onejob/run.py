"""`laclip run`: rewriting and training in one job. The same command resumes both.

    ahead     rewrite everything, then train
    inline    training reads a shard once its rewrites are committed: every image has its texts from the first batch on
    follow    training never waits; a shard read before its rewrites are committed shows captions (`late`)

Rewriting commits shard by shard as `laclip rewrite` does, in the order of the schedule. Training reads committed
rewrites. No other data passes between the halves, so each resumes as it does alone, and an engine that dies does not
end training. Engines are released after the last shard.

Guarantees: even if processes are killed, each rewrite is made once, and each sample is trained on once an epoch. Work
missing at the end is named, and the run is incomplete.
"""

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from laclip_ray import cluster, lease, storage
from laclip_ray.config import Experiment, RewriteConfig, TextConfig, inputs_on_nodes
from laclip_ray.endings.causes import describe
from laclip_ray.endings.surroundings import continuation
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.onejob.coordinator import CoordinatorQueue, CoordinatorSupply, start_coordinator
from laclip_ray.onejob.priority import schedule_of, sort_by_priority
from laclip_ray.onejob.resources import fit_to_cluster, reservations, rewriting_cpus, runs_beside
from laclip_ray.rewriting.engines.engine import BuildEngine, VllmEngine
from laclip_ray.rewriting.running.backlog import Backlog, check_prompts, find_backlog
from laclip_ray.rewriting.running.hooks import RunHooks
from laclip_ray.rewriting.running.pipeline import claim_sets, finish_rewriting
from laclip_ray.rewriting.running.result import BudgetReachedError, RewritingResult
from laclip_ray.rewriting.running.shortfall import ShortfallError
from laclip_ray.rewriting.tables import LOG_PROBABILITY
from laclip_ray.training.checkpoint import read_position
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import repair_register
from laclip_ray.training.run import check_training, run_training, training_inputs
from laclip_ray.training.summary import TrainingResult, finished_result
from laclip_ray.training.trainer import TrainingStoppedError

RUN_FILE = "run.json"
"""Below `output`, once training has ended: the summaries of both halves, and the timeline."""


@dataclass(frozen=True)
class OneJobResult:
    """How both halves ended."""

    rewriting: RewritingResult
    training: TrainingResult
    timeline: list[dict[str, Any]]
    """Events, each with the seconds since the start and the shards rewritten by then."""


def run_one_job(experiment: Experiment, build_engine: BuildEngine = VllmEngine) -> OneJobResult:
    """Rewrite the backlog and train, in the order that `rewrite.delivery` says. The same command resumes both.

    Args:
        experiment: the configuration.
        build_engine: starts an engine inside each actor.

    Raises:
        UserError: bad input, or processes that do not fit the cluster, before anything starts.
        IncompleteError: one of the halves is incomplete; the same command resumes.
    """
    check_text(experiment.text, experiment.rewrite)
    outputs = {"rewrite.output": experiment.rewrite_output, "train.output": experiment.train_output}
    with contextlib.ExitStack() as held:
        for setting, location in outputs.items():
            storage.check_output(location, setting, cluster.in_ray_job(), 1, experiment.ray.shared_paths)
            held.enter_context(lease.hold(location, setting, "run"))
        backlog = find_backlog(experiment)
        phases = reservations(backlog)
        for phase in phases:
            cluster.check_local(experiment.ray, phase)  # before the checks that load models, which takes seconds
        check_training(experiment)
        check_prompts(backlog)
        inputs = [*inputs_on_nodes(experiment, "rewrite"), *training_inputs(experiment)]
        paths = RunPaths(experiment.train_output)
        if not backlog.units and finished_result(paths) is not None:
            return _run_ahead(backlog, build_engine)  # nothing is left to do, so no cluster is needed
        for phase in phases:
            cluster.connect(experiment.ray, phase, outputs, inputs)
        claim_sets(backlog)
        repair_register(paths)
        run = _run_beside if runs_beside(backlog) else _run_ahead
        return run(backlog, build_engine)


def check_text(text: TextConfig, rewrite: RewriteConfig) -> None:
    """Refuse a job whose training would not read its rewrites, or a score that they will not have.

    Raises:
        UserError: with the setting.
    """
    if not text.reads_rewrites:
        raise UserError("text.p: 0, so training would never read the rewrites; use `laclip train` for that")
    if text.rewrites:
        raise UserError("text.rewrites: `laclip run` trains on the rewrites that it makes; remove this setting")
    for key, score in text.scores.items():
        if score == LOG_PROBABILITY and not rewrite.log_probability:
            raise UserError(f"{key}: rewrite.log_probability is off; set it to true, or choose another score")


def _run_ahead(backlog: Backlog, build_engine: BuildEngine) -> OneJobResult:
    """Rewrite, then train; with an empty backlog, only train.

    Training starts only with every rewrite that can be made, and if rewriting yields enough. Captions that killed their
    engines would get no rewrite in a later run either, so they end the job as incomplete only after training.
    """
    started_s = time.monotonic()
    rewriting = finish_rewriting(backlog, build_engine)
    if rewriting.missing or isinstance(rewriting.incomplete, ShortfallError):
        assert rewriting.incomplete is not None
        raise rewriting.incomplete
    events = [(time.monotonic() - started_s, "rewriting has ended")]
    training = run_training(backlog.experiment)
    events.append((time.monotonic() - started_s, "training has ended"))
    timeline = [
        {"s": round(seconds, 3), "event": event, "rewritten_shards": rewriting.shards} for seconds, event in events
    ]
    url = storage.join(backlog.experiment.output, RUN_FILE)
    if not backlog.units and storage.exists(url):
        # Written by the job that did the work, if its training is this one.
        timeline = storage.read_state(
            url,
            "the record of this job",
            "Remove it, and the same command writes it again, without the timeline.",
            lambda before: before["timeline"] if before["training"] == training.summary else timeline,
        )
    _write_run_file(backlog, training, timeline)
    if rewriting.incomplete is not None:
        raise rewriting.incomplete
    return OneJobResult(rewriting, training, timeline)


def _run_beside(backlog: Backlog, build_engine: BuildEngine) -> OneJobResult:
    """Rewrite in a thread, and train in this one, the main thread."""
    import ray

    sort_by_priority(backlog)
    backlog = fit_to_cluster(backlog)
    experiment = backlog.experiment
    is_blocking = experiment.rewrite.delivery == "inline"
    missing = Counter(unit.shard for unit in backlog.units)
    start = read_position(experiment.train_output).done_below
    coordinator = start_coordinator(missing, len(backlog.shards), start)
    rewriting = RewritingThread(backlog, build_engine, coordinator, stops_training=is_blocking)
    rewriting.start()
    try:
        training = run_training(experiment, CoordinatorSupply(coordinator, is_blocking), stop=rewriting.stop_training)
        coordinator.record_event.remote("training has ended")
        rewriting.join()
    except BaseException as error:
        rewriting.stop.set()
        coordinator.end_rewriting.remote()  # releases the tasks that wait for rewrites
        if isinstance(error, TrainingStoppedError):
            raise IncompleteError(
                f"rewriting ended early, and with it training, which resumes with it\n{rewriting.error}"
            ) from rewriting.error
        raise
    timeline = ray.get(coordinator.timeline.remote())
    # Without a result, rewriting may have failed before it wrote its summary.
    _write_run_file(backlog, training, timeline, has_summary=rewriting.result is not None)
    if rewriting.error is not None:
        raise rewriting.error
    assert rewriting.result is not None
    return OneJobResult(rewriting.result, training, timeline)


class RewritingThread(threading.Thread):
    """Rewriting beside training, in the driver. It ends with the process, or soon after `stop` is set."""

    def __init__(self, backlog: Backlog, build_engine: BuildEngine, coordinator: Any, stops_training: bool) -> None:
        """Prepare the thread.

        Args:
            backlog: the work.
            build_engine: starts an engine inside each actor.
            coordinator: the actor.
            stops_training: whether a failure stops training while shards are unfinished, because training waits for
                their rewrites.
        """
        super().__init__(daemon=True, name="rewriting")
        self._backlog = backlog
        self._build_engine = build_engine
        self._coordinator = coordinator
        self._stops_training = stops_training
        self._unsettled = len(backlog.units)
        self.stop = threading.Event()
        """Set by the main thread to end rewriting early."""
        self.stop_training = threading.Event()
        """Set by this thread to end training early."""
        self.result: RewritingResult | None = None
        self.error: Exception | None = None
        """Raised in the main thread once training has ended."""

    def run(self) -> None:
        """Rewrite the backlog."""
        try:
            hooks = RunHooks(
                on_settled=self._record_settled,
                cpus=rewriting_cpus(self._backlog.experiment.rewrite),
                queue=_queue_of(self._backlog, self._coordinator),
                sort=sort_by_priority,
                should_stop=self.stop.is_set,
            )
            self.result = finish_rewriting(self._backlog, self._build_engine, hooks)
            self.error = self.result.incomplete
            cause = self.error.__cause__ if self.error is not None else None
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            cause = error
            self.error = IncompleteError(f"rewriting ended early ({describe(error)}); {continuation(error)}")
            self.error.__cause__ = error
        # A result without a cause misses only shards that failed on their own. A reached budget is expected.
        is_fatal = cause is not None and not isinstance(cause, BudgetReachedError)
        waits = is_fatal and self._unsettled > 0
        if self._stops_training and (waits or isinstance(self.error, ShortfallError)):
            self.stop_training.set()  # training must not continue without the rewrites that it waits for
        else:
            self._coordinator.end_rewriting.remote()

    def _record_settled(self, shard: str, accepted: int | None) -> None:
        self._unsettled -= 1
        self._coordinator.record_settled.remote(shard, accepted)


def _queue_of(backlog: Backlog, coordinator: Any) -> CoordinatorQueue:
    """The queue of shards, in the order of training's schedule."""
    engine = backlog.experiment.rewrite.engine
    most = engine.actors.max * engine.held_shards
    return CoordinatorQueue(coordinator, schedule_of(backlog), tuple(backlog.shards), most)


def _write_run_file(
    backlog: Backlog, training: TrainingResult, timeline: list[dict[str, Any]], has_summary: bool = True
) -> None:
    """Write `run.json`, even if rewriting is incomplete: training has ended, and its summary names its rewrites."""
    experiment = backlog.experiment
    rewriting = storage.read_json(storage.join(experiment.rewrite_output, "summary.json")) if has_summary else None
    content = {"timeline": timeline, "rewriting": rewriting, "training": training.summary}
    storage.write_json(storage.join(experiment.output, RUN_FILE), content)
