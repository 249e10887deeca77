"""`laclip evaluate`: load models, measure them on every configured set, and write the results.

A set that cannot be measured has no result and no number; the other sets have theirs. The results name the set and the
reason, and the verb ends with exit code 3.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from laclip_ray import cluster, lease, storage
from laclip_ray.config import DataConfig, EvaluateConfig, Experiment, inputs_on_nodes
from laclip_ray.config.markers import HUB_PREFIX
from laclip_ray.errors import UserError
from laclip_ray.evaluation.captioned_measure import CaptionedMeasure
from laclip_ray.evaluation.features.encoder import Encoder
from laclip_ray.evaluation.features.encoding import EncodingModel, encode_here
from laclip_ray.evaluation.features.pool import PooledModel, encode_on_cluster, encoder_group
from laclip_ray.evaluation.features.store import FeatureStore, digest_of
from laclip_ray.evaluation.labelled_measure import LabelledMeasure
from laclip_ray.evaluation.measuring import Encode, Encoding, measure_sets
from laclip_ray.evaluation.overlap import files_in_training
from laclip_ray.evaluation.results import IncompleteEvaluationError, ResultFiles
from laclip_ray.evaluation.set_measure import SetMeasure
from laclip_ray.evaluation.sugar_crepe_measure import SugarCrepeMeasure
from laclip_ray.evaluation.tracked import track_evaluation
from laclip_ray.models.files import CONFIG_FILE, EXPORT_DIRECTORY, MODEL_FILE
from laclip_ray.models.loading import check_model, describe_model, load_model
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.tally import first_names
from laclip_ray.tracking.choice import check_trackers
from laclip_ray.versions import package_versions

logger = logging.getLogger(__name__)

_CHECKPOINT_SETTING = "evaluate.checkpoint"


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to measure."""

    location: str
    """As `models.loading` takes it."""
    pretrained: str | None
    output: str
    """Directory or URL of its results."""


def run_evaluation(experiment: Experiment) -> dict[str, Any]:
    """Measure a model, and `evaluate.others` with it, and write the results of each.

    With `RAY_ADDRESS` set, or several `evaluate.encoders`, a pool of Ray actors encodes. Otherwise this process does.

    Returns:
        The content of the model's `results.json`: `checkpoint`, and a list `results` of objects with `task`, `dataset`,
        the metrics (floats), their `intervals`, `skipped` (a count), `skipped_reasons` and `skipped_names`.

    Raises:
        UserError: a model or a set is missing or not usable, or another run writes to the output. No image was read.
        IncompleteEvaluationError: sets have no result. They have `no_result`, the reason, instead of metrics.
    """
    config = experiment.evaluate
    check_trackers(experiment.track, experiment.output)
    sets = open_sets(experiment)
    models = _models(experiment)
    _check_checkpoint(config, experiment.train_output)
    tell = partial(track_evaluation, experiment)
    features = experiment.features_output
    shared = experiment.ray.shared_paths
    outputs = {"evaluate.output": experiment.evaluate_output, "evaluate.features": features}
    for setting, url in outputs.items():
        storage.check_output(url, setting, cluster.in_ray_job(), 1, shared)
    with lease.hold(experiment.evaluate_output, "evaluate.output", "evaluate"):
        if not os.environ.get("RAY_ADDRESS") and config.encoders.max <= 1:
            return _measure(config, sets, models, features, experiment.seed, tell)
        reservation = cluster.Reservation("evaluate", (encoder_group(config),))
        held_out = ["data"] if any(each.held_out for each in config.retrieval) else []
        inputs = inputs_on_nodes(experiment, "evaluate", *held_out)
        if config.checkpoint is None:
            inputs.append(("train.output", experiment.train_output))
        cluster.connect(experiment.ray, reservation, outputs, inputs)
        return _measure(config, sets, models, features, experiment.seed, tell, on_cluster=True)


def evaluate_on_cluster(experiment: Experiment) -> dict[str, Any]:
    """Measure the model in one task of the Ray cluster that this process is connected to. Features are not kept."""
    import ray

    # Spread: the task runs outside the placement group of a Tune trial.
    task = ray.remote(num_cpus=1, num_gpus=cluster.gpus_per_process(None), scheduling_strategy="SPREAD")(_in_task)
    content: dict[str, Any] = ray.get(task.remote(experiment))
    if isinstance(content.get("incomplete"), str):
        error = IncompleteEvaluationError(content.pop("incomplete"))
        error.results = content
        raise error
    return content


def measure_without_features(experiment: Experiment) -> dict[str, Any]:
    """Measure the model in this process, and keep no features; results and errors as in `run_evaluation`."""
    sets = open_sets(experiment, warns=False)
    with tempfile.TemporaryDirectory() as features:
        return _measure(experiment.evaluate, sets, _models(experiment), features, experiment.seed)


def _in_task(experiment: Experiment) -> dict[str, Any]:
    try:
        return measure_without_features(experiment)
    except IncompleteEvaluationError as error:  # its results would not survive Ray's pickling
        return {**error.results, "incomplete": str(error)}


def open_sets(experiment: Experiment, warns: bool = True) -> list[SetMeasure]:
    """Open every configured set; reads no image.

    Args:
        experiment: the configuration.
        warns: whether to warn of sets that hold files of the training data.

    Raises:
        UserError: there are no sets, or one cannot be opened.
    """
    config, seed = experiment.evaluate, experiment.seed
    training = experiment.data if warns else None
    if not config.labelled and not config.retrieval and not config.sugar_crepe:
        raise UserError("evaluate: nothing to do; give evaluate.labelled, evaluate.retrieval or evaluate.sugar_crepe")
    gate = partial(gate_fingerprint, experiment.rewrite.gate, experiment.model.name)
    sets: list[SetMeasure] = []
    for labelled in config.labelled:
        opened = LabelledMeasure.open(labelled, config.max_skipped, seed)
        _warn_of_overlap(f"evaluate.labelled: {labelled.name}", opened.labelled.urls, training)
        sets.append(opened)
    for number, retrieval in enumerate(config.retrieval):
        setting = "data" if retrieval.held_out else f"evaluate.retrieval[{number}].data"
        captioned = CaptionedMeasure.open(
            retrieval.of_training(experiment.data), setting, config.max_skipped, seed, gate
        )
        if not retrieval.held_out:
            _warn_of_overlap(setting, [source.shard.url for source in captioned.sources], training)
        sets.append(captioned)
    sets += [SugarCrepeMeasure.open(examples, config.max_skipped) for examples in config.sugar_crepe]
    return sets


def _warn_of_overlap(setting: str, urls: list[str], training: DataConfig | None) -> None:
    if training is not None and (common := files_in_training(urls, training)):
        names = first_names(map(storage.name_of, common))
        logger.warning(
            "%s: %d of its %d files are also in data.path (%s). A model trained on them is measured on what it has "
            "seen; leave them out of one of the two", setting, len(common), len(set(urls)), names,
        )  # fmt: skip


def _models(experiment: Experiment) -> dict[str, EvaluatedModel]:
    """The models to measure, by name; the first one is the experiment's own."""
    config, output = experiment.evaluate, experiment.evaluate_output
    location = checkpoint_location(config, experiment.train_output)
    models = {"": EvaluatedModel(location, config.pretrained, output)}
    for other in config.others:
        models[other.name] = EvaluatedModel(other.checkpoint, other.pretrained, storage.join(output, other.name))
    return models


def checkpoint_location(config: EvaluateConfig, train_output: str) -> str:
    """The evaluated model, as `models.loading` takes it: the configured one, else the export of training."""
    return config.checkpoint or storage.join(train_output, EXPORT_DIRECTORY)


def _check_checkpoint(config: EvaluateConfig, train_output: str) -> None:
    """Refuse missing or unusable models, without loading them.

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
    for number, other in enumerate(config.others):
        check_model(other.checkpoint, other.pretrained, f"evaluate.others[{number}].checkpoint")


def _measure(
    config: EvaluateConfig,
    sets: Sequence[SetMeasure],
    models: Mapping[str, EvaluatedModel],
    features: str,
    seed: int,
    tell: Callable[[Mapping[str, Mapping[str, Any]]], None] | None = None,
    on_cluster: bool = False,
) -> dict[str, Any]:
    """Measure models on sets, and tell the results of all; returns those of the first."""
    encoders = dict(_load(config, models, on_cluster))
    stores = {name: _store(features, encoder, config.precision) for name, encoder in encoders.items()}
    for name, model in models.items():
        about = {"checkpoint": describe_model(model.location, model.pretrained), "precision": config.precision}
        storage.write_json(storage.join(stores[name].location, "about.json"), {**about, "versions": package_versions()})
    metrics = {labelled.name: labelled.metric for labelled in config.labelled}
    files = {
        name: ResultFiles(
            model.output, _head(config, model, encoders[name]), metrics, config.bootstrap, seed, len(sets)
        )
        for name, model in models.items()
    }
    encode: Encode
    if on_cluster:
        pooled = [
            PooledModel(model.location, model.pretrained, encoders[name].digest, encoders[name].transform, stores[name])
            for name, model in models.items()
        ]
        encoders.clear()  # the actors have models of their own
        encode = partial(encode_on_cluster, models=pooled, config=config)
    else:
        here = [EncodingModel(encoders[name], stores[name]) for name in models]
        encode = partial(encode_here, models=here)
    measure_sets(sets, Encoding(stores, encode), files, at_once=on_cluster)
    if tell is not None:
        tell({name: of_model.content() for name, of_model in files.items()})
    contents = [of_model.check_complete() for of_model in files.values()]
    return contents[0]


def _load(
    config: EvaluateConfig, models: Mapping[str, EvaluatedModel], on_cluster: bool
) -> Iterator[tuple[str, Encoder]]:
    """Load the models: onto the device that encodes, or, where actors encode, to know their weights and transforms."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() and not on_cluster else "cpu")
    for name, model in models.items():
        setting = f"evaluate.others: {name}" if name else _CHECKPOINT_SETTING
        loaded = load_model(model.location, model.pretrained, device, setting)
        yield name, Encoder(loaded, device, config.batch_size, config.precision)


def _store(features: str, encoder: Encoder, precision: str) -> FeatureStore:
    """The store of a model's features."""
    key = digest_of(encoder.digest, encoder.transform.digest, precision)[:16]
    return FeatureStore(storage.join(features, key))


def _head(config: EvaluateConfig, model: EvaluatedModel, encoder: Encoder) -> dict[str, Any]:
    """What `results.json` says of the whole evaluation."""
    return {
        "checkpoint": describe_model(model.location, model.pretrained),
        "weights_digest": encoder.digest,
        "precision": config.precision,
        "versions": package_versions(),
    }
