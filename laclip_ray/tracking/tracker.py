"""The facts a tracker gets, and the calls that each one answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol

_LONGEST_NAME = 100
"""Characters: W&B takes 128, with the kind."""
RunKind = Literal["rewrite", "train", "evaluate", "tune"]
"""The verb that a run belongs to."""


class Outcome(Enum):
    """How a run ended."""

    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class Picture:
    """A small picture in a table."""

    jpeg: bytes


Cell = str | int | float | Picture | None
"""A value in a table."""


@dataclass(frozen=True)
class Table:
    """Rows for people to read."""

    name: str
    """Letters, digits and `_`."""
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """Each as long as `columns`."""

    def without_pictures(self) -> "Table":
        """The table without its columns of pictures."""
        kept = [
            number
            for number in range(len(self.columns))
            if not any(isinstance(row[number], Picture) for row in self.rows)
        ]
        rows = [[row[number] for number in kept] for row in self.rows]
        return Table(self.name, [self.columns[number] for number in kept], rows)


@dataclass(frozen=True)
class TrackedRun:
    """One run, as a tracker begins it."""

    id: str
    """Letters and digits; the same at each start of the run (`identity`)."""
    kind: RunKind
    project: str
    name: str
    """Of the run, without its kind."""
    group: str
    tags: Sequence[str]
    output: str
    """The run's directory or URL. TensorBoard's events are below it."""
    store: str | None
    """A local directory for trackers that keep files. None: outputs are at a URL."""
    config: Mapping[str, Any]
    """As JSON, without secrets."""
    lineage: Mapping[str, Any]
    """The rewrite sets and versions behind the run, as JSON, without secrets."""
    after_step: int | None
    """The run continues after this step, so later ones are out of date. None: it makes no more steps."""

    @property
    def label(self) -> str:
        """The run's name in a tracker.

        >>> run = TrackedRun("3f2a", "train", "p", "demo", "demo", (), "out/train", None, {}, {}, 0)
        >>> run.label
        'demo-train'
        """
        return f"{self.name[:_LONGEST_NAME]}-{self.kind}"


class Tracker(Protocol):
    """Where a run reports to. Every call may raise any error; calls come from one thread."""

    def begin(self, run: TrackedRun) -> int:
        """Begin the run, or continue it if the tracker has one of its id; returns the last step it holds, or 0."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step. Steps rise."""

    def table(self, table: Table) -> None:
        """Add a table, or replace the one of its name."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Set values of the whole run."""

    def flush(self) -> None:
        """Write buffered points, if the tracker allows it."""

    def end(self, outcome: Outcome) -> None:
        """End the run. A later start may continue it."""
