"""The record of a training run in its output directory: its identity, and the input it began with.

    experiment.json          the configuration of the newest start
    rows.json                usable rows by shard
    rewrite_revisions.json   the revision of each rewrite set that the run reads

A rerun resumes the run if the record matches, with the same rows and revisions. Otherwise it is refused.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, TextConfig
from laclip_ray.config.facts import marked_keys
from laclip_ray.config.markers import MayChangeOnResume
from laclip_ray.errors import UserError
from laclip_ray.ownership import check_owner
from laclip_ray.rewriting.recipe import deciding_gate
from laclip_ray.rewriting.sets import RewriteSets
from laclip_ray.training.paths import RECORD_FILE, RunPaths

_MAY_CHANGE = marked_keys(Experiment, MayChangeOnResume)
"""Dotted keys that may differ between two starts of one run."""


def check_record(experiment: Experiment, shard_names: Iterable[str]) -> None:
    """Refuse an output directory that holds something other than this run.

    Raises:
        UserError: it holds other files, another run, or this run over other shards.
    """
    paths = RunPaths(experiment.train_output)
    now = _identity(experiment.model_dump(mode="json"), experiment.text)

    def changed(content: Mapping[str, Any]) -> list[str]:
        before = _identity(content, experiment.text)
        return [key for key in now if before.get(key) != now[key]]

    check_owner(paths.output, RECORD_FILE, changed, setting="train.output", content="training run")
    rows = recorded_rows(paths)
    if rows is not None and rows.keys() != set(shard_names):
        raise UserError(
            f"data.path: the shards are not those that the training run in {paths.output} began with, so its position "
            "would mean other samples. Choose another train.output"
        )


def write_record(
    paths: RunPaths, experiment: Mapping[str, Any], rows: Mapping[str, int], rewrites: RewriteSets | None
) -> None:
    """Write the record, or replace it at a resume.

    Args:
        paths: of the run.
        experiment: the configuration as JSON.
        rows: usable rows by shard.
        rewrites: the rewrite sets that the run reads; None: it shows only captions.
    """
    storage.write_json(paths.experiment, experiment)
    storage.write_json(paths.rows, rows)
    if rewrites is not None:
        storage.write_json(paths.rewrite_revisions, rewrites.revisions())


def recorded_rows(paths: RunPaths) -> dict[str, int] | None:
    """Usable rows by shard, counted when the run began; None before that."""
    return storage.read_json(paths.rows) if storage.exists(paths.rows) else None


def pinned_rewrites(paths: RunPaths, rewrites: RewriteSets) -> RewriteSets:
    """The rewrite sets at the revisions that the run began with; unchanged if it has not begun."""
    if not storage.exists(paths.rewrite_revisions):
        return rewrites
    return rewrites.pinned_at(storage.read_json(paths.rewrite_revisions))


def _identity(experiment: Mapping[str, Any], text: TextConfig) -> dict[str, Any]:
    """The values, by dotted key, that all starts of one run share.

    Args:
        experiment: a configuration as JSON.
        text: says whether rewrites belong to the identity, and which.
    """
    values = {"seed": experiment["seed"], "stream.crop_scale": experiment["stream"]["crop_scale"]}
    if text.reads_rewrites:
        values["rewrite.gate"] = deciding_gate(experiment["rewrite"]["gate"])
        if not text.rewrites:
            values["rewrite.prompt_sets"] = experiment["rewrite"]["prompt_sets"]
    for section in ("data", "text", "model", "train"):
        values |= {f"{section}.{key}": value for key, value in experiment[section].items()}
    return {key: value for key, value in values.items() if key not in _MAY_CHANGE}
