"""An evaluation as a user starts it: load the model with open_clip, measure it on every configured set."""

import os
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.evaluation.datasets import (
    Skipped,
    batches,
    captioned_images,
    labelled_images,
    open_labelled_set,
)
from laclip_ray.evaluation.retrieval import retrieval_metrics
from laclip_ray.evaluation.zeroshot import zero_shot_metrics
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE
from laclip_ray.models.loading import HUB_PREFIX, load_model
from laclip_ray.training.run import export_location


def check_evaluation(experiment: Experiment) -> None:
    """Raise UserError unless every configured set can be opened; reads no image."""
    evaluate = experiment.evaluate
    if not evaluate.zero_shot and not evaluate.retrieval:
        raise UserError("evaluate: nothing to do; give evaluate.zero_shot or evaluate.retrieval")
    for zero_shot in evaluate.zero_shot:
        open_labelled_set(zero_shot)
    for number, retrieval in enumerate(evaluate.retrieval):
        list_shards(retrieval.data, _retrieval_setting(number))


def run_evaluation(experiment: Experiment) -> dict[str, Any]:
    """Measure a model and write `results.json`.

    On a cluster (`RAY_ADDRESS`) the work is a Ray task, with a GPU where there is one; else it is done here.

    Returns:
        checkpoint, and a list of results with `task`, `dataset`, the metrics, `skipped`, `skipped_names`.

    Raises:
        UserError: the checkpoint or a set is missing or not usable.
    """
    check_evaluation(experiment)
    _check_checkpoint(checkpoint_location(experiment))
    if os.environ.get("RAY_ADDRESS"):
        plan = cluster.Reservation("evaluate", (cluster.ResourceGroup("tasks", 1, 1.0),), data_cpus=0)
        cluster.connect(experiment, plan, {"evaluate.output": experiment.evaluate_output})
        return evaluate_on_cluster(experiment)
    storage.check_output(experiment.evaluate_output, "evaluate.output", False, 1, experiment.ray.shared_paths)
    return _write(experiment, measure(experiment))


def evaluate_on_cluster(experiment: Experiment) -> dict[str, Any]:
    """`run_evaluation` as a task of the Ray that this process is connected to."""
    import ray

    # Spread, so that it is outside of a Tune trial's placement group.
    task = ray.remote(num_cpus=1, num_gpus=cluster.gpus_each(None), scheduling_strategy="SPREAD")(measure)
    return _write(experiment, ray.get(task.remote(experiment)))


def _write(experiment: Experiment, results: dict[str, Any]) -> dict[str, Any]:
    storage.write_json(storage.join(experiment.evaluate_output, "results.json"), results)
    return results


def _retrieval_setting(number: int) -> str:
    return f"evaluate.retrieval[{number}].data"


def checkpoint_location(experiment: Experiment) -> str:
    """The model that is evaluated."""
    return experiment.evaluate.checkpoint or export_location(experiment)


def _check_checkpoint(location: str) -> None:
    if location.startswith(HUB_PREFIX):
        return
    for name in (CONFIG_FILE, MODEL_FILE):
        if not storage.exists(storage.join(location, name)):
            raise UserError(
                f"evaluate.checkpoint: {location} has no {name}; run `laclip train` first, or give a directory in "
                f"open_clip's layout or {HUB_PREFIX}ORGANISATION/NAME"
            )


def measure(experiment: Experiment) -> dict[str, Any]:
    """Measure the configured checkpoint in this process; see `run_evaluation`."""
    import torch

    evaluate = experiment.evaluate
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    location = checkpoint_location(experiment)
    model, transform, tokenizer = load_model(location, device)
    results = []
    for zero_shot in evaluate.zero_shot:
        labelled, skipped = open_labelled_set(zero_shot), Skipped()
        images = batches(labelled_images(labelled, transform, skipped), evaluate.batch_size)
        metrics = zero_shot_metrics(model, tokenizer, labelled, images, device)
        results.append(_result("zero-shot", zero_shot.name, metrics, skipped))
    for number, retrieval in enumerate(evaluate.retrieval):
        skipped = Skipped()
        pairs = captioned_images(retrieval.data, retrieval.max_samples, transform, skipped, _retrieval_setting(number))
        metrics = retrieval_metrics(model, tokenizer, batches(pairs, evaluate.batch_size), device)
        results.append(_result("retrieval", retrieval.name, metrics, skipped))
    return {"checkpoint": location, "results": results}


def _result(task: str, dataset: str, metrics: dict[str, Any], skipped: Skipped) -> dict[str, Any]:
    return {
        "task": task,
        "dataset": dataset,
        **metrics,
        "skipped": skipped.count,
        "skipped_names": skipped.names,
    }
