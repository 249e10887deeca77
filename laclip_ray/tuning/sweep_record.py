"""The record of a sweep: what all of its runs share. A rerun in the same directory is the same sweep, or is refused.

Guarantees: a results table never mixes runs of two rewrite sets, models or evaluations, unless the sweep varies them.
Between two starts these may change: seeds, points, the search, fewer evaluations, and settings that only affect speed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, MayChangeOnResume, SharedBySweep, marked_keys
from laclip_ray.errors import UserError
from laclip_ray.ownership import check_owner
from laclip_ray.tuning.paths import RECORD_FILE, SweepPaths
from laclip_ray.tuning.space import Space


@dataclass(frozen=True)
class SharedSettings:
    """The settings that a sweep's runs have in common."""

    values: Mapping[str, Any]
    """The shared settings by `section.key`. A swept setting has its value outside the sweep."""
    swept: frozenset[str]
    """Keys in `values` that the sweep varies, at least in part."""
    epochs: tuple[int, ...]
    """Epochs after which runs are evaluated."""

    @classmethod
    def of(cls, experiment: Experiment, space: Space, epochs: Sequence[int]) -> "SharedSettings":
        """The shared settings of an experiment."""
        shared, may_change = marked_keys(Experiment, SharedBySweep), marked_keys(Experiment, MayChangeOnResume)
        values = {
            (section, f"{section}.{key}"): value
            for section, content in experiment.model_dump(mode="json").items()
            if isinstance(content, dict)
            for key, value in content.items()
        }
        kept = {
            key: value
            for (section, key), value in values.items()
            if key in shared or (section in shared and key not in may_change)
        }
        return cls(kept, frozenset(".".join(key.split(".")[:2]) for key in space.keys), tuple(epochs))


def check_sweep(paths: SweepPaths, settings: SharedSettings) -> None:
    """Refuse a directory that holds another sweep. Writes no file.

    Raises:
        UserError: with the keys that differ, or with epochs for which the trained runs kept no model.
    """
    unswept = {key: value for key, value in settings.values.items() if key not in settings.swept}
    _check_record(paths, "settings", unswept)
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
    _check_record(paths, "rewrite_revisions", revisions)
    recorded = _read_record(paths)
    storage.write_json(
        paths.record,
        {
            "settings": {**settings.values, **recorded.get("settings", {})},
            "rewrite_revisions": {**revisions, **recorded.get("rewrite_revisions", {})},
            "epochs": recorded.get("epochs", list(settings.epochs)),
        },
    )


def _check_record(paths: SweepPaths, part: str, values: Mapping[str, Any]) -> None:
    """Refuse a record with other values in a part. A directory without a record is not refused."""

    def changed(record: Mapping[str, Any]) -> list[str]:
        recorded = record.get(part, {})
        return [key for key, value in values.items() if key in recorded and recorded[key] != value]

    if storage.exists(paths.record):
        check_owner(paths.location, RECORD_FILE, changed, setting="tune.output", content="sweep")


def _read_record(paths: SweepPaths) -> dict[str, Any]:
    """The content of the record; empty before the sweep begins."""
    return storage.read_json(paths.record) if storage.exists(paths.record) else {}
