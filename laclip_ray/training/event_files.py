"""TensorBoard's event files of a run, in a directory or at a URL.

TensorBoard appends to its file with every number. Object stores cannot append, so at a URL the files are written here
and put there whole by `flush`.
"""

import tempfile
from pathlib import Path
from typing import Any

from laclip_ray import storage


class EventFiles:
    """Writes scalars for TensorBoard; each start of a run adds a file of its own."""

    def __init__(self, location: str, from_step: int) -> None:
        """Open a new event file.

        Args:
            location: a directory or URL.
            from_step: TensorBoard drops what earlier starts have written for later steps.

        Raises:
            Exception: of many types, if the directory cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._location = location
        self._scratch = None if storage.is_local(location) else tempfile.TemporaryDirectory(prefix="laclip-events-")
        directory = location.removeprefix("file://") if self._scratch is None else self._scratch.name
        self._writer: Any = SummaryWriter(directory, purge_step=from_step + 1)

    def add(self, name: str, value: float, step: int) -> None:
        """Add a number to a curve."""
        self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write everything that was added."""
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
