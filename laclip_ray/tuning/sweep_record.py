"""The record of a sweep: what all of its runs share. A rerun in the same directory is the same sweep, or is refused.

Guarantees: a results table never mixes runs of two rewrite sets, models or evaluations, unless the sweep varies them.
Between two starts these may change: seeds, points, the search, fewer evaluations, and settings that only affect speed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, MayChangeOnResume, SharedBySweep, marked_keys
from laclip_ray.config.defaults import with_defaults
from laclip_ray.errors import UserError
from laclip_ray.models.specs import differing_keys, load_model_spec
from laclip_ray.ownership import check_owner
from laclip_ray.tuning.paths import RECORD_FILE, SweepPaths
from laclip_ray.tuning.space import Space

_MODEL_CONTENT = "content of model.name"
"""Key of the model's config in the recorded settings. Its file may be edited in place."""
_REMEDY = "If this is the sweep that the directory holds, remove the file: then the sweep continues without its record."


@dataclass(frozen=True)
class SharedSettings:
    """The settings that a sweep's runs have in common."""

    values: Mapping[str, Any]
    """The shared settings by `section.key`. A swept setting has its value outside the sweep."""
    swept: frozenset[str]
    """Keys in `values` that the sweep varies, at least in part."""
    epochs: tuple[int, ...]
    """Epochs after which runs are evaluated."""

    expanded: Mapping[str, Any]
    """`values` with the values of `${NAME}`, as earlier versions recorded them."""
    model: Mapping[str, Any] | None
    """The model's config; None if the sweep varies the model."""

    @classmethod
    def of(cls, experiment: Experiment, space: Space, epochs: Sequence[int]) -> "SharedSettings":
        """The shared settings of an experiment.

        Raises:
            UserError: the model does not exist.
        """
        swept = frozenset(".".join(key.split(".")[:2]) for key in space.keys)
        values, expanded = map(_shared_values, (experiment.as_written(), experiment.model_dump(mode="json")))
        model = None if "model.name" in swept else load_model_spec(experiment.model.name).to_json()
        return cls(values, swept, tuple(epochs), expanded, model)


def _shared_values(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all runs share, by `section.key`, of a configuration as JSON."""
    shared, may_change = marked_keys(Experiment, SharedBySweep), marked_keys(Experiment, MayChangeOnResume)
    return {
        f"{section}.{key}": value
        for section, content in experiment.items()
        if isinstance(content, dict)
        for key, value in content.items()
        if f"{section}.{key}" in shared or (section in shared and f"{section}.{key}" not in may_change)
    }


def check_sweep(paths: SweepPaths, settings: SharedSettings) -> None:
    """Refuse a directory that holds another sweep. Writes no file.

    Raises:
        UserError: with the keys that differ, or with epochs for which the trained runs kept no model.
    """
    _check_settings(paths, settings)
    recorded = _read_record(paths).get("epochs", settings.epochs)
    if new := sorted({*settings.epochs} - {*recorded}):
        raise UserError(
            f"tune: runs would be evaluated after epochs {', '.join(map(str, new))}, but the runs in {paths.location} "
            "kept no model of them; set tune.halving and tune.evaluate_every_epochs back, or choose another directory"
        )


def write_record(paths: SweepPaths, settings: SharedSettings, revisions: Mapping[str, int | None]) -> None:
    """Record what all runs share, when a sweep begins or gets more rewrite sets.

    Args:
        paths: of the sweep.
        settings: accepted by `check_sweep`.
        revisions: of each rewrite set that a run reads, by its location.

    Raises:
        UserError: a set has another revision than when the sweep began.
    """

    def changed(record: Mapping[str, Any]) -> list[str]:
        earlier = record.get("rewrite_revisions", {})
        return [location for location, revision in revisions.items() if earlier.get(location, revision) != revision]

    _check_record(paths, changed)
    recorded = _read_record(paths)
    model = {} if settings.model is None else {_MODEL_CONTENT: settings.model}
    storage.write_json(
        paths.record,
        {
            "settings": {**settings.values, **model, **recorded.get("settings", {})},
            "rewrite_revisions": {**revisions, **recorded.get("rewrite_revisions", {})},
            "epochs": recorded.get("epochs", list(settings.epochs)),
        },
    )


def _check_settings(paths: SweepPaths, settings: SharedSettings) -> None:
    """Refuse a record with other settings."""

    def changed(record: Mapping[str, Any]) -> list[str]:
        recorded = _complete(record.get("settings", {}))
        model = recorded.pop(_MODEL_CONTENT, None)
        keys = [
            key
            for key, value in settings.values.items()
            if key not in settings.swept and recorded.get(key, value) not in (value, settings.expanded[key])
        ]
        if model is not None and settings.model is not None:
            keys += [f"{_MODEL_CONTENT}: {key}" for key in differing_keys(model, settings.model)]
        return keys

    _check_record(paths, changed)


def _check_record(paths: SweepPaths, changed: Callable[[Any], list[str]]) -> None:
    """Refuse a record that has changed. A directory without a record is not refused."""
    if storage.exists(paths.record):
        check_owner(paths.location, RECORD_FILE, changed, setting="tune.output", content="sweep", remedy=_REMEDY)


def _complete(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded values, with later keys of their sections at their defaults."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in recorded.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    complete = with_defaults(Experiment, sections)
    return {key: complete[key.partition(".")[0]][key.partition(".")[2]] for key in recorded}


def _read_record(paths: SweepPaths) -> dict[str, Any]:
    """The content of the record; empty before the sweep begins."""
    if not storage.exists(paths.record):
        return {}
    return storage.read_state(paths.record, "the record of this sweep", _REMEDY, dict)
