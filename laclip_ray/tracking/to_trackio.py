"""Trackio: a local store that `trackio show` reads, a self-hosted server (`TRACKIO_SERVER_URL`) or a Hugging Face Space
(`TRACKIO_SPACE_ID`)."""

import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laclip_ray.errors import UserError
from laclip_ray.tracking.tracker import Cell, Outcome, Picture, Table, TrackedRun

logger = logging.getLogger(__name__)

_DIRECTORY = "TRACKIO_DIR"
_SERVERS = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioTracker:
    """One run of Trackio, which knows runs by their names."""

    _run: Any
    _step = 0

    def begin(self, run: TrackedRun) -> int:
        """Begin the run, or continue the one of its name."""
        trackio = _load(run.store)
        self._run = trackio.init(
            project=run.project,
            name=f"{run.label}-{run.id}",
            group=run.group,
            resume="allow",
            config={**run.config, "lineage": run.lineage, "tags": [*run.tags]},
            embed=False,
        )
        # It is the step that `log` would take next; no public call tells it for every kind of store.
        self._step = max(0, self._run._next_step - 1)
        return self._step

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row."""
        self._step = step
        self._run.log({**values}, step=step)

    def table(self, table: Table) -> None:
        """Add the table at the newest step."""
        trackio = _load(None)
        rows = [[_cell(trackio, cell) for cell in row] for row in table.rows]
        self._run.log({f"tables/{table.name}": trackio.Table(columns=[*table.columns], data=rows)}, step=self._step)

    def summary(self, values: Mapping[str, float]) -> None:
        """Add the values at the newest step."""
        self._run.log({f"summary/{name}": value for name, value in values.items()}, step=self._step)

    def flush(self) -> None:
        """Trackio writes twice a second."""

    def end(self, outcome: Outcome) -> None:
        """Finish the run."""
        self._run.finish()


def check(store: str | None) -> None:
    """Refuse a local store without a directory.

    Raises:
        UserError: with the remedy.
    """
    if store is None and not os.environ.get(_DIRECTORY) and not any(map(os.environ.get, _SERVERS)):
        raise UserError(
            f"track.report_to: trackio keeps its runs in a directory, but output is a URL; set {_DIRECTORY} to a "
            f"directory that stays, or {' or '.join(_SERVERS)}"
        )


def _load(store: str | None) -> Any:
    """The package. It reads its directory from the environment when it is imported, once for a process.

    Raises:
        UserError: this process has imported it for another directory.
    """
    given = os.environ.get(_DIRECTORY)
    wanted = given or (store and str(Path(store) / "trackio"))
    if wanted:
        os.environ[_DIRECTORY] = wanted
    import trackio

    if given is None:  # a later run of this process, or of one that it starts, may be of another experiment
        os.environ.pop(_DIRECTORY, None)
    if wanted and Path(wanted) != trackio.utils.TRACKIO_DIR:
        raise UserError(
            f"track.report_to: this process has runs of trackio in {trackio.utils.TRACKIO_DIR} already, so none can go "
            f"to {wanted}; start another process, or set {_DIRECTORY} to one directory for all runs"
        )
    for module in (trackio, trackio.utils, trackio.run):
        module.print = _log  # it prints on each start; threads share standard output, so that is not redirected
    return trackio


def _log(*texts: object, **_: object) -> None:
    logger.debug("%s", " ".join(map(str, texts)))


def _cell(trackio: Any, cell: Cell) -> Any:
    if not isinstance(cell, Picture):
        return cell
    from PIL import Image

    return trackio.Image(Image.open(io.BytesIO(cell.jpeg)))
