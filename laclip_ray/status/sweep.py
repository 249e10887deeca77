"""The state of a sweep, from the files below `tune.output`.

One listing names the stored stages. The record of a run has the sweep's configuration, and so the number of
its points; no result is read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from laclip_ray import storage
from laclip_ray.config import TuneConfig
from laclip_ray.errors import UserError
from laclip_ray.status.damage import Damage
from laclip_ray.status.listing import ListedFile, list_below, list_directory
from laclip_ray.status.owner import Owner, State, read_owner, state_of
from laclip_ray.status.pace import commits_per_s, time_left_s
from laclip_ray.training.paths import RECORD_FILE
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import listed_points

_STAGE = re.compile(r"(?P<point>[^/]+)/seed(?P<seed>-?\d+)/stages/epoch-(?P<epoch>\d+)\.json")
_VALUES = re.compile(r"(?P<point>[^/]+)/point\.json")
_ENDED = re.compile(r"(?P<point>[^/]+)/ended_early\.json")
_RUN_RECORD = re.compile(rf"[^/]+/seed-?\d+/train/{re.escape(RECORD_FILE)}")
_RECORD_REMEDY = "If this is the sweep that the directory holds, remove the file: then it continues without its record"
_RUN_REMEDY = "`laclip tune` names what to do with this run"


@dataclass(frozen=True)
class SweepStatus:
    """The state of a sweep."""

    location: str
    state: State
    owner: Owner | None
    points: int | None = None
    """Of the whole sweep. None: not recorded before the first run has begun."""
    points_begun: int = 0
    points_done: int = 0
    """Trained and evaluated to the end with every seed, or ended early by the scheduler."""
    points_ended_early: int = 0
    """Of `points_done`."""
    runs_done: int = 0
    """Points times seeds, trained and evaluated to the end."""
    runs: int | None = None
    """Points times seeds of the whole sweep."""
    left_s: float | None = None
    """While it runs, if no further point ends early."""


@dataclass
class _Trials:
    """The files of all points, by one listing."""

    begun: set[str] = field(default_factory=set)
    ended_early: set[str] = field(default_factory=set)
    stages: dict[str, dict[int, set[int]]] = field(default_factory=dict)
    """The stored epochs, by point and seed."""
    times_s: list[float] = field(default_factory=list)
    """When stages were stored."""
    records: list[str] = field(default_factory=list)
    """The records of training runs, below `trials`."""


@dataclass(frozen=True)
class _Shape:
    """The size of a sweep."""

    points: int | None
    seeds: int
    epochs: tuple[int, ...]
    """After which runs are evaluated."""


def sweep_status(location: str, damage: Damage, tune: TuneConfig | None = None) -> SweepStatus:
    """Look at a sweep.

    Args:
        location: `tune.output`: a directory or URL. It may not exist.
        damage: gets a sentence for each damaged file.
        tune: the configuration, if it is known. None: the one that its runs recorded.
    """
    directory = list_directory(location)
    if directory is None or directory.is_empty:
        return SweepStatus(location, "never started", None)
    paths, owner = SweepPaths(location), read_owner(location, damage)
    trials = _find_trials(list_below(paths.trials))
    epochs = None
    if storage.name_of(paths.record) in directory.files:
        epochs = damage.read_json(paths.record, "the record of this sweep", _RECORD_REMEDY, _parse_epochs)
    if tune is None and trials.records:
        url = storage.join(paths.trials, trials.records[0])
        tune = damage.read_json(url, "the record of a run", _RUN_REMEDY, _parse_tune)
    shape = _shape(trials, epochs, tune)
    status = _counted(location, owner, trials, shape, has_record=epochs is not None)
    return _with_time_left(status, trials, shape)


def _find_trials(files: Iterable[ListedFile]) -> _Trials:
    trials = _Trials()
    for file in files:
        if match := _STAGE.fullmatch(file.path):
            seeds = trials.stages.setdefault(match["point"], {})
            seeds.setdefault(int(match["seed"]), set()).add(int(match["epoch"]))
            if file.modified_s is not None:
                trials.times_s.append(file.modified_s)
        elif match := _VALUES.fullmatch(file.path):
            trials.begun.add(match["point"])
        elif match := _ENDED.fullmatch(file.path):
            trials.ended_early.add(match["point"])
        elif _RUN_RECORD.fullmatch(file.path):
            trials.records.append(file.path)
    trials.begun |= trials.stages.keys()
    return trials


def _parse_epochs(content: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, content["epochs"]))


def _parse_tune(content: Mapping[str, Any]) -> TuneConfig | None:
    """The sweep that a run's record describes; None if another version wrote it."""
    section = dict(content["tune"])
    try:
        return TuneConfig.model_validate(section)
    except ValidationError:
        return None


def _shape(trials: _Trials, epochs: tuple[int, ...] | None, tune: TuneConfig | None) -> _Shape:
    seeds = {seed for of_point in trials.stages.values() for seed in of_point}
    stored = {epoch for of_point in trials.stages.values() for of_seed in of_point.values() for epoch in of_seed}
    known = epochs or tuple(sorted(stored))
    if tune is None:
        return _Shape(None, max(1, len(seeds)), known)
    points: int | None = tune.points
    if tune.search != "optuna":
        try:
            points = len(listed_points(tune, seed=0))  # the seed decides values, not their number
        except UserError:  # `laclip tune` names the mistake
            points = None
    return _Shape(points, len(tune.seeds), known)


def _counted(location: str, owner: Owner | None, trials: _Trials, shape: _Shape, has_record: bool) -> SweepStatus:
    last = max(shape.epochs, default=0)
    runs_done = sum(last in stored for of_point in trials.stages.values() for stored in of_point.values())
    complete = {
        point
        for point, of_point in trials.stages.items()
        if sum(last in stored for stored in of_point.values()) >= shape.seeds
    }
    ended_early = trials.ended_early - complete
    done = len(complete | ended_early)
    is_complete = True if shape.points is not None and done >= shape.points else None
    return SweepStatus(
        *(location, state_of(owner, has_record or bool(trials.begun), is_complete), owner),
        points=shape.points,
        points_begun=len(trials.begun),
        points_done=done,
        points_ended_early=len(ended_early),
        runs_done=runs_done,
        runs=None if shape.points is None else shape.points * shape.seeds,
    )


def _with_time_left(status: SweepStatus, trials: _Trials, shape: _Shape) -> SweepStatus:
    """The status with the time that the stages left take, at the rate of the newest ones."""
    owner = status.owner
    if owner is None or not owner.is_alive or status.points is None or not shape.epochs:
        return status
    stages = shape.seeds * len(shape.epochs)
    stored = sum(
        len(epochs)
        for point, of_point in trials.stages.items()
        if point not in trials.ended_early
        for epochs in of_point.values()
    )
    ended = len(trials.ended_early)
    left = max(0, (status.points - ended) * stages - stored)
    per_s = commits_per_s(trials.times_s, owner.now_s, owner.since_s or 0.0)
    return replace(status, left_s=time_left_s(left, per_s))
