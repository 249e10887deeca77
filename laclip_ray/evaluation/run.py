"""`laclip evaluate`: load a model, measure it on every configured set, and write `results.json`."""

import os
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import EvaluateConfig, Experiment
from laclip_ray.config.markers import HUB_PREFIX
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.evaluation.datasets import batches, captioned_images, labelled_images, open_labelled_set
from laclip_ray.evaluation.retrieval import retrieval_metrics
from laclip_ray.evaluation.zeroshot import zero_shot_metrics
from laclip_ray.models.files import CONFIG_FILE, EXPORT_DIRECTORY, MODEL_FILE
from laclip_ray.models.loading import check_model, describe_model, load_model
from laclip_ray.tally import NAMES_KEPT, Tally

_CHECKPOINT_SETTING = "evaluate.checkpoint"


def run_evaluation(experiment: Experiment) -> dict[str, Any]:
    """Measure a model and write `results.json`.

    With `RAY_ADDRESS` set, the work is one Ray task, on a GPU if the cluster has any. Otherwise this process does it.

    Returns:
        `checkpoint`, and a list `results` of objects with `task`, `dataset`, the metrics, `skipped` (a count) and
        `skipped_names`.

    Raises:
        UserError: the model or a set is missing or not usable. No image was read.
    """
    check_evaluation(experiment.evaluate)
    _check_checkpoint(experiment.evaluate, experiment.train_output)
    if os.environ.get("RAY_ADDRESS"):
        reservation = cluster.Reservation("evaluate", (cluster.ResourceGroup("tasks", 1, 1.0),), data_cpus=0)
        cluster.connect(experiment.ray, reservation, {"evaluate.output": experiment.evaluate_output})
        return evaluate_on_cluster(experiment)
    storage.check_output(experiment.evaluate_output, "evaluate.output", False, 1, experiment.ray.shared_paths)
    results = measure(experiment.evaluate, checkpoint_location(experiment.evaluate, experiment.train_output))
    return _write(experiment.evaluate_output, results)


def evaluate_on_cluster(experiment: Experiment) -> dict[str, Any]:
    """Run `run_evaluation`'s work as a task of the Ray cluster that this process is connected to."""
    import ray

    # Spread: the task runs outside the placement group of a Tune trial.
    task = ray.remote(num_cpus=1, num_gpus=cluster.gpus_per_process(None), scheduling_strategy="SPREAD")(measure)
    location = checkpoint_location(experiment.evaluate, experiment.train_output)
    return _write(experiment.evaluate_output, ray.get(task.remote(experiment.evaluate, location)))


def check_evaluation(config: EvaluateConfig) -> None:
    """Refuse a configuration without sets, or with a set that cannot be opened; reads no image.

    Raises:
        UserError: with the set.
    """
    if not config.zero_shot and not config.retrieval:
        raise UserError("evaluate: nothing to do; give evaluate.zero_shot or evaluate.retrieval")
    for zero_shot in config.zero_shot:
        open_labelled_set(zero_shot)
    for number, retrieval in enumerate(config.retrieval):
        list_shards(retrieval.data, _retrieval_setting(number))


def checkpoint_location(config: EvaluateConfig, train_output: str) -> str:
    """The evaluated model, as `models.loading` takes it: the configured one, else the export of training."""
    return config.checkpoint or storage.join(train_output, EXPORT_DIRECTORY)


def _check_checkpoint(config: EvaluateConfig, train_output: str) -> None:
    """Refuse a missing or unusable model, without loading it.

    Raises:
        UserError: with the model.
    """
    location = checkpoint_location(config, train_output)
    if not config.checkpoint:
        for name in (CONFIG_FILE, MODEL_FILE):
            if not storage.exists(storage.join(location, name)):
                raise UserError(
                    f"{_CHECKPOINT_SETTING}: {location} has no {name}; run `laclip train` first, or give a directory "
                    f"in open_clip's layout or {HUB_PREFIX}ORGANISATION/NAME"
                )
    check_model(location, config.pretrained, _CHECKPOINT_SETTING)


def measure(config: EvaluateConfig, location: str) -> dict[str, Any]:
    """Measure a model in this process, on a GPU if there is one.

    Args:
        config: the sets.
        location: the model, from `checkpoint_location`.

    Returns:
        The results of `run_evaluation`.

    Raises:
        UserError: the model or a set is missing or not usable.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_model(location, config.pretrained, device, _CHECKPOINT_SETTING)
    results = []
    for zero_shot in config.zero_shot:
        labelled, skipped = open_labelled_set(zero_shot), Tally()
        images = batches(labelled_images(labelled, loaded.transform, skipped), config.batch_size)
        metrics = zero_shot_metrics(loaded.model, loaded.tokenizer, labelled, images, device)
        results.append(_result("zero-shot", zero_shot.name, metrics, skipped))
    for number, retrieval in enumerate(config.retrieval):
        setting, skipped = _retrieval_setting(number), Tally()
        pairs = captioned_images(retrieval.data, retrieval.max_samples, loaded.transform, skipped, setting)
        metrics = retrieval_metrics(loaded.model, loaded.tokenizer, batches(pairs, config.batch_size), device)
        results.append(_result("retrieval", retrieval.name, metrics, skipped))
    return {"checkpoint": describe_model(location, config.pretrained), "results": results}


def _retrieval_setting(number: int) -> str:
    return f"evaluate.retrieval[{number}].data"


def _result(task: str, dataset: str, metrics: dict[str, Any], skipped: Tally) -> dict[str, Any]:
    names = [name for names in skipped.names.values() for name in names]
    return {
        "task": task,
        "dataset": dataset,
        **metrics,
        "skipped": skipped.counts.total(),
        "skipped_names": names[:NAMES_KEPT],
    }


def _write(output: str, results: dict[str, Any]) -> dict[str, Any]:
    storage.write_json(storage.join(output, "results.json"), results)
    return results
