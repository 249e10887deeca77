"""`laclip evaluate`: load a model, measure it on every configured set, and write `results.json`.

A set that cannot be measured has no result and no number; the other sets have theirs. The results name the set and the
reason, and the verb ends with exit code 3.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from laclip_ray import cluster, storage
from laclip_ray.config import DataConfig, EvaluateConfig, Experiment, LabelledConfig, RetrievalConfig
from laclip_ray.config.markers import HUB_PREFIX
from laclip_ray.data.records import CAPTION_EMPTY, CAPTION_MISSING, IMAGE_MISSING
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.captioned import captioned_images, is_benchmark_set
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.labelled import labelled_images, open_labelled_set
from laclip_ray.evaluation.overlap import files_in_training
from laclip_ray.evaluation.pixels import batches
from laclip_ray.evaluation.retrieval import retrieval_metrics
from laclip_ray.evaluation.zeroshot import zero_shot_metrics
from laclip_ray.models.files import CONFIG_FILE, EXPORT_DIRECTORY, MODEL_FILE
from laclip_ray.models.loading import LoadedModel, check_model, describe_model, load_model
from laclip_ray.redaction import redacted
from laclip_ray.tally import NAMES_KEPT, first_names

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

ZERO_SHOT, RETRIEVAL = "zero-shot", "retrieval"
"""Names of the tasks in results."""

_CHECKPOINT_SETTING = "evaluate.checkpoint"


class IncompleteEvaluationError(IncompleteError):
    """Some sets have no result. The results of the others are written."""

    results: Mapping[str, Any] = {}
    """The content of `results.json`."""


def run_evaluation(experiment: Experiment) -> dict[str, Any]:
    """Measure a model and write `results.json`.

    With `RAY_ADDRESS` set, the work is one Ray task, on a GPU if the cluster has any. Otherwise this process does it.

    Returns:
        `checkpoint`, and a list `results` of objects with `task`, `dataset`, the metrics (floats), `skipped` (a count),
        `skipped_reasons` and `skipped_names`.

    Raises:
        UserError: the model or a set is missing or not usable. No image was read.
        IncompleteEvaluationError: sets have no result. They have `no_result`, the reason, instead of metrics.
    """
    check_evaluation(experiment.evaluate, experiment.data)
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


def check_evaluation(config: EvaluateConfig, training: DataConfig) -> None:
    """Refuse a configuration without sets, or with a set that cannot be opened; reads no image.

    Warns of sets that hold files of the training data.

    Args:
        config: the sets.
        training: the training data.

    Raises:
        UserError: with the set.
    """
    if not config.labelled and not config.retrieval:
        raise UserError("evaluate: nothing to do; give evaluate.labelled or evaluate.retrieval")
    for labelled in config.labelled:
        shards = open_labelled_set(labelled).shards
        _warn_of_overlap(f"evaluate.labelled: {labelled.name}", shards, training)
    for number, retrieval in enumerate(config.retrieval):
        setting = _retrieval_setting(number)
        is_benchmark_set(retrieval.data, setting)
        _warn_of_overlap(setting, [shard.url for shard in list_shards(retrieval.data, setting)], training)


def _warn_of_overlap(setting: str, urls: list[str], training: DataConfig) -> None:
    if common := files_in_training(urls, training):
        names = first_names(map(storage.name_of, common))
        logger.warning(
            "%s: %d of its %d files are also in data.path (%s). A model trained on them is measured on what it has "
            "seen; leave them out of one of the two", setting, len(common), len(set(urls)), names,
        )  # fmt: skip


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
        The results of `run_evaluation`; a set without a result has `no_result`.

    Raises:
        UserError: the model or a set is missing or not usable.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_model(location, config.pretrained, device, _CHECKPOINT_SETTING)
    meter = _Meter(loaded, device, config.batch_size)
    results = []
    for labelled in config.labelled:
        measured = partial(meter.classify, labelled)
        results.append(_result(ZERO_SHOT, labelled.name, measured, config.max_skipped))
    for number, retrieval in enumerate(config.retrieval):
        measured = partial(meter.retrieve, retrieval, _retrieval_setting(number))
        results.append(_result(RETRIEVAL, retrieval.name, measured, config.max_skipped))
    return {"checkpoint": describe_model(location, config.pretrained), "results": results}


@dataclass(frozen=True)
class _Meter:
    """Measures a loaded model on one set at a time."""

    loaded: LoadedModel
    device: "torch.device"
    batch_size: int

    def classify(self, config: LabelledConfig, coverage: Coverage) -> dict[str, Any]:
        """Zero-shot accuracies."""
        labelled = open_labelled_set(config)
        images = batches(labelled_images(labelled, self.loaded.transform, coverage), self.batch_size)
        return zero_shot_metrics(self.loaded.model, self.loaded.tokenizer, labelled, images, self.device)

    def retrieve(self, config: RetrievalConfig, setting: str, coverage: Coverage) -> dict[str, Any]:
        """Recalls in both directions."""
        is_benchmark = is_benchmark_set(config.data, setting)
        rule = "differ" if is_benchmark and config.equal_captions == "auto" else config.equal_captions
        images = captioned_images(config, self.loaded.transform, coverage, setting, is_benchmark)
        metrics = retrieval_metrics(
            self.loaded.model, self.loaded.tokenizer, images, self.batch_size, self.device, rule
        )
        if not coverage.used:
            coverage.check(1.0, _remedy(config.data, setting, coverage))
        return {**metrics, "skipped_captions": coverage.skipped_units}


def _remedy(data: DataConfig, setting: str, coverage: Coverage) -> str:
    """A remedy for captioned images that are all skipped; may be empty."""
    reasons = coverage.skipped.counts.keys()
    if reasons and reasons <= {IMAGE_MISSING} and data.image_column is None:
        return f"tables need {setting}.image_column, the column of the images"
    if reasons and reasons <= {CAPTION_EMPTY, CAPTION_MISSING}:
        return f"check {setting}.caption_column ({data.caption_column!r})"
    return ""


def _retrieval_setting(number: int) -> str:
    return f"evaluate.retrieval[{number}].data"


def _result(
    task: str, dataset: str, measured: Callable[[Coverage], dict[str, Any]], most_skipped: float
) -> dict[str, Any]:
    """The entry of a set in `results.json`."""
    coverage = Coverage()
    try:
        outcome = measured(coverage)
        coverage.check(most_skipped)
    except NoResultError as error:
        outcome = {"no_result": str(error)}
    names = [name for names in coverage.skipped.names.values() for name in names]
    return {
        "task": task,
        "dataset": dataset,
        **outcome,
        "skipped": coverage.skipped.counts.total(),
        "skipped_reasons": dict(coverage.skipped.counts),
        "skipped_names": names[:NAMES_KEPT],
    }


def _write(output: str, results: dict[str, Any]) -> dict[str, Any]:
    """Write the results.

    Raises:
        IncompleteEvaluationError: sets have no result.
    """
    results = redacted(results)  # messages may repeat URLs
    url = storage.join(output, "results.json")
    storage.write_json(url, results)
    reasons = [
        f"  {result['task']}, {result['dataset']}: {result['no_result']}"
        for result in results["results"]
        if "no_result" in result
    ]
    if reasons:
        others = " has the others" if len(reasons) < len(results["results"]) else " says why, too"
        lines = "\n".join(reasons)
        error = IncompleteEvaluationError(
            f"no result for {len(reasons)} of {len(results['results'])} datasets; {url}{others}\n{lines}"
        )
        error.results = results
        raise error
    return results
