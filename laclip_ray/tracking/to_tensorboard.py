"""TensorBoard: `tensorboard/` below the run's output. Tables, config and lineage are texts there."""

from collections.abc import Mapping

from laclip_ray import storage
from laclip_ray.tracking.event_files import EventFiles
from laclip_ray.tracking.markdown import table_text, values_text
from laclip_ray.tracking.tracker import Outcome, Table, TrackedRun
from laclip_ray.tracking.values import dotted


class TensorBoardTracker:
    """Writes event files. A start that repeats steps replaces those of earlier starts."""

    _events: EventFiles
    _step = 0

    def begin(self, run: TrackedRun) -> int:
        """Open a new event file, which drops what earlier ones have for later steps."""
        self._events = EventFiles(storage.join(run.output, "tensorboard"), run.after_step)
        self._step = run.after_step or 0
        if run.after_step is not None:  # else an earlier start wrote them
            self._add_text("config", values_text(dotted(run.config)))
            self._add_text("lineage", values_text(dotted(run.lineage)))
        return self._step

    def _add_text(self, name: str, markdown: str) -> None:
        self._events.add_text(name, markdown, self._step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._step = step
        for name, value in values.items():
            self._events.add(name, value, step)

    def table(self, table: Table) -> None:
        """Add a table as Markdown, without pictures."""
        self._add_text(f"tables/{table.name}", table_text(table))

    def summary(self, values: Mapping[str, float]) -> None:
        """Add the values as a table."""
        self._add_text("summary", values_text(values))

    def flush(self) -> None:
        """Write the file, at a URL as a whole."""
        self._events.flush()

    def end(self, outcome: Outcome) -> None:
        """Write and close the file."""
        self._add_text("outcome", outcome.value)
        self._events.close()
