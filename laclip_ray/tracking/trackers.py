"""The trackers of one run, each in a thread of its own.

Guarantees: no call waits for a tracker, except `end`, for a limited time. The first failure of a tracker is reported,
and the run goes on. A tracker gets no step twice: steps up to the last one that it holds are left out.

Not covered: a step that a tracker failed to take while it held later ones stays missing there.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from laclip_ray.endings.causes import describe
from laclip_ray.redaction import redact
from laclip_ray.tracking.tracker import Cell, Outcome, Table, TrackedRun, Tracker

logger = logging.getLogger(__name__)

_MOST_CALLS = 20_000
"""Calls that wait for a tracker that does not answer; later ones are dropped."""
_END_TIMEOUT_S = {Outcome.FINISHED: 120.0, Outcome.FAILED: 10.0}
"""How long `end` waits for all trackers: a failed run must not keep its cluster."""

MakeTable = Callable[[], Table | None]


class Trackers:
    """Tells several trackers about one run."""

    def __init__(self, run: TrackedRun, builders: Mapping[str, Callable[[], Tracker]]) -> None:
        """Begin the run in each tracker; returns at once.

        Args:
            run: the run.
            builders: by the name of a tracker, for messages, what makes it. Called in its thread.
        """
        self._channels = [_Channel(name, build, run) for name, build in builders.items()]

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        self._tell(lambda channel: channel.add(step, values))

    def catch_up(self, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Add the steps that a tracker lacks of those that the run recorded, in order: it was killed, or is new."""

        def add(channel: "_Channel") -> None:
            for step, values in steps:
                channel.add(step, values)

        self._tell(add)

    def table(self, make: MakeTable, only_first: bool = False) -> None:
        """Add a table, or replace the one of its name.

        Args:
            make: makes it, in another thread; None: there is none.
            only_first: leave it out where the tracker holds earlier steps of this run, and so the table.
        """
        once = _Once(make)

        def add(channel: "_Channel") -> None:
            if (not only_first or not channel.began_with_steps) and (table := once.get()) is not None:
                channel.tracker.table(table)

        self._tell(add)

    def summary(self, values: Mapping[str, float]) -> None:
        """Set values of the whole run."""
        self._tell(lambda channel: channel.tracker.summary(values))

    def flush(self) -> None:
        """Ask each tracker to write its buffer; returns at once."""
        self._tell(lambda channel: channel.tracker.flush())

    def end(self, outcome: Outcome) -> None:
        """End the run in each tracker, and wait for them for a while."""
        deadline_s = time.monotonic() + _END_TIMEOUT_S[outcome]
        for channel in self._channels:
            channel.close(outcome)
        for channel in self._channels:
            channel.wait(deadline_s)

    def _tell(self, call: Callable[["_Channel"], object]) -> None:
        for channel in self._channels:
            channel.put(call)


class _Channel:
    """One tracker, and the calls that wait for it."""

    tracker: Tracker

    def __init__(self, name: str, build: Callable[[], Tracker], run: TrackedRun) -> None:
        self._name = name
        self._calls: queue.Queue[Callable[[_Channel], object] | None] = queue.Queue(_MOST_CALLS)
        self._has_failed = False
        self._last_step = 0
        self.began_with_steps = False
        """Whether the tracker held steps of this run when it began."""
        self._thread = threading.Thread(target=self._work, args=(build, run), daemon=True, name=f"tracker {name}")
        self._thread.start()

    def put(self, call: "Callable[[_Channel], object] | None") -> None:
        """Hand over a call, or None as the last one."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._report(f"{_MOST_CALLS:,} calls wait for it")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step, unless the tracker has it. Only in the thread."""
        if step > self._last_step:
            self.tracker.scalars(step, values)
            self._last_step = step

    def close(self, outcome: Outcome) -> None:
        """Let the thread end the run after the calls that wait."""
        self.put(lambda channel: channel.tracker.end(outcome))
        self.put(None)

    def wait(self, deadline_s: float) -> None:
        """Wait for the thread."""
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._thread.is_alive():
            self._report("it does not answer")

    def _work(self, build: Callable[[], Tracker], run: TrackedRun) -> None:
        try:
            self.tracker = build()
            self._last_step = self.tracker.begin(run)
            self.began_with_steps = self._last_step > 0
        except Exception as error:  # noqa: BLE001 - trackers raise many types
            self._report(describe(error))
            while self._calls.get() is not None:
                pass
            return
        while (call := self._calls.get()) is not None:
            try:
                call(self)
            except Exception as error:  # noqa: BLE001 - trackers raise many types
                self._report(describe(error))

    def _report(self, problem: str) -> None:
        """Report the first failure."""
        if not self._has_failed:
            logger.warning("%s cannot be written, and the run continues without it: %s", self._name, problem)
        self._has_failed = True


class _Once:
    """A table that the first of several threads makes."""

    def __init__(self, make: MakeTable) -> None:
        self._make: MakeTable | None = make
        self._made: Table | None = None
        self._lock = threading.Lock()

    def get(self) -> Table | None:
        """The table, without secrets. None if it cannot be made; the first call says so."""
        with self._lock:
            make, self._make = self._make, None
            if make is not None:
                try:
                    self._made = _redacted(make())
                except Exception as error:  # noqa: BLE001 - damaged data raises many types
                    logger.warning("a table for trackers cannot be made, so they do not get it: %s", describe(error))
            return self._made


def _redacted(table: Table | None) -> Table | None:
    if table is None:
        return None

    def clean(cell: Cell) -> Cell:
        return redact(cell) if isinstance(cell, str) else cell

    return Table(table.name, table.columns, [[clean(cell) for cell in row] for row in table.rows])
