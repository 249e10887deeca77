"""What `laclip run` would do: processes, work left, and a forecast of each delivery."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from laclip_ray import storage
from laclip_ray.cluster import ResourceGroup
from laclip_ray.config import Delivery, Experiment
from laclip_ray.onejob.forecast import Forecast, Halves, cheapest, forecasts
from laclip_ray.onejob.priority import schedule_of
from laclip_ray.onejob.run import check_text
from laclip_ray.rewriting.forecasting.estimate import Estimate, estimate_rewriting
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.rewriting.running.backlog import Backlog, find_backlog
from laclip_ray.rewriting.running.pipeline import engine_group
from laclip_ray.training.checkpoint import read_position
from laclip_ray.training.doubts import doubts
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run import check_training, worker_group

_MEASURED_LINES = 50
"""Newest lines of a run's metrics that give its speed."""
_LEAST_BUSY_SHARE = 0.01
"""A line with less time outside waiting tells little about the speed."""


@dataclass(frozen=True)
class RunPlan:
    """What would run."""

    delivery: Delivery
    engines: ResourceGroup
    """At most this many engines; 0 without draws left."""
    fewest_engines: int
    workers: ResourceGroup
    shards: int
    shards_done: int
    """Shards rewritten for every prompt set."""
    left_share: float
    """Share of units (shard x prompt set) that engines have to draw."""
    epochs_left: float
    steps_left: int
    images_per_s: float | None
    """Training speed of all workers together; None if neither measured nor configured."""
    is_measured: bool
    """Whether an earlier run measured the training speed."""
    estimate: Estimate
    """Of rewriting."""
    forecasts: tuple[Forecast, ...]
    """Empty if the training speed is unknown."""
    doubts: tuple[str, ...] = ()
    """Settings hardly meant, each with a remedy."""

    @property
    def cheapest(self) -> Forecast | None:
        """The forecast with the least money."""
        return cheapest(self.forecasts) if self.forecasts else None


def plan_run(experiment: Experiment) -> RunPlan:
    """Find out what `laclip run` would do. Starts neither Ray nor an engine, and writes no file.

    Raises:
        UserError: bad input, as for the run itself.
    """
    check_text(experiment.text, experiment.rewrite)
    check_training(experiment)
    backlog = find_backlog(experiment)
    estimate = estimate_rewriting(experiment)
    train = experiment.train
    trained = round(estimate.captions * (1 - experiment.data.held_out))
    fewest = engine_group(backlog)
    engines = replace(fewest, processes=experiment.rewrite.engine.actors.max if fewest.processes else 0)
    workers = worker_group(train)
    measured = _measured_images_per_s(RunPaths(experiment.train_output))
    images_per_s = measured or train.expected_images_per_s
    options: tuple[Forecast, ...] = ()
    if images_per_s is not None:
        epoch_hours = trained / images_per_s / 3_600
        halves = _halves(backlog, estimate, engines, workers, epoch_hours)
        options = forecasts(halves, is_released=experiment.ray.autoscaling)
    return RunPlan(
        delivery=experiment.rewrite.delivery,
        engines=engines,
        fewest_engines=fewest.processes,
        workers=workers,
        shards=len(backlog.shards),
        shards_done=backlog.untouched_shards,
        left_share=_left_share(backlog),
        epochs_left=_epochs_left(backlog),
        steps_left=int(trained * _epochs_left(backlog)) // train.batch_size,
        images_per_s=images_per_s,
        is_measured=measured is not None,
        estimate=estimate,
        forecasts=options,
        doubts=tuple(doubts(trained, train, experiment.evaluate)),
    )


def _left_share(backlog: Backlog) -> float:
    """The share of units (shard x prompt set) that engines have to draw."""
    return len(backlog.to_draw) / (len(backlog.shards) * len(backlog.sets))


def _epochs_left(backlog: Backlog) -> float:
    """The part of the schedule that training has not finished, in epochs."""
    remaining = read_position(backlog.experiment.train_output).remaining(schedule_of(backlog))
    return len(remaining) / len(backlog.shards)


def _halves(
    backlog: Backlog, estimate: Estimate, engines: ResourceGroup, workers: ResourceGroup, epoch_hours: float
) -> Halves:
    """What rewriting and training take alone."""
    rewrite, train = backlog.experiment.rewrite, backlog.experiment.train
    prices = load_prices(rewrite.prices)
    engine_price = prices.price(rewrite.price).per_gpu_hour if rewrite.price else None
    engine_gpus = engines.processes * _gpus(engines, rewrite.engine.tensor_parallel_size)
    left_share = _left_share(backlog)
    return Halves(
        rewriting_hours=estimate.costs[0].gpu_hours * left_share / (engine_gpus or 1.0),
        epoch_hours=epoch_hours,
        epochs=_epochs_left(backlog),
        engine_gpus=engine_gpus,
        worker_gpus=workers.processes * _gpus(workers, 1),
        engine_price=engine_price,
        worker_price=prices.price(train.price, "train.price").per_gpu_hour if train.price else engine_price,
        left_share=left_share,
        on_same_gpus=(engines.accelerator_type, engines.label_selector)
        == (workers.accelerator_type, workers.label_selector),
    )


def _gpus(group: ResourceGroup, on_gpus: int) -> float:
    """GPUs of a process. If the configuration leaves it to the cluster: `on_gpus`, as on a cluster with GPUs."""
    return float(on_gpus) if group.gpus is None else group.gpus


def _measured_images_per_s(paths: RunPaths) -> float | None:
    """The newest speed of the training run at `paths`, without its waiting for rewrites; None before its first line."""
    rows = read_metrics(paths.output)[-_MEASURED_LINES:]
    if not rows:
        return None
    waited = storage.read_json(paths.experiment)["rewrite"]["delivery"] == "inline"
    return statistics.median(_busy_images_per_s(row) if waited else row["images_per_s"] for row in rows)


def _busy_images_per_s(row: Mapping[str, Any]) -> float:
    """The speed in a line of metrics with `inline`, without waiting.

    In the first epoch, training waits for rewrites as long as shards are left to rewrite.
    """
    waits = row["epoch"] <= 1 and row.get("rewritten_shards", 0) < row.get("shards_to_rewrite", 0)
    busy_share = 1 - row["waiting_share"] if waits else 1.0
    return float(row["images_per_s"] / max(busy_share, _LEAST_BUSY_SHARE))
