"""What all runs of a sweep share, kept beside them: a rerun in the same place is the same sweep, or is refused.

Guarantees: no table holds runs of two sets of rewrites, two models, or two evaluations, as long as they are not swept.
More seeds and points, fewer evaluations, another search, and what only says how fast a run goes may change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, MayChangeOnResume, SharedBySweep, marked_keys
from laclip_ray.errors import UserError
from laclip_ray.tuning.space import swept_keys

RECORD_FILE = "sweep.json"


def check_place(experiment: Experiment, epochs: Sequence[int]) -> None:
    """Refuse a place that holds another sweep; writes nothing.

    Args:
        experiment: the configuration.
        epochs: after which runs are evaluated.

    Raises:
        UserError: with the keys that differ, or with epochs of which the runs that were trained have no model.
    """
    _check(experiment, "settings", _settings(experiment), _swept(experiment))
    before = _known(experiment).get("epochs", epochs)
    if new := sorted({*epochs} - {*before}):
        raise UserError(
            f"tune: runs would be evaluated after epochs {', '.join(map(str, new))}, of which those in "
            f"{experiment.tune_output} kept no model; set tune.halving and tune.evaluate_every_epochs back, or choose "
            "another place"
        )


def record(experiment: Experiment, epochs: Sequence[int], revisions: Mapping[str, int | None]) -> None:
    """Note what all runs share, when the sweep begins.

    Args:
        experiment: the configuration.
        epochs: after which runs are evaluated.
        revisions: of each rewrite set that a run reads, by location.

    Raises:
        UserError: a set has another revision than the sweep began with.
    """
    _check(experiment, "rewrite_revisions", revisions, frozenset())
    known = _known(experiment)
    storage.write_json(
        _url(experiment),
        {
            "settings": _settings(experiment) | known.get("settings", {}),
            "rewrite_revisions": {**revisions, **known.get("rewrite_revisions", {})},
            "epochs": known.get("epochs", list(epochs)),
        },
    )


def _check(experiment: Experiment, kind: str, now: Mapping[str, Any], leave_out: frozenset[str]) -> None:
    before = _known(experiment).get(kind, {})
    changed = [key for key in now if key in before and key not in leave_out and before[key] != now[key]]
    if changed:
        raise UserError(
            f"tune.output: {experiment.tune_output} holds another sweep ({', '.join(changed)} differ); choose another "
            "place, or set these back"
        )


def _url(experiment: Experiment) -> str:
    return storage.join(experiment.tune_output, RECORD_FILE)


def _known(experiment: Experiment) -> dict[str, Any]:
    url = _url(experiment)
    return storage.read_json(url) if storage.exists(url) else {}


def _settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that all runs share, by dotted key; swept ones too, as they are where they are not swept."""
    shared, may_change = marked_keys(Experiment, SharedBySweep), marked_keys(Experiment, MayChangeOnResume)
    values = {
        (section, f"{section}.{key}"): value
        for section, content in experiment.model_dump(mode="json").items()
        if isinstance(content, dict)
        for key, value in content.items()
    }
    return {
        key: value
        for (section, key), value in values.items()
        if key in shared or (section in shared and key not in may_change)
    }


def _swept(experiment: Experiment) -> frozenset[str]:
    """Keys of sections of which something is swept."""
    return frozenset(".".join(key.split(".")[:2]) for key in swept_keys(experiment))
