"""The training loop of one Ray Train worker.

Guarantees: a step sees the whole global batch (features are gathered); a checkpoint holds the position of all
workers merged, as of the step it was made at; counts in metrics and checkpoints are sums over workers.
"""

import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from laclip_ray import storage
from laclip_ray.config import Experiment, StreamOrder, TrainConfig
from laclip_ray.data.consumption import Consumption
from laclip_ray.data.entries import TextSupply
from laclip_ray.data.schedule import Position
from laclip_ray.data.shuffle import shuffled
from laclip_ray.data.text_choice import TextPolicy, newest_shares, text_shares
from laclip_ray.models.building import create_model
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, save_model
from laclip_ray.models.specs import ModelSpec
from laclip_ray.randomness import generator
from laclip_ray.tally import Tally
from laclip_ray.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from laclip_ray.training.loss import ContrastiveLoss
from laclip_ray.training.metrics import MetricsLog
from laclip_ray.training.optim import build_optimiser, learning_rate
from laclip_ray.training.step import Stepper

_UPLOAD_WAIT_S = 600.0
"""How long a checkpoint waits for the upload of the one before."""


@dataclass(frozen=True)
class LoopInput:
    """What every worker is given."""

    experiment: Experiment
    model: ModelSpec
    text: TextPolicy
    shard_count: int
    total_steps: int
    """Steps of the whole run, if no image is skipped: what the learning rate is planned for."""
    samples_per_epoch: int
    lineage: dict[str, Any]
    supply: TextSupply | None = None
    """Rewriting that goes on beside training."""
    last_step: int | None = None
    """Training pauses after this step, with a checkpoint. None: it goes on to the end."""
    export_steps: Mapping[int, int] = field(default_factory=dict)
    """By the step after which the model is exported, the epoch that it has reached then."""


def non_finite_url(train_output: str) -> str:
    """Where a run that stops because its loss is not finite says so, with the ids of the batch."""
    return storage.join(train_output, "non_finite_loss.json")


def epoch_export(train_output: str, epoch: int) -> str:
    """Where the model is exported after an epoch, by `train.export_every_epochs`."""
    return storage.join(train_output, "epochs", f"epoch-{epoch:05d}")


def train_worker(config: dict[str, LoopInput]) -> None:
    """Ray Train's entry point in each worker."""
    import ray.train
    import ray.train.torch

    given = config["input"]
    train = given.experiment.train
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // context.get_local_world_size()))

    batch_size = worker_batch_size(train, world_size, given.experiment.stream.order)
    rows = prefetched_batches(ray.train.get_dataset_shard("train"), given.experiment, batch_size)
    batches = made_ahead(rows, given.experiment.stream.prefetch_batches)
    model = create_model(given.model, given.experiment.seed).to(device)
    optimiser = build_optimiser(model, train)
    state = TrainingState()
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as directory:
            state = load_checkpoint(Path(directory), model, optimiser, device)
    taken = Consumption(Position(), given.shard_count)
    loss = ContrastiveLoss(train.loss, given.experiment.text.mode, train.local_loss)
    stepper = Stepper(model, given.model, optimiser, loss, train, given.total_steps, device)
    metrics = MetricsLog(given.experiment.train_output, state.step) if rank == 0 else None
    window = Window(batch_size * world_size)
    saver = Saver(given, model, optimiser, rank, state.step)
    position = state.position  # of all workers, as of the last checkpoint
    step = state.step

    def settle(is_log_due: bool, is_save_due: bool) -> bool:
        """Agree with all workers on what was done so far, log it, save it; False if training is to stop."""
        merged = merge(state, gather(window.report(taken, is_save_due or saver.is_old())), step)
        is_save_due = merged.is_save_due
        if is_log_due:
            row = window.row(step, given, merged, stepper)
            if metrics is not None:
                metrics.append({**row, **(given.supply.progress(row["epoch"]) if given.supply is not None else {})})
            if not saver.saved_for_preemption and ray.train.get_preemption_info() is not None:
                saver.saved_for_preemption = is_save_due = True
        non_finite = merged.non_finite
        if non_finite is None and is_save_due and not stepper.has_finite_weights:
            non_finite = {"step": step, "ids": []}
        if non_finite is not None:
            # Said in storage and not by an error, which would be taken for a worker's and tried again.
            if rank == 0:
                storage.write_json(non_finite_url(given.experiment.train_output), non_finite)
            return False
        if is_save_due:
            parts = gather(taken.position.to_json())
            taken.position = Position()
            for part in parts if rank == 0 else ():
                position.merge(Position.from_json(part))
            saver.save(replace(merged.state, position=position), window.mean_since_save(), metrics)
        return True

    is_going_on = True
    started_s = time.monotonic()
    for batch in batches:
        window.waiting_s += time.monotonic() - started_s
        if step == state.step and rank == 0 and given.supply is not None:
            given.supply.record_event("the first step of a start of training")
        batch_loss, is_trained = stepper.step(batch, step)
        taken.add(batch, is_trained)
        step += 1
        window.add(step, batch_loss, is_trained, batch["id"])
        is_export_due = step in given.export_steps
        is_log_due = step % train.log_every_steps == 0 or step == given.total_steps or is_export_due
        is_save_due = step % train.checkpoint.every_steps == 0
        # Before the checkpoint, from which this step would not be made again.
        if is_export_due and rank == 0 and stepper.has_finite_weights:
            _export(model, given, epoch_export(given.experiment.train_output, given.export_steps[step]))
        if is_log_due or is_save_due:
            is_going_on = settle(is_log_due, is_save_due)
            if not is_going_on:
                break
        if step == given.last_step:
            break
        started_s = time.monotonic()
    else:  # fewer steps than planned, where images were skipped
        for epoch in (epoch for due, epoch in given.export_steps.items() if due > step and rank == 0):
            _export(model, given, epoch_export(given.experiment.train_output, epoch))
    if is_going_on:
        settle(window.has_steps, step != saver.saved_step or step == 0)
    if metrics is not None:
        metrics.close()


def _export(model: torch.nn.Module, given: LoopInput, url: str) -> None:
    """Write the model as open_clip loads it; its configuration last, so that an export with one is whole."""
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory), model, given.model)
        for name in (MODEL_FILE, CONFIG_FILE):
            storage.write_bytes(storage.join(url, name), (Path(directory) / name).read_bytes())


def worker_batch_size(train: TrainConfig, world_size: int, order: StreamOrder) -> int:
    """A worker's share of the global batch, rounded down.

    In exact order, where the workers cannot share it equally, the share is a multiple of 32 if that is not nothing, so
    that shares of several world sizes have a divisor in common (see `StreamSpec.dealt_rows`).
    """
    share, rest = divmod(train.batch_size, world_size)
    return share - share % 32 if order == "exact" and rest and share >= 32 else share


def prefetched_batches(shard: Any, experiment: Experiment, batch_size: int) -> Iterator[dict[str, Any]]:
    """This worker's batches, all of `batch_size`; a last incomplete one is dropped."""
    stream = experiment.stream
    is_shuffled = stream.order == "fast" and stream.shuffle_buffer_rows > 0
    batches: Iterator[dict[str, Any]] = iter(
        shard.iter_batches(
            batch_size=None if is_shuffled else batch_size,  # None: blocks, as they come
            batch_format="numpy",
            prefetch_batches=stream.prefetch_batches,
            drop_last=not is_shuffled,
        )
    )
    if not is_shuffled:
        return batches
    return shuffled(batches, batch_size, stream.shuffle_buffer_rows, generator("local_shuffle", experiment.seed))


def made_ahead(batches: Iterator[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """The same batches, made by a thread that begins now and is up to `count` batches ahead.

    An error is raised where the batch that it prevents is asked for.
    """
    ready: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue(count)

    def make() -> None:
        try:
            for batch in batches:
                ready.put(batch)
        except Exception as error:  # noqa: BLE001 - raised again where it belongs
            ready.put(error)
        else:
            ready.put(None)

    threading.Thread(target=make, daemon=True, name="batches").start()

    def taken() -> Iterator[dict[str, Any]]:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    return taken()


def gather(mine: dict[str, Any]) -> list[dict[str, Any]]:
    """What each worker gives, by rank."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return [mine]
    parts: list[dict[str, Any]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, mine)
    return parts


@dataclass(frozen=True)
class Merged:
    """What all workers together have done."""

    state: TrainingState
    """All but the position, which is only merged for a checkpoint."""
    loss: float | None
    """The mean since the last line; None where no step was made."""
    is_save_due: bool
    """In the first worker's opinion."""
    non_finite: dict[str, Any] | None
    """The first step whose loss is not finite, and the ids of its batch."""


def merge(start: TrainingState, parts: Sequence[Mapping[str, Any]], step: int) -> Merged:
    """What the whole run has done: where it started, and what all workers (`Window.report`) have taken since."""
    counts_by_epoch = {epoch: Counter(counts) for epoch, counts in start.shown_counts.items()}
    skipped = Tally()
    skipped.merge(start.skipped, start.skipped_names)
    for part in parts:
        for epoch, counts in part["shown_counts"].items():
            counts_by_epoch.setdefault(epoch, Counter()).update(counts)
        skipped.merge(part["skipped"], part["skipped_names"])
    shown_counts = {epoch: dict(counts) for epoch, counts in sorted(counts_by_epoch.items())}
    samples = sum(sum(counts.values()) for counts in shown_counts.values())
    skipped_batches = start.skipped_batches + parts[0]["skipped_batches"]
    state = TrainingState(step, samples, start.position, shown_counts, dict(skipped.counts), skipped.names, skipped_batches)
    losses = [part["loss"] for part in parts if part["loss"] is not None]
    found = [part["non_finite"] for part in parts if part["non_finite"] is not None]
    non_finite = None
    if found:
        first = min(each["step"] for each in found)
        ids = [sample_id for each in found if each["step"] == first for sample_id in each["ids"]]
        non_finite = {"step": first, "ids": ids}
    return Merged(state, sum(losses) / len(losses) if losses else None, parts[0]["is_save_due"], non_finite)


_MAX_SKIPPED_IN_A_ROW = 20
"""Batches that are left out one after another until it is taken for the weights' fault."""


class Window:
    """Sums since the last line of metrics, and since the last checkpoint."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._losses: list[torch.Tensor] = []
        self._ids: list[tuple[int, Any]] = []
        self._unsaved: list[torch.Tensor] = []
        self._skipped_in_a_row: list[tuple[int, Any]] = []
        self._started_s = time.monotonic()
        self.waiting_s = 0.0
        self.skipped_batches = 0
        """Since the worker started."""
        self.has_steps = False
        """Whether a batch was taken since the last line."""

    def add(self, step: int, loss: torch.Tensor, is_trained: bool, ids: Any) -> None:
        """Add the loss of a step (from 1) on the samples `ids`."""
        self.has_steps = True
        if is_trained:
            self._losses.append(loss)
            self._unsaved.append(loss)
            self._ids.append((step, ids))
            self._skipped_in_a_row = []
        else:
            self.skipped_batches += 1
            self._skipped_in_a_row.append((step, ids))

    def non_finite_batch(self) -> dict[str, Any] | None:
        """The first step whose loss is not finite, or too many skipped ones, and its ids; waits for the device."""
        found = None
        if len(self._skipped_in_a_row) >= _MAX_SKIPPED_IN_A_ROW:
            found = self._skipped_in_a_row[0]
        elif self._losses:
            finite = torch.isfinite(torch.stack(self._losses)).tolist()
            found = None if all(finite) else self._ids[finite.index(False)]
        return {"step": found[0], "ids": np.asarray(found[1]).tolist()} if found is not None else None

    def report(self, taken: Consumption, is_save_due: bool) -> dict[str, Any]:
        """What one worker tells the others."""
        return {
            "shown_counts": {epoch: dict(counts) for epoch, counts in taken.shown_counts.items()},
            "skipped": dict(taken.skipped.counts),
            "skipped_names": taken.skipped.names,
            "skipped_batches": self.skipped_batches,
            "loss": float(torch.stack(self._losses).mean()) if self._losses else None,
            "non_finite": self.non_finite_batch(),
            "is_save_due": is_save_due,
        }

    def row(self, step: int, given: LoopInput, merged: Merged, stepper: Stepper) -> dict[str, Any]:
        """One line of metrics; begins the next window."""
        elapsed_s = time.monotonic() - self._started_s
        state = merged.state
        row = {
            "step": step,
            "unix_time_s": round(time.time(), 3),
            "epoch": state.samples / given.samples_per_epoch,
            "samples": state.samples,
            "batch_size": self._batch_size,
            "loss": merged.loss,
            "learning_rate": learning_rate(step - 1, given.total_steps, given.experiment.train),
            "logit_scale": stepper.logit_scale,
            **text_shares(state.shown_counts, given.text),
            **newest_shares(state.shown_counts),
            "skipped": state.skipped,
            "skipped_batches": state.skipped_batches,
            "images_per_s": len(self._losses) * self._batch_size / elapsed_s,
            "waiting_share": self.waiting_s / elapsed_s,
        }
        self._losses, self._ids, self._started_s, self.waiting_s = [], [], time.monotonic(), 0.0
        self.has_steps = False
        return row

    def mean_since_save(self) -> float | None:
        """This worker's mean loss of the steps since this was asked last."""
        mean = float(torch.stack(self._unsaved).mean()) if self._unsaved else None
        self._unsaved = []
        return mean


class Saver:
    """Checkpoints, uploaded beside training."""

    def __init__(
        self, given: LoopInput, model: torch.nn.Module, optimiser: torch.optim.Optimizer, rank: int, step: int
    ) -> None:
        self._given = given
        self._model = model
        self._optimiser = optimiser
        self._rank = rank
        self._saved_s = time.monotonic()
        self._uploading = Path(tempfile.gettempdir(), "laclip-nothing-is-uploaded")
        self.saved_step = step
        """The step of the newest checkpoint."""
        self.saved_for_preemption = False
        """Whether a checkpoint was made since nodes were announced to go."""

    def is_old(self) -> bool:
        """Whether it is time for a checkpoint by the clock."""
        minutes = self._given.experiment.train.checkpoint.every_minutes
        return minutes is not None and time.monotonic() - self._saved_s > 60 * minutes

    def save(self, state: TrainingState, loss: float | None, metrics: MetricsLog | None) -> None:
        """Report to Ray Train, with a checkpoint from rank 0; returns when it is written to local disk."""
        import ray.train

        self._saved_s, self.saved_step = time.monotonic(), state.step
        # Not infinity, which Ray writes as null, and then cannot compare.
        summary = {"step": state.step, "samples": state.samples, "loss": sys.float_info.max if loss is None else loss}
        if self._rank:
            ray.train.report(summary, checkpoint=None)
            return
        if metrics is not None:
            metrics.flush()
        while self._uploading.exists() and time.monotonic() - self._saved_s < _UPLOAD_WAIT_S:
            time.sleep(0.1)  # uploads that are slower than training would fill the disk
        self._uploading = Path(tempfile.mkdtemp())  # removed once it is uploaded
        save_checkpoint(
            self._uploading,
            self._model,
            self._given.model,
            self._optimiser,
            state,
            self._given.lineage,
            text_shares(state.shown_counts, self._given.text),
        )
        ray.train.report(
            summary,
            checkpoint=ray.train.Checkpoint.from_directory(str(self._uploading)),
            # Unique to step and start: parts of another attempt never stay in a directory.
            checkpoint_dir_name=f"checkpoint-{state.step:08d}-{time.time_ns()}",
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )
