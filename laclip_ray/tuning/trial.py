"""One training run of a sweep: a point with one seed, trained in stages, evaluated after each.

Guarantees: what a stage gave is written when it is known, below the run's own directory, and nothing of it is done
again: a run that died goes on from its checkpoint, a finished one is only read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.evaluation.run import evaluate_on_cluster
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.training.loop import epoch_export
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.run import run_training
from laclip_ray.tuning.space import Point

STAGES_DIRECTORY = "stages"
_POINT_FILE = "point.json"
ROWS_FILE = "rows.json"
"""Usable rows by shard, counted once for all runs."""


@dataclass(frozen=True)
class Stage:
    """What a run had reached after so many epochs."""

    point: str
    values: Mapping[str, Any]
    """Of the point, by dotted config key."""
    seed: int
    epoch: int
    metrics: Mapping[str, float]
    """`task/dataset/metric` to value."""
    p_effective: float
    images: int
    """Trained on since the run's start."""
    gpu_hours: float
    """Of the workers while they trained, since the run's start; starts and evaluations are not counted."""
    money: float | None
    """For these GPU-hours, at `train.price`, or `rewrite.price`."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Stage":
        """From what `vars` of it gave."""
        return cls(**content)


def point_place(experiment: Experiment, point: str) -> str:
    """Where the runs of a point are kept."""
    return storage.join(experiment.tune_output, "trials", point)


def place_of(experiment: Experiment, point: str, seed: int) -> str:
    """Where a run of the sweep is kept."""
    return storage.join(point_place(experiment, point), f"seed{seed}")


def begin_point(experiment: Experiment, point: Point) -> None:
    """Note that a point is being trained, for a search that goes on after this process."""
    storage.write_json(storage.join(point_place(experiment, point.name), _POINT_FILE), dict(point.values))


def begun_points(experiment: Experiment) -> list[Point]:
    """All points that were ever begun in this place."""
    urls = storage.list_files(storage.join(experiment.tune_output, "trials"))
    return [Point(storage.read_json(url)) for url in sorted(urls) if url.endswith(f"/{_POINT_FILE}")]


def end_point(experiment: Experiment, point: Point, epoch: int) -> None:
    """Note that the scheduler has ended a point after an epoch."""
    storage.write_json(_ended_url(experiment, point), {"epoch": epoch})


def ended_epoch(experiment: Experiment, point: Point) -> int | None:
    """The epoch after which a point was ended; None if it goes on to the last, as all do without `tune.halving`."""
    url = _ended_url(experiment, point)
    if experiment.tune.halving is None or not storage.exists(url):
        return None
    return int(storage.read_json(url)["epoch"])


def _ended_url(experiment: Experiment, point: Point) -> str:
    return storage.join(point_place(experiment, point.name), "ended_early.json")


def run_experiment(experiment: Experiment, point: Point, seed: int) -> Experiment:
    """The experiment of one run: the point's values, the seed, its own places, the shared rewrite sets."""
    place = place_of(experiment, point.name, seed)
    changes: dict[str, Any] = {
        **point.values,
        "seed": seed,
        "train.output": storage.join(place, "train"),
        "evaluate.output": storage.join(place, "evaluate"),
        "evaluate.checkpoint": None,
        "evaluate.pretrained": None,
        "train.export_every_epochs": experiment.tune.evaluate_every_epochs if experiment.tune.halving is None else None,
        # The run's seed is not the rewriter's: all runs read the rewrites of the experiment itself.
        "rewrite.output": experiment.rewrite_output,
    }
    return with_overrides(experiment, changes)


def run_stages(experiment: Experiment, point: Point, seed: int, epochs: Sequence[int]) -> list[Stage]:
    """Train a run until the last of these epochs and evaluate it after each; what was done before is only read.

    Raises:
        IncompleteError: training ended early; the same call goes on.
    """
    place = place_of(experiment, point.name, seed)
    urls = {epoch: storage.join(place, STAGES_DIRECTORY, f"epoch-{epoch:05d}.json") for epoch in epochs}
    known = {epoch: Stage.from_json(storage.read_json(url)) for epoch, url in urls.items() if storage.exists(url)}
    if len(known) == len(urls):
        return list(known.values())
    variant = run_experiment(experiment, point, seed)
    counted = storage.join(experiment.tune_output, ROWS_FILE)
    training = run_training(variant, until_epoch=epochs[-1], rows=storage.read_json(counted))
    rows = read_metrics(variant.train_output)
    for epoch in epochs:
        if epoch in known:
            continue
        trained = training.export if epoch == epochs[-1] else epoch_export(variant.train_output, epoch)
        measured = evaluate_on_cluster(with_overrides(variant, {"evaluate.checkpoint": trained}))
        known[epoch] = _stage(variant, point, seed, epoch, flatten(measured), rows)
        storage.write_json(urls[epoch], vars(known[epoch]))
    return [known[epoch] for epoch in epochs]


def _stage(
    variant: Experiment,
    point: Point,
    seed: int,
    epoch: int,
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
) -> Stage:
    """What was measured after an epoch, with what the lines of the run's metrics say of the time until then."""
    reached = min(range(len(rows)), key=lambda number: abs(rows[number]["epoch"] - epoch))
    gpu_hours = _gpu_hours(variant, rows[: reached + 1])
    return Stage(
        point=point.name,
        values=dict(point.values),
        seed=seed,
        epoch=epoch,
        metrics=metrics,
        p_effective=rows[reached]["p_effective"],
        images=rows[reached]["samples"],
        gpu_hours=gpu_hours,
        money=_money(variant, gpu_hours),
    )


def read_stages(experiment: Experiment, point: str | None = None) -> list[Stage]:
    """All that the sweep in this place has measured so far, of one point or of all."""
    root = storage.join(experiment.tune_output, "trials") if point is None else point_place(experiment, point)
    urls = [url for url in storage.list_files(root) if f"/{STAGES_DIRECTORY}/epoch-" in url]
    stages = [Stage.from_json(storage.read_json(url)) for url in urls]
    return sorted(stages, key=lambda stage: (stage.point, stage.seed, stage.epoch))


def flatten(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """`task/dataset/metric` to value, from what an evaluation gives."""
    return {
        f"{result['task']}/{result['dataset']}/{metric}": value
        for result in evaluation["results"]
        for metric, value in result.items()
        if isinstance(value, float)
    }


def _gpu_hours(variant: Experiment, rows: Sequence[Mapping[str, Any]]) -> float:
    """For as long as the workers trained, by the speed that the lines of metrics say."""
    before = [0, *(row["samples"] for row in rows)]
    seconds = sum(
        (row["samples"] - start) / row["images_per_s"]
        for start, row in zip(before, rows, strict=False)
        if row["images_per_s"]
    )
    gpus = variant.train.worker_range.max * cluster.gpus_per_process(variant.train.gpus_per_worker)
    return float(seconds / 3600 * gpus)


def _money(variant: Experiment, gpu_hours: float) -> float | None:
    """What GPU-hours of training cost; None without a price."""
    if (price := price_of_training(variant)) is None:
        return None
    return gpu_hours * load_prices(variant.rewrite.prices).price(price).per_gpu_hour


def price_of_training(experiment: Experiment) -> str | None:
    """The name of what a worker's GPU is rented as."""
    return experiment.train.price or experiment.rewrite.price
