"""The progress of a rewriting run in its output, for people who watch it from elsewhere (`laclip status`).

The driver writes `progress.json` when a run begins and at most every 30 s, and removes it when `summary.json` has the
same counts. A file that is left belongs to a run that has not ended, or was killed.

Guarantees: one small file, for any number of shards. A file that cannot be written is reported once, and never
stops rewriting.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from laclip_ray import storage
from laclip_ray.rewriting.storing.statistics import Statistics

logger = logging.getLogger(__name__)

PROGRESS_FILE = "progress.json"
"""Below `rewrite.output`."""

FAILURES_KEPT = 20
"""Given-up units named in the file."""

_PERIOD_S = 30.0
"""Time between two writes."""


@dataclass(frozen=True)
class Counts:
    """The committed rewrites of a set."""

    captions: int
    accepted: int
    slots: int
    """Rewrites wanted, accepted or not."""

    @classmethod
    def of(cls, statistics: Statistics) -> "Counts":
        """The counts of a set's shards."""
        return cls(statistics.captions, statistics.accepted, statistics.accepted + statistics.unfilled.total())

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Counts":
        """Undo `asdict`."""
        return cls(int(content["captions"]), int(content["accepted"]), int(content["slots"]))


@dataclass(frozen=True)
class RewritingProgress:
    """The content of the file."""

    shards: int
    """Of the dataset. Each is done once for each prompt set."""
    sets: Mapping[str, Counts]
    """By prompt set."""
    failed: int = 0
    """Units (shard x prompt set) that this run has given up."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """The reason for each of the first of them, by `prompt set/shard`."""

    @classmethod
    def of(cls, shards: int, sets: Mapping[str, Statistics], failures: Mapping[str, str]) -> "RewritingProgress":
        """The progress of a run.

        Args:
            shards: of the dataset.
            sets: by prompt set, the counts of committed shards.
            failures: by `prompt set/shard`, the reason for each given-up unit.
        """
        counts = {name: Counts.of(statistics) for name, statistics in sets.items()}
        return cls(shards, counts, len(failures), dict(list(failures.items())[:FAILURES_KEPT]))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RewritingProgress":
        """Undo `asdict`."""
        sets = {str(name): Counts.from_json(counts) for name, counts in content["sets"].items()}
        failures = {str(name): str(reason) for name, reason in content["failures"].items()}
        return cls(int(content["shards"]), sets, int(content["failed"]), failures)


class ProgressFile:
    """Writes the file of one run."""

    def __init__(self, output: str) -> None:
        """Prepare the file.

        Args:
            output: `rewrite.output`.
        """
        self._url = storage.join(output, PROGRESS_FILE)
        self._written_s: float | None = None
        self._has_failed = False

    @property
    def is_due(self) -> bool:
        """Whether the file has never been written, or is old."""
        return self._written_s is None or time.monotonic() - self._written_s >= _PERIOD_S

    def write(self, progress: RewritingProgress) -> None:
        """Replace the file."""
        self._written_s = time.monotonic()
        try:
            storage.write_json(self._url, asdict(progress))
        except Exception as error:  # noqa: BLE001 - file systems raise many types, and rewriting needs no such file
            if not self._has_failed:
                logger.warning("%s cannot be written, and rewriting continues without it: %s", self._url, error)
            self._has_failed = True

    def remove(self) -> None:
        """Remove the file: the summary says more."""
        try:
            storage.remove(self._url)
        except Exception as error:  # noqa: BLE001 - as above
            logger.warning("%s cannot be removed: %s", self._url, error)
