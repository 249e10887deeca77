"""What `laclip run` would do: stages, processes, what is done, and what each delivery takes; nothing is started."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from laclip_ray import storage
from laclip_ray.cluster import ResourceGroup
from laclip_ray.config import Experiment
from laclip_ray.onejob.forecast import Forecast, Halves, cheapest, forecasts
from laclip_ray.onejob.run import check_text, schedule_of
from laclip_ray.rewriting.backlog import find_backlog
from laclip_ray.rewriting.estimate import Estimate, estimate_rewriting
from laclip_ray.rewriting.pipeline import engine_group
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.training.checkpoint import read_position
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.run import check_training, worker_group

_MEASURED_LINES = 50
"""Of a run's metrics, the last so many give its speed."""
_LEAST_BUSY_SHARE = 0.01
"""A line of which more was waiting says little of the speed."""


@dataclass(frozen=True)
class RunPlan:
    """What would run."""

    delivery: str
    engines: ResourceGroup
    """With the most engines that there may be; 0 processes where nothing is left to draw."""
    fewest_engines: int
    workers: ResourceGroup
    shards: int
    shards_done: int
    """Rewritten for every prompt set."""
    left_share: float
    """Of all shards times prompt sets, those that an engine has to draw."""
    epochs_left: float
    steps_left: int
    images_per_s: float | None
    """Of training, over all workers; None where nobody has measured or said it."""
    is_measured: bool
    estimate: Estimate
    forecasts: tuple[Forecast, ...]
    """Empty where the speed of training is not known."""

    @property
    def cheapest(self) -> Forecast | None:
        """The delivery of the least money."""
        return cheapest(self.forecasts) if self.forecasts else None


def plan_run(experiment: Experiment) -> RunPlan:
    """Find out what `laclip run` would do; starts neither Ray nor an engine, and writes nothing.

    Raises:
        UserError: bad input, as for the run itself.
    """
    check_text(experiment)
    check_training(experiment)
    work = find_backlog(experiment)
    estimated = estimate_rewriting(experiment)
    train, engine = experiment.train, experiment.rewrite.engine
    epochs_left = len(read_position(experiment.train_output).remaining(schedule_of(work))) / len(work.shards)
    left_share = len(work.to_draw) / (len(work.shards) * len(work.sets))
    least = engine_group(work)
    engines = replace(least, processes=engine.actors.max if least.processes else 0)
    workers = worker_group(experiment)
    measured = _measured_images_per_s(experiment)
    images_per_s = measured or train.expected_images_per_s
    found: tuple[Forecast, ...] = ()
    if images_per_s is not None:
        prices = load_prices(experiment.rewrite.prices)
        price = prices.price(experiment.rewrite.price).per_gpu_hour if experiment.rewrite.price else None
        engine_gpus = engines.processes * _gpus(engines, engine.tensor_parallel_size)
        cost = estimated.costs[0]
        halves = Halves(
            rewriting_hours=cost.gpu_hours * left_share / (engine_gpus or 1.0),
            epoch_hours=estimated.captions / images_per_s / 3_600,
            epochs=epochs_left,
            engine_gpus=engine_gpus,
            worker_gpus=workers.processes * _gpus(workers, 1),
            engine_price=price,
            left_share=left_share,
            worker_price=prices.price(train.price, "train.price").per_gpu_hour if train.price else price,
            on_same_gpus=(engines.accelerator_type, engines.label_selector)
            == (workers.accelerator_type, workers.label_selector),
        )
        found = forecasts(halves, experiment.ray.autoscaling)
    return RunPlan(
        delivery=experiment.rewrite.delivery,
        engines=engines,
        fewest_engines=least.processes,
        workers=workers,
        shards=len(work.shards),
        shards_done=work.untouched_shards,
        left_share=left_share,
        epochs_left=epochs_left,
        steps_left=int(estimated.captions * epochs_left) // train.batch_size,
        images_per_s=images_per_s,
        is_measured=measured is not None,
        estimate=estimated,
        forecasts=found,
    )


def _gpus(group: ResourceGroup, otherwise: int) -> float:
    """GPUs of a process; where the cluster decides, as many as it takes on GPUs."""
    return float(otherwise) if group.gpus is None else group.gpus


def _measured_images_per_s(experiment: Experiment) -> float | None:
    """What training into this output did last, without its waiting for rewriting."""
    rows = read_metrics(experiment.train_output)[-_MEASURED_LINES:]
    if not rows:
        return None
    of_the_run = storage.read_json(storage.join(experiment.train_output, "experiment.json"))
    has_waited = of_the_run["rewrite"]["delivery"] == "inline"
    return statistics.median(_own_images_per_s(row) if has_waited else row["images_per_s"] for row in rows)


def _own_images_per_s(row: Mapping[str, Any]) -> float:
    """Of a line of metrics with `inline`; in the first epoch, text is what is waited for while shards are left."""
    waits = row["epoch"] <= 1 and row.get("rewritten_shards", 0) < row.get("shards_to_rewrite", 0)
    busy_share = 1 - row["waiting_share"] if waits else 1.0
    return float(row["images_per_s"] / max(busy_share, _LEAST_BUSY_SHARE))
