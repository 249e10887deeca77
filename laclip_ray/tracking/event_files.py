"""TensorBoard's event files of a run, in a directory or at a URL.

TensorBoard appends to its file with every number. Object stores cannot append, so at a URL the files are written here
and put there whole by `flush`.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from laclip_ray import storage


class EventFiles:
    """Writes scalars and texts for TensorBoard, without torch; each start of a run adds a file of its own."""

    def __init__(self, location: str, from_step: int | None) -> None:
        """Open a new event file.

        Args:
            location: a directory or URL.
            from_step: TensorBoard drops what earlier starts have written for later steps. None: it drops nothing.

        Raises:
            Exception: of many types, if the directory cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._location = location
        self._scratch = None if storage.is_local(location) else tempfile.TemporaryDirectory(prefix="laclip-events-")
        directory = location.removeprefix("file://") if self._scratch is None else self._scratch.name
        self._writer: Any = EventFileWriter(directory)
        self._event = Event
        if from_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=from_step + 1, session_log=start))

    def add(self, name: str, value: float, step: int) -> None:
        """Add a number to a curve."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Summary(value=[Summary.Value(tag=name, simple_value=value)]), step)

    def add_text(self, name: str, markdown: str, step: int) -> None:
        """Add a text, which TensorBoard shows as Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(name, markdown), step)

    def _add(self, summary: Any, step: int) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Write every added point."""
        self._writer.flush()
        if self._scratch is not None:
            for file in sorted(Path(self._scratch.name).iterdir()):
                storage.write_bytes(storage.join(self._location, file.name), file.read_bytes())

    def close(self) -> None:
        """Write everything and close the file."""
        self.flush()
        self._writer.close()
        if self._scratch is not None:
            self._scratch.cleanup()
