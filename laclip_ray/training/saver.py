"""Save checkpoints and report them to Ray Train, which uploads them while training continues."""

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from laclip_ray.config import CheckpointConfig
from laclip_ray.data.text_choice import TextPolicy, text_shares
from laclip_ray.models.specs import ModelSpec
from laclip_ray.training.checkpoint import TrainingState, save_checkpoint
from laclip_ray.training.register import checkpoint_name

_UPLOAD_WAIT_S = 600.0
"""How long a checkpoint waits for the upload of the previous one."""


class Saver:
    """Saves the checkpoints of one worker's run. Rank 0 writes them; all workers report to Ray Train."""

    def __init__(
        self,
        model: torch.nn.Module,
        spec: ModelSpec,
        optimiser: torch.optim.Optimizer,
        checkpoint: CheckpointConfig,
        text: TextPolicy,
        lineage: Mapping[str, Any],
        rank: int,
        step: int,
    ) -> None:
        """Start without an upload in flight.

        Args:
            model: the model in training.
            spec: of the model.
            optimiser: of the model.
            checkpoint: when to save.
            text: how texts are chosen.
            lineage: the configuration and the rewrite sets.
            rank: of this worker.
            step: of the checkpoint that training resumed from; 0 at the start.
        """
        self._model = model
        self._spec = spec
        self._optimiser = optimiser
        self._checkpoint = checkpoint
        self._text = text
        self._lineage = lineage
        self._rank = rank
        self._saved_s = time.monotonic()
        self._uploading: Path | None = None
        self.saved_step = step
        """The step of the newest checkpoint."""

    def is_old(self) -> bool:
        """Whether the newest checkpoint is older than `train.checkpoint.every_minutes`."""
        minutes = self._checkpoint.every_minutes
        return minutes is not None and time.monotonic() - self._saved_s > 60 * minutes

    @property
    def is_uploading(self) -> bool:
        """Whether this worker's newest checkpoint is being uploaded."""
        return self._uploading is not None and self._uploading.exists()

    def save(self, state: TrainingState, loss: float | None) -> None:
        """Report to Ray Train, with a checkpoint from rank 0. Returns once the checkpoint is on the local disk.

        Args:
            state: what training resumes from.
            loss: this worker's mean since the previous checkpoint.
        """
        import ray.train

        self._saved_s, self.saved_step = time.monotonic(), state.step
        # Not infinity: Ray writes it as null, which it cannot compare with numbers.
        metrics = {"step": state.step, "samples": state.samples, "loss": sys.float_info.max if loss is None else loss}
        if self._rank:
            ray.train.report(metrics, checkpoint=None)
            return
        self._wait_for_upload()
        directory = Path(tempfile.mkdtemp())  # Ray removes it after the upload
        self._uploading = directory
        shares = text_shares(state.shown_counts, self._text, state.requested_p)
        save_checkpoint(directory, self._model, self._spec, self._optimiser, state, self._lineage, shares)
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(str(directory)),
            checkpoint_dir_name=checkpoint_name(state.step, time.time_ns()),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )

    def _wait_for_upload(self) -> None:
        """Wait for the previous upload. Uploads slower than training would fill the disk."""
        while self.is_uploading:
            if time.monotonic() - self._saved_s >= _UPLOAD_WAIT_S:
                return
            time.sleep(0.1)
