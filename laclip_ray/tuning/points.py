"""Training of points with Ray Tune: a trial trains one point with all seeds, stage by stage.

A trial trains every seed up to an epoch, evaluates each, and reports the mean of the objective to Tune. Then Tune's
scheduler decides about the point. So a point continues or ends as a whole, and a search learns from means, never from
one seed's luck.
"""

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import progress, storage
from laclip_ray.config import Experiment, TuneConfig
from laclip_ray.endings import signals
from laclip_ray.endings.causes import describe
from laclip_ray.errors import IncompleteError
from laclip_ray.tuning.capacity import find_capacity
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.results import objective_metric
from laclip_ray.tuning.schedulers import OBJECTIVE, BudgetStopper, EndedPoints, Halving, TreeSearch
from laclip_ray.tuning.space import P_KEY, Point, Space, baseline_ps, constant_p
from laclip_ray.tuning.stages import (
    Stage,
    begin_point,
    begun_points,
    end_point,
    ended_epoch,
    reached_epochs,
    read_stages,
)
from laclip_ray.tuning.trial import run_stages

logger = logging.getLogger(__name__)


def evaluated_epochs(tune: TuneConfig, epochs: int) -> list[int]:
    """The epochs after which runs are evaluated, including the last one.

    Args:
        tune: the sweep.
        epochs: of a complete run.
    """
    evaluated = {epochs}
    if tune.evaluate_every_epochs:
        evaluated |= set(range(tune.evaluate_every_epochs, epochs, tune.evaluate_every_epochs))
    if tune.halving:
        rung = tune.halving.first_epochs
        while rung < epochs:
            evaluated.add(rung)
            rung *= tune.halving.reduction
    return sorted(evaluated)


def run_points(
    experiment: Experiment,
    points: Sequence[Point],
    epochs: Sequence[int],
    budget: BudgetStopper,
    most_rewrites: int,
) -> dict[str, str]:
    """Train and evaluate points until the scheduler or the budget ends them.

    Args:
        experiment: the configuration.
        points: all points; empty if a search chooses them.
        epochs: after which runs are evaluated.
        budget: ends the sweep.
        most_rewrites: the most rewrites of a caption.

    Returns:
        Why points failed, by their names.
    """
    import ray.tune

    tune = experiment.tune
    capacity = find_capacity(tune, experiment.train, experiment.ray, len(points) or tune.points)
    training = PointTraining(experiment, _parts(tune, epochs), capacity.seeds_per_point)
    search = _resume_search(training) if tune.search == "optuna" else None
    grid = [dict(point.values) for point in points]

    is_watched = progress.is_watched()

    def train_point(config: dict[str, Any]) -> None:
        if is_watched:
            progress.forward()
        training.train(config["values"])

    tuner = ray.tune.Tuner(
        ray.tune.with_resources(train_point, {"CPU": 1}),
        param_space={"values": ray.tune.grid_search(grid)} if search is None else None,
        tune_config=ray.tune.TuneConfig(
            search_alg=search,
            scheduler=_halving(training, most_rewrites),
            num_samples=1 if search is None else search.remaining,
            max_concurrent_trials=capacity.points,
            trial_dirname_creator=lambda trial: trial.trial_id,  # Tune's own names hold every value
        ),
        run_config=_tune_run(training, budget, len(points) or tune.points),
    )
    logging.getLogger("ray.tune.tune").setLevel(logging.ERROR)  # after Ctrl-C, Tune advises to restore its snapshots
    with signals.kept():  # Tune's own handler would end an interrupted sweep as if it were complete
        results = tuner.fit()
    return {
        training.point_of((result.config or {})["values"]).name: describe(result.error)
        for result in (results[number] for number in range(len(results)))
        if result.error is not None
    }


def _tune_run(training: "PointTraining", budget: BudgetStopper, points: int) -> Any:
    """Ray Tune's settings for one start of a sweep."""
    import ray.tune

    filesystem, snapshots = storage.ray_filesystem(training.paths.snapshots)
    return ray.tune.RunConfig(
        name=f"start-{time.time_ns()}",
        storage_path=snapshots,
        storage_filesystem=filesystem,
        failure_config=ray.tune.FailureConfig(max_failures=training.experiment.tune.max_failures),
        stop=budget,
        callbacks=[EndedPoints(points)],
        verbose=0,
    )


def _parts(tune: TuneConfig, epochs: Sequence[int]) -> list[list[int]]:
    """The epochs that a run trains through at once: all of them, unless a decision may follow each evaluation."""
    decides = tune.halving is not None or tune.budget.gpu_hours is not None or tune.budget.money is not None
    return [[epoch] for epoch in epochs] if decides else [list(epochs)]


@dataclass(frozen=True)
class PointTraining:
    """Trains points, each in a trial of Ray Tune."""

    experiment: Experiment
    parts: Sequence[Sequence[int]]
    """Epochs after which runs are evaluated. Tune decides about a point after each part."""
    seeds_at_once: int
    """Runs of one point that train at the same time."""

    @property
    def paths(self) -> SweepPaths:
        """Where the sweep keeps its files."""
        return SweepPaths(self.experiment.tune_output)

    @property
    def metric(self) -> str:
        """The metric that the sweep maximises."""
        return objective_metric(self.experiment.tune, self.experiment.evaluate)

    def point_of(self, values: Mapping[str, Any]) -> Point:
        """The point of a trial's config."""
        tune = self.experiment.tune
        return Space.of(tune).decode(values) if tune.search == "optuna" else Point(values)

    def train(self, values: Mapping[str, Any]) -> None:
        """Train the point of a trial's config, and report each stage to Tune."""
        import ray.tune

        point = self.point_of(values)
        begin_point(self.paths, point)
        last = ended_epoch(self.paths, point, self.experiment.tune.halving)
        for number, part in enumerate(self.parts):
            if number and last is not None and part[-1] > last:
                return
            for stages in zip(*self._train_seeds(point, part), strict=True):
                ray.tune.report(summarize(stages, self.metric))

    def _train_seeds(self, point: Point, epochs: Sequence[int]) -> list[list[Stage]]:
        """Train a point's seeds up to the last epoch, each in a task, and evaluate them after each epoch.

        Returns:
            The stages of each seed.

        Raises:
            IncompleteError: runs failed; raised when all seeds have ended.
        """
        import ray

        tune = self.experiment.tune
        # Ray retries a task that lost its node or process. The run resumes from its checkpoint.
        retries = tune.max_failures
        task: Any = ray.remote(num_cpus=0, max_retries=retries, scheduling_strategy="SPREAD")(run_stages)
        waiting = list(tune.seeds)
        running: dict[Any, int] = {}
        finished: list[list[Stage]] = []
        errors: list[str] = []
        while waiting or running:
            while waiting and len(running) < self.seeds_at_once:
                seed = waiting.pop(0)
                running[task.remote(self.experiment, point, seed, epochs)] = seed
            (ended,), _ = ray.wait(list(running), num_returns=1)
            seed = running.pop(ended)
            try:
                finished.append(ray.get(ended))
            except Exception as error:
                logger.exception("seed %d of %s ended early", seed, point.name)
                errors.append(f"seed {seed}: {' '.join(describe(error).split())}")
        if errors:
            raise IncompleteError("; ".join(errors))
        return finished


def summarize(stages: Sequence[Stage], metric: str) -> dict[str, Any]:
    """What Tune learns about a point at an epoch: the mean objective and the cost of all seeds.

    Args:
        stages: one per seed.
        metric: the objective.
    """
    money = [stage.money for stage in stages if stage.money is not None]
    return {
        OBJECTIVE: statistics.fmean(stage.metrics[metric] for stage in stages),
        "point": stages[0].point,
        "epoch": stages[0].epoch,
        "gpu_hours": sum(stage.gpu_hours for stage in stages),
        "money": sum(money) if money else None,
    }


def _halving(training: PointTraining, most_rewrites: int) -> Halving | None:
    """The scheduler that ends poor points; None without `tune.halving`."""
    experiment = training.experiment
    if experiment.tune.halving is None:
        return None
    reached = reached_epochs(read_stages(training.paths), experiment.tune.seeds)
    return Halving(
        experiment.tune.halving,
        experiment.train.epochs,
        reached=lambda values: reached.get(training.point_of(values).name, 0),
        end=lambda values, epoch: end_point(training.paths, training.point_of(values), epoch),
        is_spared=lambda values: _is_baseline(training.point_of(values), most_rewrites),
    )


def _is_baseline(point: Point, most_rewrites: int) -> bool:
    """Whether other points are compared with this one: p = 0 or the paper's choice, if only p is swept."""
    p = constant_p(point.values.get(P_KEY), most_rewrites)
    return len(point.values) == 1 and p in baseline_ps(most_rewrites)


def _resume_search(training: PointTraining) -> TreeSearch:
    """A search that knows the stored points of its space."""
    experiment, paths = training.experiment, training.paths
    tune, space = experiment.tune, Space.of(experiment.tune)
    reached = reached_epochs(read_stages(paths), tune.seeds)
    finished, unfinished = [], []
    for point in begun_points(paths):
        if not space.contains(point.values):
            continue
        last = ended_epoch(paths, point, tune.halving) or experiment.train.epochs
        if reached.get(point.name, 0) < last:
            unfinished.append(point.values)
            continue
        stages = [stage for stage in read_stages(paths, point.name) if stage.epoch == last and stage.seed in tune.seeds]
        finished.append((point.values, summarize(stages, training.metric)[OBJECTIVE]))
    return TreeSearch(space, experiment.seed, tune.points, finished, unfinished)
