"""The state of a training run, from the files below `train.output`.

One listing names the files. The end of `metrics.jsonl` has the epoch, the loss and the rate; Ray Train's register names
the newest checkpoint. The rest of the metrics, and checkpoints, are not read.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.lease import LEASE_FILE
from laclip_ray.models.files import EXPORT_DIRECTORY
from laclip_ray.status.damage import Damage
from laclip_ray.status.listing import Directory, list_directory
from laclip_ray.status.owner import Owner, State, read_owner, state_of
from laclip_ray.status.pace import time_left_s
from laclip_ray.training.paths import RECORD_FILE, RunPaths
from laclip_ray.training.register import newest_registered

_TAIL_BYTES = 1 << 16
"""Of `metrics.jsonl`: about 60 lines."""
_LINES_OF_RATE = 20
"""Lines whose median rate counts. One may hold a pause."""
_SUMMARY_REMEDY = "Remove it, and the same command writes it again"
_RECORD_REMEDY = "Restore it from a copy: each checkpoint's state.json has it as lineage.experiment"


@dataclass(frozen=True)
class TrainingStatus:
    """The state of a training run."""

    location: str
    state: State
    owner: Owner | None
    epochs: int | None = None
    """Of the whole run."""
    epoch: float | None = None
    """Epochs trained. None: no line of metrics tells it."""
    step: int | None = None
    steps: int | None = None
    """Of the whole run, if no image is skipped."""
    loss: float | None = None
    images_per_s: float | None = None
    left_s: float | None = None
    """While it runs."""
    metrics_age_s: float | None = None
    """Since the metrics were written. None if no run holds the lease."""
    checkpoint: str | None = None
    """The newest one."""
    stopped_at_step: int | None = None
    """Where a loss or a weight was not finite, which stops a run."""
    export: str | None = None
    """The exported model of a finished run."""


def training_status(location: str, damage: Damage) -> TrainingStatus:
    """Look at a training run.

    Args:
        location: `train.output`: a directory or URL. It may not exist.
        damage: gets a sentence for each damaged file.
    """
    directory = list_directory(location)
    if directory is None or directory.is_empty:
        return TrainingStatus(location, "never started", None)
    paths, owner = RunPaths(location), read_owner(location, damage)
    is_finished = storage.name_of(paths.summary) in directory.files and EXPORT_DIRECTORY in directory.directories
    has_begun = bool({*directory.files, *directory.directories} - {LEASE_FILE})
    if has_begun and RECORD_FILE not in directory.files:
        damage.found.append(f"{paths.experiment}: the record of this training run is missing. {_RECORD_REMEDY}")
    state = state_of(owner, has_begun, True if is_finished else None)
    lines = _newest_lines(paths, directory, damage)
    epochs = _epochs(paths, directory, damage)
    length = _length(lines, epochs)
    last = lines[-1] if lines else {}
    summary = None
    if is_finished:
        summary = damage.read_json(paths.summary, "the summary of this training run", _SUMMARY_REMEDY, _parse_summary)
    rate = _images_per_s(lines)
    return TrainingStatus(
        *(location, state, owner),
        epochs=epochs,
        epoch=summary[1] if summary else _number(last, "epoch"),
        step=summary[0] if summary else _whole(last, "step"),
        steps=summary[0] if summary else length.steps if length else None,
        loss=_number(last, "loss"),
        images_per_s=rate,
        left_s=time_left_s(length.samples_left, rate) if length and owner is not None and owner.is_alive else None,
        metrics_age_s=_metrics_age_s(paths, directory, owner),
        checkpoint=_newest_checkpoint(paths, directory, damage),
        stopped_at_step=_stopped_at(paths, directory, damage),
        export=paths.export if is_finished else None,
    )


def _parse_summary(content: Mapping[str, Any]) -> tuple[int, float]:
    return int(content["steps"]), float(content["epochs"])


def _epochs(paths: RunPaths, directory: Directory, damage: Damage) -> int | None:
    """The epochs of the whole run, from its record."""
    if RECORD_FILE not in directory.files:
        return None
    return damage.read_json(
        paths.experiment,
        "the record of this training run",
        _RECORD_REMEDY,
        lambda content: int(content["train"]["epochs"]),
    )


def _newest_lines(paths: RunPaths, directory: Directory, damage: Damage) -> list[dict[str, Any]]:
    """The whole lines at the end of the metrics, oldest first."""
    listed = directory.files.get(storage.name_of(paths.metrics))
    if listed is None or not listed.size_bytes:
        return []
    start = max(0, listed.size_bytes - _TAIL_BYTES)
    fs, path = storage.filesystem(paths.metrics)
    try:
        # If the file is replaced meanwhile, this is a part of the new one.
        content: bytes = fs.cat_file(path, start=start, end=listed.size_bytes)
    except FileNotFoundError:
        return []
    except PermissionError:
        damage.found.append(f"{paths.metrics}: the metrics may not be read. Give this user access to it")
        return []
    texts = content.decode("utf-8", "replace").splitlines()[1 if start else 0 :]
    lines = [line for line in map(_parse_line, texts) if line is not None]
    if damaged := len(texts) - len(lines):
        damage.found.append(
            f"{paths.metrics}: {damaged} of its last {len(texts)} lines are damaged and left out. Training is not "
            "affected"
        )
    return lines


def _parse_line(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) and _whole(content, "step") is not None else None


def _number(line: Mapping[str, Any], key: str) -> float | None:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(line: Mapping[str, Any], key: str) -> int | None:
    value = _number(line, key)
    return None if value is None else int(value)


def _images_per_s(lines: Sequence[Mapping[str, Any]]) -> float | None:
    rates = [rate for line in lines[-_LINES_OF_RATE:] if (rate := _number(line, "images_per_s"))]
    return statistics.median(rates) if rates else None


@dataclass(frozen=True)
class _Length:
    """The length of a run, and its rest."""

    steps: int
    samples_left: float


def _length(lines: Sequence[Mapping[str, Any]], epochs: int | None) -> _Length | None:
    """The length of the whole run, as its newest line tells it: that line has the epoch and the samples it took."""
    if not lines or not epochs:
        return None
    samples, epoch, batch = (_number(lines[-1], key) for key in ("samples", "epoch", "batch_size"))
    if not samples or not epoch or not batch:
        return None
    total = samples / epoch * epochs
    return _Length(int(round(total) // batch), max(0.0, total - samples))


def _metrics_age_s(paths: RunPaths, directory: Directory, owner: Owner | None) -> float | None:
    listed = directory.files.get(storage.name_of(paths.metrics))
    if owner is None or listed is None or listed.modified_s is None:
        return None
    return max(0.0, owner.now_s - listed.modified_s)


def _newest_checkpoint(paths: RunPaths, directory: Directory, damage: Damage) -> str | None:
    if storage.name_of(paths.ray_run) not in directory.directories:
        return None
    try:
        return newest_registered(paths)
    except UserError as error:
        damage.found.append(str(error))
    except PermissionError:
        damage.found.append(
            f"{paths.ray_run}: the register of checkpoints may not be read. Give this user access to it"
        )
    return None


def _stopped_at(paths: RunPaths, directory: Directory, damage: Damage) -> int | None:
    if storage.name_of(paths.non_finite) not in directory.files:
        return None
    remedy = "Remove it; the same command continues from the newest checkpoint"
    return damage.read_json(
        paths.non_finite, "the note of a loss that is not finite", remedy, lambda content: int(content["step"])
    )
