"""Weights & Biases. `WANDB_MODE=offline` needs no account; `wandb sync DIRECTORY` sends such runs later.

Each start of an offline run has a directory and a file of its own, with the same id. `wandb sync` joins them in order.
W&B drops steps that go back, and a killed process loses the end of its file. So a start reads the files of earlier
starts, and continues after the last step in them.
"""

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laclip_ray.errors import UserError
from laclip_ray.tracking.tracker import Cell, Outcome, Picture, Table, TrackedRun
from laclip_ray.tracking.wandb_files import last_step

_DIRECTORY = "WANDB_DIR"


class WandbTracker:
    """One run of W&B."""

    _run: Any

    def begin(self, run: TrackedRun) -> int:
        """Begin the run, or continue the one of its id."""
        wandb = _load()
        directory = os.environ.get(_DIRECTORY) or run.store or tempfile.mkdtemp(prefix="laclip-wandb-")
        Path(directory).mkdir(parents=True, exist_ok=True)
        # Pictures of tables wait there for `wandb sync`.
        os.environ.setdefault("WANDB_DATA_DIR", str(Path(directory, "wandb")))
        files = sorted(Path(directory, "wandb").glob(f"*run-*-{run.id}/run-{run.id}.wandb"))
        self._run = wandb.init(
            id=run.id,
            resume="allow",
            reinit="create_new",  # a process may have several runs at once
            project=run.project,
            name=run.label,
            group=run.group,
            job_type=run.kind,
            tags=[*run.tags],
            config={**run.config, "lineage": run.lineage},
            allow_val_change=True,
            dir=directory,
            settings=wandb.Settings(
                # Only what this package tells: neither console output, source code, nor the command line.
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        if self._run.offline:
            return max(map(last_step, files), default=0)
        return max(0, int(self._run.step) - 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row of history."""
        self._run.log({**values}, step=step, commit=True)

    def table(self, table: Table) -> None:
        """Set the table in the summary: a row of history for it would need a step of its own."""
        wandb = _load()
        data = [[_cell(cell) for cell in row] for row in table.rows]
        self._run.summary[f"tables/{table.name}"] = wandb.Table(columns=[*table.columns], data=data)

    def summary(self, values: Mapping[str, float]) -> None:
        """Set values of the summary."""
        self._run.summary.update({**values})

    def flush(self) -> None:
        """W&B writes and sends in its own time."""

    def end(self, outcome: Outcome) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if outcome is Outcome.FINISHED else 1)


def check(store: str | None) -> None:
    """Refuse W&B without credentials, and an offline run without a directory.

    Raises:
        UserError: with the remedy.
    """
    wandb = _load()
    mode = wandb.setup().settings.mode
    if mode in ("offline", "dryrun"):
        if store is None and not os.environ.get(_DIRECTORY):
            raise UserError(
                f"track.report_to: wandb is offline and keeps its runs in files, but output is a URL; set {_DIRECTORY} "
                "to a directory that stays"
            )
    elif mode != "disabled" and not wandb.login(prompt=False, verify=False):
        raise UserError(
            "track.report_to: wandb has no credentials here; set WANDB_API_KEY or run `wandb login`, or set "
            "WANDB_MODE=offline and send the runs later with `wandb sync`"
        )


def _load() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def _cell(cell: Cell) -> Any:
    if not isinstance(cell, Picture):
        return cell
    from PIL import Image

    return _load().Image(Image.open(io.BytesIO(cell.jpeg)))
