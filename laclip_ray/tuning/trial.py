"""One training run of a sweep: a point with one seed, trained in stages and evaluated after each.

Guarantees: the results of a stage are stored below the run's own directory as soon as they exist, and no stage is done
twice. A run that died resumes from its checkpoint; a finished run is only read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray import cluster, lease, storage
from laclip_ray.config import Experiment, RewriteConfig, TrainConfig, with_overrides
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.evaluation.run import evaluate_on_cluster
from laclip_ray.evaluation.tasks import flatten
from laclip_ray.rewriting.prices import Price, load_prices
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.rows import read_rows
from laclip_ray.training.run import run_training
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import Point
from laclip_ray.tuning.stages import Stage, read_stage, read_stages
from laclip_ray.tuning.tracked import names_of_run, track_stages


def run_experiment(experiment: Experiment, point: Point, seed: int) -> Experiment:
    """The experiment of one run: the point's values, the seed, outputs of its own, the shared rewrite sets."""
    tune, directory = experiment.tune, SweepPaths(experiment.tune_output).run(point.name, seed)
    changes: dict[str, Any] = {
        **point.values,
        "seed": seed,
        "train.output": storage.join(directory, "train"),
        "evaluate.output": storage.join(directory, "evaluate"),
        "evaluate.checkpoint": None,
        "evaluate.pretrained": None,
        "train.export_every_epochs": tune.evaluate_every_epochs if tune.halving is None else None,
        # Rewrites do not depend on the run's seed: all runs read those of the experiment.
        "rewrite.output": experiment.rewrite_output,
        **names_of_run(experiment.track, experiment.name, point.name, seed),
    }
    return with_overrides(experiment, changes)


def run_stages(experiment: Experiment, point: Point, seed: int, epochs: Sequence[int]) -> list[Stage]:
    """Train a run up to the last of these epochs and evaluate it after each. Stored stages are only read.

    Raises:
        IncompleteError: training ended early; the same call resumes.
    """
    paths = SweepPaths(experiment.tune_output)
    urls = {epoch: paths.stage(point.name, seed, epoch) for epoch in epochs}
    stages = {epoch: read_stage(url) for epoch, url in urls.items() if storage.exists(url)}
    if len(stages) == len(urls):
        return list(stages.values())
    variant = run_experiment(experiment, point, seed)
    rows = read_rows(paths.rows, [shard.name for shard in list_shards(variant.data, index=beside(variant.output))])
    # A run that lost its node begins again before its lease is stale.
    training = run_training(variant, until_epoch=epochs[-1], rows=rows, lease_wait_s=lease.STALE_S + lease.RENEW_S)
    lines = read_metrics(variant.train_output)
    for epoch in epochs:
        if epoch in stages:
            continue
        until_epoch = _until_epoch(lines, epoch)
        if not until_epoch:
            raise UserError(
                f"{RunPaths(variant.train_output).metrics} has no whole line, so what this run has cost is not known. "
                f"Remove {variant.train_output}, and the same command trains it again"
            )
        model = training.export if epoch == epochs[-1] else RunPaths(variant.train_output).epoch_export(epoch)
        metrics = flatten(evaluate_on_cluster(with_overrides(variant, {"evaluate.checkpoint": model})))
        gpu_hours = _gpu_hours(until_epoch, variant.train)
        price = training_price(variant.train, variant.rewrite)
        stages[epoch] = Stage(
            point=point.name,
            values=dict(point.values),
            seed=seed,
            epoch=epoch,
            metrics=metrics,
            p_effective=until_epoch[-1]["p_effective"],
            images=until_epoch[-1]["samples"],
            gpu_hours=gpu_hours,
            money=None if price is None else gpu_hours * price.per_gpu_hour,
        )
        storage.write_json(urls[epoch], vars(stages[epoch]))
    track_stages(variant, [stage for stage in read_stages(paths, point.name) if stage.seed == seed])
    return [stages[epoch] for epoch in epochs]


def _until_epoch(lines: Sequence[Mapping[str, Any]], epoch: int) -> Sequence[Mapping[str, Any]]:
    """A run's metrics lines up to the one nearest to the end of an epoch; empty without any line."""
    nearest = min(range(len(lines)), key=lambda number: abs(lines[number]["epoch"] - epoch), default=-1)
    return lines[: nearest + 1]


def _gpu_hours(lines: Sequence[Mapping[str, Any]], train: TrainConfig) -> float:
    """GPU-hours of training, from the images and the rate in each line of a run's metrics."""
    starts = [0, *(line["samples"] for line in lines)]
    seconds = sum(
        (line["samples"] - start) / line["images_per_s"]
        for start, line in zip(starts, lines, strict=False)
        if line["images_per_s"]
    )
    gpus = train.worker_range.max * cluster.gpus_per_process(train.gpus_per_worker)
    return float(seconds / 3600 * gpus)


def training_price(train: TrainConfig, rewrite: RewriteConfig) -> Price | None:
    """The price of a worker's GPU: `train.price`, or else `rewrite.price`; None if neither is set.

    Raises:
        UserError: the price list has no such price.
    """
    name = train.price or rewrite.price
    return None if name is None else load_prices(rewrite.prices).price(name)
