"""A sweep with Ray Tune: a trial is a point of the space, trained with every seed, stage by stage.

A trial trains all its seeds until an epoch, evaluates them, and tells Tune their mean; then Tune's scheduler says
whether the point goes on. So a point is ended or kept as a whole, and a search learns from a mean, not one seed's luck.

Guarantees: rewrites are made once, before the first run. What was measured is in storage (`trials/POINT/seedN/stages`),
and nothing else is needed to go on: a rerun of the same command reads it, tells the scheduler and the search of it,
continues what died, and trains nothing twice. Tune's own snapshots are not read: they are pickles.
"""

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.run import check_evaluation
from laclip_ray.rewriting.pipeline import run_rewriting
from laclip_ray.rewriting.store import committed_sets
from laclip_ray.training.run import check_training, worker_group
from laclip_ray.tuning.results import Sweep, default_metric, write_sweep
from laclip_ray.tuning.space import Point, listed_points, suggested_point
from laclip_ray.tuning.steering import OBJECTIVE, BudgetStopper, Halving, TreeSearch
from laclip_ray.tuning.trial import Stage, point_place, read_stages, run_experiment, run_stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capacity:
    """How much goes on at a time."""

    points: int
    seeds_each: int


@dataclass(frozen=True)
class Endings:
    """How the points of this start ended, by name."""

    failures: Mapping[str, str]
    """Why a point is not complete."""
    is_budget_spent: bool


def run_sweep(experiment: Experiment) -> Sweep:
    """Make the rewrites that are missing, train and evaluate every point, and write what they say.

    Raises:
        UserError: bad input, before anything starts.
        IncompleteError: a run failed, the budget is spent, or the sweep was stopped; what is there is written.
    """
    tune = experiment.tune
    points = listed_points(experiment) if tune.search != "optuna" else []
    if len(set(tune.seeds)) < len(tune.seeds):
        raise UserError("tune.seeds: the same seed is given twice")
    cluster.check_local(experiment, _plan(experiment, 1))  # before models are looked at, which takes seconds
    check_evaluation(experiment)
    variants = [run_experiment(experiment, point, tune.seeds[0]) for point in points]
    for variant in variants or [experiment]:
        check_training(variant)
    cluster.connect(experiment, _plan(experiment, 1), {"tune.output": experiment.tune_output})
    reads_rewrites = not variants or any(each.text.reads_rewrites for each in variants)
    if reads_rewrites and not experiment.text.rewrites:
        run_rewriting(experiment)
    try:
        endings = _run_points(experiment, points)
    finally:  # also of a sweep that is stopped
        most = committed_sets(experiment).most_rewrites() if reads_rewrites else 0
        sweep = Sweep(experiment, tuple(read_stages(experiment)), most)
        write_sweep(sweep)
    if endings.is_budget_spent:
        raise IncompleteError("tune.budget is spent; with a larger one the same command goes on")
    if endings.failures:
        lines = "\n".join(f"  {name}: {why}" for name, why in endings.failures.items())
        raise IncompleteError(
            f"points that are not complete: {len(endings.failures)}; the same command goes on with them\n{lines}"
        )
    return sweep


def _plan(experiment: Experiment, runs: int) -> cluster.Plan:
    """What so many runs at a time reserve, each with a CPU for its point and one for Ray Data."""
    workers = worker_group(experiment)
    groups = (
        cluster.Group("points", runs, 1.0),
        cluster.Group("workers", runs * workers.processes, workers.cpus, workers.gpus),
    )
    return cluster.Plan("tune", groups, data_cpus=runs)


def _capacity(experiment: Experiment, points: int) -> Capacity:
    """As many runs at a time as the cluster holds and the configuration allows; one fits, or `connect` had refused.

    A cluster that grows is not counted: what does not fit waits for its nodes, each run with all that it needs at once,
    so that none holds what another one is waiting for.
    """
    import ray

    seeds = len(experiment.tune.seeds)
    most = experiment.tune.max_concurrent_runs or points * seeds
    if not experiment.ray.autoscaling:
        resources = ray.cluster_resources()
        one = _plan(experiment, 1)
        most = min(most, int(resources.get("CPU", 1) // one.cpus))
        gpus = sum(group.processes * cluster.gpus_each(group.gpus) for group in one.groups)
        if gpus:
            most = min(most, int(resources.get("GPU", 0) // gpus))
    most = max(1, most)
    seeds_each = min(seeds, max(1, most // points))
    return Capacity(points=max(1, most // seeds_each), seeds_each=seeds_each)


def stages_of(experiment: Experiment) -> list[int]:
    """The epochs after which runs are evaluated, the last one included."""
    tune, epochs = experiment.tune, experiment.train.epochs
    found = {epochs}
    if tune.evaluate_every_epochs:
        found |= set(range(tune.evaluate_every_epochs, epochs, tune.evaluate_every_epochs))
    if tune.halving:
        epoch = tune.halving.first_epochs
        while epoch < epochs:
            found.add(epoch)
            epoch *= tune.halving.reduction
    return sorted(found)


def _run_points(experiment: Experiment, points: Sequence[Point]) -> Endings:
    """Train and evaluate all points, as far as the scheduler lets them."""
    import ray.tune

    tune = experiment.tune
    capacity = _capacity(experiment, len(points) or tune.points)
    epochs = stages_of(experiment)

    def point_of(config: Mapping[str, Any]) -> Point:
        values = config["values"]
        return suggested_point(experiment, values) if tune.search == "optuna" else Point(values)

    def train_point(config: dict[str, Any]) -> None:
        point = point_of(config)
        known = {(stage.seed, stage.epoch) for stage in read_stages(experiment, point.name)}
        has_ended = storage.exists(_ended_url(experiment, point))
        # Where nobody decides between two stages, training goes through all of them at once.
        for part in [[epoch] for epoch in epochs] if tune.halving is not None else [epochs]:
            if has_ended and any((seed, epoch) not in known for seed in tune.seeds for epoch in part):
                return
            for stages in zip(*_train_seeds(experiment, point, part, capacity.seeds_each), strict=True):
                ray.tune.report(_summary(experiment, stages))

    def end(values: Mapping[str, Any], epoch: int) -> None:
        storage.write_json(_ended_url(experiment, point_of({"values": values})), {"epoch": epoch})

    budget = BudgetStopper(experiment)
    search = _tree_search(experiment) if tune.search == "optuna" else None
    grid = [dict(point.values) for point in points]
    ray_filesystem, path = storage.ray_filesystem(storage.join(experiment.tune_output, "ray"))
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(train_point, {"CPU": 1}),
        param_space={"values": ray.tune.grid_search(grid)} if search is None else None,
        tune_config=ray.tune.TuneConfig(
            search_alg=search,
            scheduler=Halving(experiment, end) if tune.halving is not None else None,
            num_samples=1 if search is None else search.left,
            max_concurrent_trials=capacity.points,
            trial_dirname_creator=lambda trial: trial.trial_id,  # not all of the values in one name
        ),
        run_config=ray.tune.RunConfig(
            name=f"start-{time.time_ns()}",
            storage_path=path,
            storage_filesystem=ray_filesystem,
            failure_config=ray.tune.FailureConfig(max_failures=tune.max_failures),
            stop=budget,
            verbose=0,
        ),
    )
    results = tuner.fit()
    failures = {}
    for result in (results[number] for number in range(len(results))):
        point = point_of(result.config or {})
        if result.error is not None:
            failures[point.name] = str(result.error).strip().splitlines()[-1]
        elif (result.metrics or {}).get("epoch", 0) < epochs[-1] and not storage.exists(_ended_url(experiment, point)):
            failures[point.name] = "stopped"
    return Endings(failures, budget.is_spent)


def _ended_url(experiment: Experiment, point: Point) -> str:
    """Where it is noted that the scheduler has ended a point."""
    return storage.join(point_place(experiment, point.name), "ended_early.json")


def _train_seeds(experiment: Experiment, point: Point, epochs: Sequence[int], at_once: int) -> list[list[Stage]]:
    """Train a point's seeds until the last epoch, each in a task, and evaluate them after each; by seed.

    An error is raised when all of them have ended.
    """
    import ray

    task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy="SPREAD")(run_stages)
    waiting = list(experiment.tune.seeds)
    running: dict[Any, int] = {}
    found: list[list[Stage]] = []
    errors: list[str] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            seed = waiting.pop(0)
            running[task.remote(experiment, point, seed, epochs)] = seed
        (ended,), _ = ray.wait(list(running), num_returns=1)
        seed = running.pop(ended)
        try:
            found.append(ray.get(ended))
        except Exception as error:
            logger.exception("seed %d of %s ended early", seed, point.name)
            cause = getattr(error, "cause", None) or error  # Ray's own error holds the task's whole trace
            errors.append(f"seed {seed}: {' '.join(str(cause).split())}")
    if errors:
        raise IncompleteError("; ".join(errors))
    return found


def _summary(experiment: Experiment, stages: Sequence[Stage]) -> dict[str, Any]:
    """What Tune is told of a point at a stage."""
    metric = experiment.tune.metric or default_metric(sorted(stages[0].metrics))
    if metric not in stages[0].metrics:
        raise UserError(f"tune.metric: there is no {metric}; there are {', '.join(sorted(stages[0].metrics))}")
    money = [stage.money for stage in stages if stage.money is not None]
    return {
        OBJECTIVE: statistics.fmean(stage.metrics[metric] for stage in stages),
        "epoch": stages[0].epoch,
        "gpu_hours": sum(stage.gpu_hours for stage in stages),
        "money": sum(money) if money else None,
    }


def _tree_search(experiment: Experiment) -> TreeSearch:
    """A search that knows what is in storage."""
    by_point: dict[str, list[Stage]] = {}
    for stage in read_stages(experiment):
        by_point.setdefault(stage.point, []).append(stage)
    finished, begun = [], []
    for stages in by_point.values():
        last = max(stage.epoch for stage in stages)
        found = [stage for stage in stages if stage.epoch == last]
        point = Point(stages[0].values)
        is_over = last == experiment.train.epochs or storage.exists(_ended_url(experiment, point))
        if is_over and len(found) == len(experiment.tune.seeds):
            finished.append((point.values, _summary(experiment, found)[OBJECTIVE]))
        else:
            begun.append(point.values)
    return TreeSearch(experiment, finished, begun)
