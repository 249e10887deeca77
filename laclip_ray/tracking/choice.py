"""The trackers of a run by their names: checks before it starts, and its beginning."""

import importlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, TrackConfig, TrackerName
from laclip_ray.endings.causes import describe
from laclip_ray.errors import UserError
from laclip_ray.redaction import redact, redacted, register_environment
from laclip_ray.tracking.identity import new_id, run_id
from laclip_ray.tracking.tracker import RunKind, TrackedRun, Tracker
from laclip_ray.tracking.trackers import Trackers
from laclip_ray.versions import package_versions

logger = logging.getLogger(__name__)

_CLASSES: Mapping[TrackerName, tuple[str, str]] = {
    "tensorboard": ("to_tensorboard", "TensorBoardTracker"),
    "wandb": ("to_wandb", "WandbTracker"),
    "trackio": ("to_trackio", "TrackioTracker"),
    "mlflow": ("to_mlflow", "MlflowTracker"),
}
"""By name, the module and class of a tracker; imported only when it is chosen."""
NEEDS_NOTHING: frozenset[TrackerName] = frozenset({"tensorboard"})
"""Trackers that need no further package, no credentials and no id."""


def check_trackers(track: TrackConfig, output: str) -> None:
    """Refuse trackers that would not work on this machine. Starts and writes nothing.

    Args:
        track: which trackers.
        output: `output` of the experiment.

    Raises:
        UserError: a package is missing, credentials are, or there is no place for a tracker's files.
    """
    for name in track.report_to:
        if name in NEEDS_NOTHING:
            continue
        if find_spec(name) is None:
            raise UserError(
                f"track.report_to: {name} needs a package that is not installed here; "
                f"`pip install 'laclip-ray[{name}]'` installs it"
            )
        importlib.import_module(f"laclip_ray.tracking.{_CLASSES[name][0]}").check(_store(output))


def begin_trackers(
    experiment: Experiment,
    kind: RunKind,
    output: str,
    lineage: Mapping[str, Any],
    after_step: int | None = 0,
) -> Trackers:
    """Begin a run in the configured trackers, or continue it. Returns at once, and raises nothing.

    Args:
        experiment: the configuration.
        kind: the verb.
        output: the run's own directory or URL, which this process owns.
        lineage: the rewrite sets behind the run, as JSON.
        after_step: see `TrackedRun`.
    """
    track = experiment.track
    register_environment()
    run = TrackedRun(
        id=new_id() if {*track.report_to} <= NEEDS_NOTHING else _known_id(output),
        kind=kind,
        project=track.project,
        name=redact(track.name or experiment.name),
        group=redact(track.group or experiment.name),
        tags=[redact(tag) for tag in track.tags],
        output=output,
        store=_store(experiment.output),
        config=experiment.as_written(),
        lineage=redacted({**lineage, "versions": package_versions()}),
        after_step=after_step,
    )
    return Trackers(run, {name: partial(_build, name) for name in track.report_to})


def _known_id(output: str) -> str:
    try:
        return run_id(output)
    except (UserError, OSError) as error:
        logger.warning("trackers get a new run, because its id cannot be kept: %s", describe(error))
        return new_id()


def _store(output: str) -> str | None:
    """Where trackers keep files of all runs of an experiment; None if its output is at a URL."""
    return str(Path(output.removeprefix("file://"), "tracking").absolute()) if storage.is_local(output) else None


def _build(name: TrackerName) -> Tracker:
    module, class_name = _CLASSES[name]
    build: Callable[[], Tracker] = getattr(importlib.import_module(f"laclip_ray.tracking.{module}"), class_name)
    return build()
