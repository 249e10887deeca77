"""A sweep over the augmentation probability p with Ray Tune.

Each trial trains with one (p, seed) and evaluates the result; all trials read the same rewrite sets, which are made
before the first one starts. A trial's directory is named after its p and seed, so a rerun of the same command finds
finished trials done and continues the others from their checkpoints.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.run import check_evaluation, evaluate_on_cluster
from laclip_ray.reporting.plots import metric_against_p
from laclip_ray.rewriting.pipeline import run_rewriting
from laclip_ray.training.run import run_training


@dataclass(frozen=True)
class Trial:
    """One training run of the sweep."""

    p: float
    seed: int

    @property
    def name(self) -> str:
        """Its directory's name."""
        return f"p{self.p:g}-seed{self.seed}"


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended."""

    trial: Trial
    metrics: Mapping[str, float]
    """`task/dataset/metric` to value; empty where the trial failed."""
    p_effective: float
    error: str | None = None


@dataclass(frozen=True)
class Sweep:
    """The sweep's results."""

    output: str
    results: tuple[TrialResult, ...]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that every finished trial has."""
        finished = [set(result.metrics) for result in self.results if result.error is None]
        return sorted(set.intersection(*finished)) if finished else []

    def values(self, metric: str) -> dict[float, list[float]]:
        """A metric's values over the seeds, by p."""
        values: dict[float, list[float]] = {}
        for result in self.results:
            if result.error is None:
                values.setdefault(result.trial.p, []).append(result.metrics[metric])
        return dict(sorted(values.items()))


def trial_experiment(experiment: Experiment, trial: Trial) -> Experiment:
    """The experiment of one trial: its p, its seed for training, its own places, the shared rewrite sets."""
    place = storage.join(experiment.tune_output, "trials", trial.name)
    changes: dict[str, Any] = {
        "text.p": trial.p,
        "seed": trial.seed,
        "train.output": storage.join(place, "train"),
        "evaluate.output": storage.join(place, "evaluate"),
        "evaluate.checkpoint": None,
        # The trial's seed is not the rewriter's: all trials read the rewrites of the experiment itself.
        "rewrite.output": experiment.rewrite_output,
    }
    return with_overrides(experiment, changes)


def run_sweep(experiment: Experiment) -> Sweep:
    """Make the rewrites that are missing, run every trial, and write `sweep.csv` and a plot a metric.

    Raises:
        UserError: bad input, before anything starts.
        IncompleteError: a trial failed; the results of the others are written.
    """
    tune = experiment.tune
    trials = [Trial(p, seed) for p in tune.p for seed in tune.seeds]
    if len({trial.name for trial in trials}) < len(trials):
        raise UserError("tune: the same p and seed are given twice")
    check_evaluation(experiment)
    concurrent = min(tune.max_concurrent_trials, len(trials))
    # A trial holds a CPU for itself, and its workers'.
    cpus_each = 1 + experiment.train.worker_range.max * experiment.train.cpus_per_worker
    plan = cluster.Plan("tune", (cluster.Group("trials", concurrent, cpus_each),), data_cpus=concurrent)
    cluster.connect(experiment, plan, {"tune.output": experiment.tune_output})
    reads_rewrites = any(trial_experiment(experiment, trial).text.reads_rewrites for trial in trials)
    if reads_rewrites and not experiment.text.rewrites:
        run_rewriting(experiment)
    sweep = Sweep(experiment.tune_output, tuple(_run_trials(experiment, trials, concurrent)))
    _write(sweep)
    if failed := [result for result in sweep.results if result.error]:
        names = "\n".join(f"  {result.trial.name}: {result.error}" for result in failed)
        raise IncompleteError(
            f"{len(failed)} of {len(trials)} trials failed; the same command tries them again\n{names}"
        )
    return sweep


def _run_trials(experiment: Experiment, trials: Sequence[Trial], concurrent: int) -> list[TrialResult]:
    import ray.tune

    def run_trial(config: dict[str, Any]) -> None:
        variant = trial_experiment(experiment, Trial(**config["trial"]))
        training = run_training(variant)
        metrics = flatten(evaluate_on_cluster(variant))
        ray.tune.report({"metrics": metrics, "p_effective": training.summary["p_effective"]})

    ray_filesystem, path = storage.ray_filesystem(experiment.tune_output)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(run_trial, {"CPU": 1}),
        param_space={"trial": ray.tune.grid_search([{"p": trial.p, "seed": trial.seed} for trial in trials])},
        tune_config=ray.tune.TuneConfig(max_concurrent_trials=concurrent),
        run_config=ray.tune.RunConfig(
            name="ray",
            storage_path=path,
            storage_filesystem=ray_filesystem,
            verbose=0,
        ),
    )
    results = []
    grid = tuner.fit()
    for found in (grid[number] for number in range(len(grid))):
        trial = Trial(**(found.config or {})["trial"])
        if found.error is not None:
            results.append(TrialResult(trial, {}, math.nan, error=str(found.error).strip().splitlines()[-1]))
        else:
            assert found.metrics is not None
            results.append(TrialResult(trial, found.metrics["metrics"], found.metrics["p_effective"]))
    return sorted(results, key=lambda result: (result.trial.p, result.trial.seed))


def flatten(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """`task/dataset/metric` to value, from what an evaluation gives."""
    return {
        f"{result['task']}/{result['dataset']}/{metric}": value
        for result in evaluation["results"]
        for metric, value in result.items()
        if isinstance(value, float)
    }


def _write(sweep: Sweep) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["p", "seed", "p_effective", "error", *sweep.metrics])
    for result in sweep.results:
        row = [result.trial.p, result.trial.seed, result.p_effective, result.error or ""]
        writer.writerow([*row, *(result.metrics.get(metric, "") for metric in sweep.metrics)])
    storage.write_bytes(storage.join(sweep.output, "sweep.csv"), text.getvalue().encode())
    for metric in sweep.metrics:
        name = metric.replace("/", "-")
        storage.write_bytes(
            storage.join(sweep.output, f"sweep-{name}.svg"),
            metric_against_p(sweep.values(metric), metric).encode(),
        )
