"""The state of an evaluation, from `results.json` and the lease below `evaluate.output`.

A run writes `results.json` again after each set. Where actors encode, they encode all sets before the first is
measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.evaluation.results import RESULTS_FILE
from laclip_ray.lease import LEASE_FILE
from laclip_ray.status.damage import Damage
from laclip_ray.status.listing import Directory, list_directory
from laclip_ray.status.owner import Owner, State, read_owner, state_of
from laclip_ray.status.pace import time_left_s

_REMEDY = "Remove it, and the same command writes it again"
_CLOCKS_S = 5.0
"""Clocks of a host and of the store may differ by this much."""


@dataclass(frozen=True)
class EvaluationStatus:
    """The state of an evaluation."""

    location: str
    state: State
    owner: Owner | None
    sets: int | None = None
    """Of the whole evaluation. None: not known before the first set is measured."""
    sets_done: int = 0
    """Measured, with a result or without."""
    failures: tuple[tuple[str, str, str], ...] = ()
    """Task, set and reason of each missing result."""
    newest_result_age_s: float | None = None
    """Since the results were written. None if no run holds the lease, or before its first results."""
    left_s: float | None = None
    """While it runs, if all sets take equally long."""


@dataclass(frozen=True)
class _Results:
    sets: int | None
    sets_done: int
    failures: tuple[tuple[str, str, str], ...]


def evaluation_status(location: str, damage: Damage, sets: int | None = None) -> EvaluationStatus:
    """Look at an evaluation.

    Args:
        location: `evaluate.output`: a directory or URL. It may not exist.
        damage: gets a sentence for each damaged file.
        sets: the number of configured sets, if it is known.
    """
    directory = list_directory(location)
    if directory is None or directory.is_empty:
        return EvaluationStatus(location, "never started", None, sets)
    owner = read_owner(location, damage)
    has_begun = bool({*directory.files, *directory.directories} - {LEASE_FILE})
    written_s = _written_s(directory)
    if owner is not None and written_s is not None and written_s < (owner.since_s or 0.0) - _CLOCKS_S:
        return EvaluationStatus(location, state_of(owner, has_begun, None), owner, sets)  # an earlier run's results
    results = None
    if RESULTS_FILE in directory.files:
        url = storage.join(location, RESULTS_FILE)
        results = damage.read_json(url, "the results of an evaluation", _REMEDY, _parse)
    if results is None:
        return EvaluationStatus(location, state_of(owner, has_begun, None), owner, sets)
    total = results.sets if results.sets is not None else sets
    is_complete = None if total is not None and results.sets_done < total else not results.failures
    age_s = None if owner is None or written_s is None else max(0.0, owner.now_s - written_s)
    return EvaluationStatus(
        *(location, state_of(owner, has_begun, is_complete), owner, total, results.sets_done, results.failures),
        newest_result_age_s=age_s,
        left_s=_left_s(owner, results.sets_done, total),
    )


def _written_s(directory: Directory) -> float | None:
    listed = directory.files.get(RESULTS_FILE)
    return None if listed is None else listed.modified_s


def _left_s(owner: Owner | None, done: int, total: int | None) -> float | None:
    if owner is None or not owner.is_alive or owner.since_s is None or total is None:
        return None
    elapsed_s = owner.now_s - owner.since_s
    return time_left_s(max(0, total - done), done / elapsed_s if elapsed_s > 0 else None)


def _parse(content: Mapping[str, Any]) -> _Results:
    entries = list(content["results"])
    failures = tuple(
        (str(entry["task"]), str(entry["dataset"]), str(entry["no_result"]))
        for entry in entries
        if "no_result" in entry
    )
    # Earlier versions wrote no counts.
    total = int(content["sets"]) if "sets" in content else None
    done = int(content.get("sets_measured", len({str(entry["dataset"]) for entry in entries})))
    return _Results(total, done, failures)
