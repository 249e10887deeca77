"""A tracker that records what it is told, and fails or hangs where a test says so."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.tracking.tracker import Outcome, Table, TrackedRun
from laclip_ray.tracking.trackers import Trackers

RUN = TrackedRun("0123456789ab", "train", "project", "name", "group", (), "out/train", "out/tracking", {}, {}, 0)


@dataclass
class Recorder:
    """A tracker that holds steps up to `last_step` when it begins."""

    last_step: int = 0
    fails_at: frozenset[str] = frozenset()
    """Calls that raise, by name; `scalars 3` fails at step 3."""
    blocks_until: threading.Event | None = None
    """Each call waits for it."""
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def _called(self, name: str, *details: Any) -> None:
        if self.blocks_until is not None:
            self.blocks_until.wait()
        self.calls.append((name, *details))
        if {name, f"{name} {details[0] if details else ''}"} & self.fails_at:
            raise OSError("the tracker is away")

    def begin(self, run: TrackedRun) -> int:
        self._called("begin", run)
        return self.last_step

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._called("scalars", step, dict(values))

    def table(self, table: Table) -> None:
        self._called("table", table)

    def summary(self, values: Mapping[str, float]) -> None:
        self._called("summary", dict(values))

    def flush(self) -> None:
        self._called("flush")

    def end(self, outcome: Outcome) -> None:
        self._called("end", outcome)

    @property
    def steps(self) -> list[int]:
        """The steps that it took."""
        return [call[1] for call in self.calls if call[0] == "scalars"]

    @property
    def names(self) -> list[str]:
        """The calls, by name."""
        return [call[0] for call in self.calls]


def begun(**recorders: Recorder) -> Trackers:
    """Trackers that tell these recorders of `RUN`."""
    return Trackers(RUN, {name: lambda each=each: each for name, each in recorders.items()})  # type: ignore[misc]
