"""The training loop of one Ray Train worker.

Guarantees: a step sees the whole global batch, because the loss gathers the features of all workers. A checkpoint
holds the merged position of all workers at its step. Counts in metrics and checkpoints are sums over all workers.
"""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from laclip_ray import progress, storage
from laclip_ray.config import Experiment
from laclip_ray.data.consumption import Consumption
from laclip_ray.data.entries import TextSupply
from laclip_ray.data.schedule import Position
from laclip_ray.data.text_choice import TextPolicy, newest_shares, text_shares
from laclip_ray.models.building import create_model
from laclip_ray.models.specs import ModelSpec
from laclip_ray.progress.messages import TrainingStart, TrainingStep
from laclip_ray.tracking.tracker import Outcome
from laclip_ray.training.batches import made_ahead, prefetched_batches, worker_batch_size
from laclip_ray.training.checkpoint import TrainingState, export_model, load_checkpoint
from laclip_ray.training.loss import ContrastiveLoss
from laclip_ray.training.metrics import MetricsLog
from laclip_ray.training.mixing import Mixing, count_shards
from laclip_ray.training.optim import build_optimiser, learning_rate
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.preemption import PreemptionNotice, Reaction
from laclip_ray.training.saver import Saver
from laclip_ray.training.step import Stepper
from laclip_ray.training.tracked import track_training
from laclip_ray.training.worker_reports import NonFinite, RunReport, Window, gather, merge_reports

logger = logging.getLogger(__name__)

_RESTART_GRACE_S, _RESTART_POLL_S = 30.0, 0.2
"""How long workers that have handed over wait beyond the deadline before they train on, and how often they look."""


_TELL_PERIOD_S = 1.0
"""Time between two messages about the newest step."""


@dataclass(frozen=True)
class LoopInput:
    """The input of every worker."""

    experiment: Experiment
    model: ModelSpec
    text: TextPolicy
    shard_count: int
    total_steps: int
    """Steps of the whole run if no image is skipped. The learning rate follows it."""
    samples_per_epoch: int
    lineage: Mapping[str, Any]
    """The configuration and the rewrite sets, for checkpoints."""
    supply: TextSupply | None = None
    """Rewriting that runs beside training."""
    last_step: int | None = None
    """Training pauses after this step, with a checkpoint. None: at the end of the schedule."""
    export_steps: Mapping[int, int] = field(default_factory=dict)
    """After these steps the model is exported; the value is the epoch that ends there."""
    is_watched: bool = False
    """Whether the driver shows the progress."""

    @property
    def paths(self) -> RunPaths:
        """The files of the run."""
        return RunPaths(self.experiment.train_output)


def train_worker(config: dict[str, LoopInput]) -> None:
    """Train in one Ray Train worker; Ray Train's entry point."""
    import ray.train
    import ray.train.torch

    inputs = config["input"]
    experiment, train, stream = inputs.experiment, inputs.experiment.train, inputs.experiment.stream
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    if inputs.is_watched and rank == 0:
        progress.forward()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // context.get_local_world_size()))

    # First, so reading starts while the model is built.
    batch_size = worker_batch_size(train, world_size, stream.order)
    rows = prefetched_batches(ray.train.get_dataset_shard("train"), stream, experiment.seed, batch_size)
    batches = made_ahead(rows, stream.prefetch_batches)

    model = create_model(inputs.model, experiment.seed).to(device)
    optimiser = build_optimiser(model, train)
    state = TrainingState()
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as directory, _reported(inputs.paths, checkpoint.path, rank):
            state = load_checkpoint(Path(directory), model, optimiser, device)
    loss = ContrastiveLoss(train.loss, experiment.text.mode, train.local_loss)
    stepper = Stepper(model, inputs.model, optimiser, loss, train, inputs.total_steps, device)
    saver = Saver(
        model, inputs.model, optimiser, train.checkpoint, inputs.text, inputs.lineage, rank=rank, step=state.step
    )
    if rank == 0:
        output, steps = inputs.paths.output, inputs.total_steps
        progress.tell(TrainingStart(output, state.step, steps, train.epochs, world_size))
    TrainingLoop(inputs, model, stepper, saver, state, rank, batch_size * world_size).run(batches)


@contextlib.contextmanager
def _reported(paths: RunPaths, checkpoint: str, rank: int) -> Iterator[None]:
    """Tell the driver of a checkpoint that cannot be loaded; it resumes from the one before."""
    try:
        yield
    except Exception as error:
        if not rank:
            note = {"name": storage.name_of(checkpoint), "reason": f"{type(error).__name__}: {error}"}
            storage.write_json(paths.unloadable, note)
        raise


class TrainingLoop:
    """Trains one worker's model, and agrees with the other workers on totals, log lines and checkpoints."""

    def __init__(
        self,
        inputs: LoopInput,
        model: torch.nn.Module,
        stepper: Stepper,
        saver: Saver,
        state: TrainingState,
        rank: int,
        global_batch_size: int,
    ) -> None:
        """Start or resume from `state`."""
        self._inputs = inputs
        self._model = model
        self._stepper = stepper
        self._saver = saver
        self._start = state
        self._rank = rank
        self._global_batch_size = global_batch_size
        self._consumption = Consumption(Position(), inputs.shard_count)
        self._window = Window(global_batch_size)
        self._mixing = Mixing(inputs.shard_count)
        self._has_judged_mixing = False
        self._metrics: MetricsLog | None = None
        if rank == 0:
            rewrite_sets = inputs.lineage["rewrite_sets"]
            trackers = track_training(inputs.experiment, rewrite_sets, inputs.shard_count, state.step)
            self._metrics = MetricsLog(inputs.paths, state.step, trackers)
        self._position = state.position
        """Of all workers, at the newest checkpoint."""
        self._step = state.step
        """Steps done."""
        self._notice = PreemptionNotice(state.step)
        self._told_s = time.monotonic()

    def run(self, batches: Iterable[Mapping[str, np.ndarray]]) -> None:
        """Train until the run's last step, the end of the batches, or a non-finite loss or weight."""
        is_whole = False
        try:
            is_whole = self._train(batches)
            if is_whole:
                self._settle(log=self._window.has_steps, save=self._step != self._saver.saved_step or self._step == 0)
        finally:
            if self._metrics is not None:
                self._metrics.close(Outcome.FINISHED if is_whole else Outcome.FAILED)

    def _train(self, batches: Iterable[Mapping[str, np.ndarray]]) -> bool:
        """Train on the batches; False after a non-finite loss or weight."""
        for batch in self._window.timed(batches):
            self._make_step(batch)
            # Before the checkpoint: a run that resumes from it would not repeat this step, nor the export.
            if self._rank == 0 and self._step in self._inputs.export_steps and self._stepper.has_finite_weights:
                self._export(self._inputs.export_steps[self._step])
            reaction = self._notice.look(self._step, self._saver.is_uploading)
            is_log_due, is_save_due = self._is_log_due(), self._is_save_due() or reaction is not Reaction.NOTHING
            if (is_log_due or is_save_due) and not self._settle(log=is_log_due, save=is_save_due):
                return False
            if self._step == self._inputs.last_step:
                return True
            if reaction is Reaction.HAND_OVER and self._step != self._inputs.total_steps:
                self._wait_for_restart()
        self._export_missed()
        return True

    def _wait_for_restart(self) -> None:
        """Wait until Ray Train ends this process: it restarts the workers at the deadline of a preemption."""
        if self._rank == 0:
            logger.warning(
                "Ray takes a node away in %.0f s. A checkpoint was saved after step %d, and training waits for Ray to "
                "restart its workers",
                self._notice.remaining_s, self._step,
            )  # fmt: skip
        while self._notice.remaining_s > -_RESTART_GRACE_S:
            time.sleep(_RESTART_POLL_S)
        logger.warning("Ray has not restarted this worker, so training continues")

    def _make_step(self, batch: Mapping[str, np.ndarray]) -> None:
        supply = self._inputs.supply
        if self._step == self._start.step and self._rank == 0 and supply is not None:
            supply.record_event("the first step of a start of training")
        loss, is_trained = self._stepper.step(batch, self._step)
        self._consumption.add(batch, is_trained)
        self._mixing.add(batch)
        self._step += 1
        self._window.add(self._step, loss, is_trained, batch["id"])
        self._tell_step()

    def _tell_step(self) -> None:
        """Tell the driver of the newest step, now and then."""
        if self._rank == 0 and (now_s := time.monotonic()) - self._told_s >= _TELL_PERIOD_S:
            self._told_s = now_s
            progress.tell(TrainingStep(self._inputs.paths.output, self._step))

    def _is_log_due(self) -> bool:
        """Whether a log line is due after the newest step; also at an export, whose metrics a sweep reads."""
        inputs, step = self._inputs, self._step
        every = inputs.experiment.train.log_every_steps
        return step % every == 0 or step == inputs.total_steps or step in inputs.export_steps

    def _is_save_due(self) -> bool:
        """Whether a checkpoint is due after the newest step, by the number of steps."""
        return self._step % self._inputs.experiment.train.checkpoint.every_steps == 0

    def _settle(self, log: bool, save: bool) -> bool:
        """Merge the reports of all workers, then log and save as needed.

        Args:
            log: whether to write a log line.
            save: whether to make a checkpoint. One is also made if the newest is too old.

        Returns:
            False if training has to stop, because of a non-finite loss or weight.
        """
        mine = self._window.report(self._consumption, save or self._saver.is_old())
        report = merge_reports(self._start, gather(mine), self._step)
        save = report.is_save_due
        if log:
            self._log(report)
        non_finite = report.non_finite
        if non_finite is None and save and not self._stepper.has_finite_weights:
            non_finite = NonFinite(self._step, [])
        if non_finite is not None:
            # Noted in storage and not raised: Ray Train would take an error for the worker's and retry.
            if self._rank == 0:
                storage.write_json(self._inputs.paths.non_finite, non_finite._asdict())
            return False
        if save:
            self._save(report.state)
        return True

    def _log(self, report: RunReport) -> None:
        row = self._row(report)
        shards = gather(self._mixing.shards())
        row["shards_in_batch"] = count_shards(shards)
        if self._metrics is not None:
            self._judge_mixing(shards)
            supply = self._inputs.supply
            self._metrics.append({**row, **(supply.progress(row["epoch"]) if supply is not None else {})})

    def _judge_mixing(self, shards: list[list[int]]) -> None:
        """Warn once if the batches are poorly mixed."""
        warning = self._mixing.warning(shards, self._global_batch_size, self._inputs.experiment.stream)
        if warning is not None and not self._has_judged_mixing:
            logger.warning("stream: %s", warning)
        self._has_judged_mixing = True

    def _row(self, report: RunReport) -> dict[str, Any]:
        """A line of metrics; starts the next window."""
        inputs, state = self._inputs, report.state
        speed = self._window.close()
        return {
            "step": self._step,
            "unix_time_s": round(time.time(), 3),
            "epoch": state.samples / inputs.samples_per_epoch,
            "samples": state.samples,
            "batch_size": self._global_batch_size,
            "loss": report.loss,
            "learning_rate": learning_rate(self._step - 1, inputs.total_steps, inputs.experiment.train),
            "logit_scale": self._stepper.logit_scale,
            **text_shares(state.shown_counts, inputs.text, state.requested_p),
            **newest_shares(state.shown_counts),
            "skipped": dict(state.skipped.counts),
            "skipped_batches": state.skipped_batches,
            **speed,
        }

    def _save(self, state: TrainingState) -> None:
        """Merge the positions of all workers at rank 0, and make a checkpoint there."""
        parts = gather(self._consumption.position.to_json())
        self._consumption.position = Position()
        if self._rank == 0:
            for part in parts:
                self._position.merge(Position.from_json(part))
        if self._metrics is not None:
            self._metrics.flush()
        self._saver.save(replace(state, position=self._position), self._window.mean_since_save())

    def _export_missed(self) -> None:
        """Make the exports of steps that the batches did not reach, because images were skipped."""
        for step, epoch in self._inputs.export_steps.items():
            if self._rank == 0 and step > self._step:
                self._export(epoch)

    def _export(self, epoch: int) -> None:
        export_model(self._model, self._inputs.model, self._inputs.paths.epoch_export(epoch))
