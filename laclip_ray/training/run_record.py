"""The record of a training run in its output directory: its identity, and the input it began with.

    experiment.json          the configuration of the newest start
    model.json               the model: architecture and image preprocessing
    rows.json                the rows of each shard, and the identity of its file
    rewrite_revisions.json   the revision of each rewrite set that the run reads

A rerun resumes the run if the record matches, with the same rows and revisions. Otherwise it is refused.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, TextConfig
from laclip_ray.config.defaults import with_defaults
from laclip_ray.config.facts import marked_keys
from laclip_ray.config.markers import MayChangeOnResume
from laclip_ray.data.path_patterns import single_paths
from laclip_ray.data.records import Shard
from laclip_ray.errors import UserError
from laclip_ray.models.files import CONFIG_FILE
from laclip_ray.models.specs import ModelSpec, differing_keys
from laclip_ray.ownership import check_owner
from laclip_ray.rewriting.recipe import deciding_gate
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.training.paths import RECORD_FILE, RunPaths
from laclip_ray.training.rows import ShardRows, check_names, read_rows, write_rows

_MAY_CHANGE = marked_keys(Experiment, MayChangeOnResume)
"""Dotted keys that may differ between two starts of one run."""
_REMEDY = (
    "Restore it from a copy (each checkpoint's state.json holds the same content as lineage.experiment), or choose "
    "another train.output."
)


def check_record(experiment: Experiment, model: ModelSpec, shards: Sequence[Shard]) -> None:
    """Refuse an output directory that holds something other than this run.

    Raises:
        UserError: it holds other files, another run, this run over other shards, or a damaged record.
    """
    paths = RunPaths(experiment.train_output)
    # Files hold `${NAME}` as it is written; earlier versions wrote its value.
    written, expanded = (
        settings_of_run(content, experiment.text)
        for content in (experiment.as_written(), experiment.model_dump(mode="json"))
    )

    def changed(content: Mapping[str, Any]) -> list[str]:
        before = settings_of_run(content, experiment.text)
        return [key for key in expanded if before.get(key) not in (written[key], expanded[key])]

    is_ours = check_owner(
        paths.output, RECORD_FILE, changed, setting="train.output", content="training run", remedy=_REMEDY
    )
    if not is_ours:
        return
    if keys := differing_keys(_recorded_model(paths) or model.to_json(), model.to_json()):
        raise UserError(
            f"model.name: {model.name} is another model than when the training run in {paths.output} began "
            f"({', '.join(keys)} differ), so its weights would mean another function. Set these back, or choose "
            "another train.output"
        )
    names = [shard.name for shard in shards]
    if (recorded := read_rows(paths.rows, names)) is not None:
        check_names(recorded, names, run_name(paths))


def run_name(paths: RunPaths) -> str:
    """Names a run, for messages."""
    return f"the training run in {paths.output}"


def _recorded_model(paths: RunPaths) -> dict[str, Any] | None:
    """The model that the run trains; None if it has neither a record of it nor a checkpoint."""
    # Earlier versions wrote it only to checkpoints and exports.
    checkpoints = (storage.join(paths.ray_run, name) for name in storage.list_directories(paths.ray_run))
    directories = itertools.chain([paths.export], checkpoints)
    urls = itertools.chain([paths.model], (storage.join(directory, CONFIG_FILE) for directory in directories))
    for url in filter(storage.exists, urls):
        remedy = "Restore it from a copy (a checkpoint's open_clip_config.json has the same content), or remove it."
        return storage.read_state(url, "the record of this run's model", remedy, _parse_model)
    return None


def _parse_model(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(content[key]) for key in ("model_cfg", "preprocess_cfg")}


def write_record(
    paths: RunPaths,
    experiment: Mapping[str, Any],
    model: ModelSpec,
    rows: Mapping[str, ShardRows],
    rewrites: RewriteSets | None,
) -> None:
    """Write the record, or replace it at a resume.

    Args:
        paths: of the run.
        experiment: the configuration as JSON.
        model: the model.
        rows: of all shards.
        rewrites: the rewrite sets that the run reads; None: it shows only captions.
    """
    storage.write_json(paths.experiment, experiment)
    storage.write_json(paths.model, model.to_json())
    write_rows(paths.rows, rows)
    if rewrites is not None:
        storage.write_json(paths.rewrite_revisions, rewrites.revisions())


def pinned_rewrites(paths: RunPaths, rewrites: RewriteSets) -> RewriteSets:
    """The rewrite sets at the revisions that the run began with; unchanged if it has not begun.

    Raises:
        UserError: the record of the revisions is damaged.
    """
    url = paths.rewrite_revisions
    if not storage.exists(url):
        return rewrites
    remedy = "Restore it, or remove it: then the run continues with the newest rewrites."
    return storage.read_state(url, "the record of the rewrites that this run reads", remedy, rewrites.pinned_at)


def settings_of_run(experiment: Mapping[str, Any], text: TextConfig) -> dict[str, Any]:
    """The values, by dotted key, that all starts of one run share.

    Args:
        experiment: a configuration as JSON, perhaps of an earlier version.
        text: says whether rewrites belong to the identity, and which.
    """
    experiment = with_defaults(Experiment, experiment)
    values = {"seed": experiment["seed"], "stream.crop_scale": experiment["stream"]["crop_scale"]}
    if text.reads_rewrites:
        values["rewrite.gate"] = deciding_gate(experiment["rewrite"]["gate"])
        if not text.rewrites:
            values["rewrite.prompt_sets"] = experiment["rewrite"]["prompt_sets"]
    for section in ("data", "text", "model", "train"):
        values |= {f"{section}.{key}": value for key, value in experiment[section].items()}
    values["data.path"] = single_paths(values["data.path"])  # a page of the Hub and its URL name the same files
    return {key: value for key, value in values.items() if key not in _MAY_CHANGE}
