"""The identity of a submission: equal submissions get equal ids, so that a second one finds the first."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ID_DIGITS = 8
"""Hexadecimal digits of the fingerprint in an id."""
_LONGEST_NAME = 80
"""Characters of the run's name in an id. The job's log file is named after the id."""
_ACTIVE = frozenset({"PENDING", "RUNNING"})


def fingerprint_of(verb: str, experiment: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """The fingerprint of a submission, 16 hexadecimal digits.

    Args:
        verb: such as `train`.
        experiment: the resolved configuration as JSON, without secrets.
        files: the settings files that travel, by path.
    """
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    text = json.dumps([verb, experiment, digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def first_id(verb: str, name: str, fingerprint: str) -> str:
    """The submission id of the first attempt.

    >>> first_id("train", "mine", "0123456789abcdef")
    'laclip-train-mine-01234567'
    """
    return f"laclip-{verb}-{name[:_LONGEST_NAME]}-{fingerprint[:_ID_DIGITS]}"


@dataclass(frozen=True)
class Attempt:
    """The job that a submission becomes, or attaches to."""

    submission_id: str
    attaches: bool
    """Whether the job waits or runs already."""
    before: tuple[str, str] | None = None
    """The id and the status of the attempt before a new one."""


def choose_attempt(first: str, statuses: Mapping[str, str]) -> Attempt:
    """Attach to the newest attempt if it waits or runs, else begin the next one: `ID`, `ID-2`, `ID-3`.

    Args:
        first: the id of the first attempt.
        statuses: of all jobs that the cluster remembers, by submission id.
    """
    pattern = re.compile(rf"{re.escape(first)}(?:-(?P<number>[1-9]\d*))?")
    found = {
        int(match["number"] or 1): submission_id
        for submission_id in statuses
        if (match := pattern.fullmatch(submission_id)) is not None
    }
    if active := [number for number, submission_id in found.items() if statuses[submission_id] in _ACTIVE]:
        return Attempt(found[max(active)], attaches=True)
    if not found:
        return Attempt(first, attaches=False)
    newest = max(found)
    return Attempt(f"{first}-{newest + 1}", attaches=False, before=(found[newest], statuses[found[newest]]))
