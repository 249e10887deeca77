"""The training loop of one Ray Train worker.

Guarantees: a step sees the whole global batch (features are gathered); a checkpoint holds the position of all
workers merged, as of the step it was made at; counts in metrics and checkpoints are sums over workers.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.data.augment import FALLBACKS, TextSource
from laclip_ray.data.schedule import Position
from laclip_ray.data.stream import Consumption
from laclip_ray.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from laclip_ray.training.loss import build_loss
from laclip_ray.training.model import ModelSpec, clamp_logit_scale, create_model, normalise
from laclip_ray.training.optim import build_optimiser, learning_rate, set_learning_rate

_METRICS_FLUSH_S = 20.0


@dataclass(frozen=True)
class LoopInput:
    """What every worker is given."""

    experiment: Experiment
    model: ModelSpec
    total_steps: int
    """Steps of the whole run, if no image is skipped: what the learning rate is planned for."""
    samples_per_epoch: int
    lineage: dict[str, Any]


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

    model = create_model(given.model, given.experiment.seed).to(device)
    optimiser = build_optimiser(model, train)
    state = TrainingState()
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as directory:
            state = load_checkpoint(Path(directory), model, optimiser, device)
    taken = Consumption(state.position)
    stepper = Stepper(given, model, optimiser, device, world_size)
    metrics = MetricsLog(given, state.step) if rank == 0 else None
    window = Window(state.step)

    batches = prefetched_batches(ray.train.get_dataset_shard("train"), given.experiment, world_size)
    saved_step = state.step
    step = state.step
    started_s = time.monotonic()
    for batch in batches:
        window.waiting_s += time.monotonic() - started_s
        loss = stepper.step(batch, step)
        taken.add(batch)
        step += 1
        window.add(loss)
        if step % train.log_every_steps == 0 or step == given.total_steps:
            merged = merge(state, taken, step)
            row = window.report(step, given, merged, stepper)
            if metrics is not None:
                metrics.append(row)
        if step % train.checkpoint.every_steps == 0:
            report(given, model, optimiser, merge(state, taken, step), rank, metrics)
            saved_step = step
        started_s = time.monotonic()
    if step != saved_step or step == state.step == 0:
        report(given, model, optimiser, merge(state, taken, step), rank, metrics)
    if metrics is not None:
        metrics.close()


def prefetched_batches(shard: Any, experiment: Experiment, world_size: int) -> Iterator[dict[str, Any]]:
    """This worker's batches, all of the same size; a last incomplete one is dropped."""
    stream = experiment.stream
    shuffled = stream.order == "fast" and stream.shuffle_buffer_rows
    batches: Iterator[dict[str, Any]] = iter(
        shard.iter_batches(
            batch_size=experiment.train.batch_size // world_size,
            batch_format="numpy",
            prefetch_batches=stream.prefetch_batches,
            drop_last=True,
            local_shuffle_buffer_size=stream.shuffle_buffer_rows if shuffled else None,
            local_shuffle_seed=experiment.seed if shuffled else None,
        )
    )
    return batches


class Stepper:
    """One optimiser step on one batch."""

    def __init__(
        self,
        given: LoopInput,
        model: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        device: torch.device,
        world_size: int,
    ) -> None:
        self._given = given
        self._model = model
        self._optimiser = optimiser
        self._device = device
        self._loss = build_loss()
        self._wrapped: torch.nn.Module = model
        if world_size > 1:
            self._wrapped = torch.nn.parallel.DistributedDataParallel(
                model, device_ids=[device] if device.type == "cuda" else None
            )
        precision = given.experiment.train.precision
        self._autocast = precision == "bf16" or (precision == "auto" and device.type == "cuda")

    @property
    def logit_scale(self) -> float:
        """The factor on the cosine similarities."""
        scale = self._model.logit_scale
        assert isinstance(scale, torch.Tensor)
        return float(scale.detach().exp())

    def step(self, batch: Mapping[str, np.ndarray], step: int) -> torch.Tensor:
        """Train on a batch (columns of `data.stream.Batch`) and return the loss, still on the device."""
        train = self._given.experiment.train
        set_learning_rate(self._optimiser, learning_rate(step, self._given.total_steps, train))
        pixels = torch.as_tensor(np.ascontiguousarray(batch["image"])).to(self._device, non_blocking=True)
        tokens = torch.as_tensor(np.ascontiguousarray(batch["tokens"])).to(self._device, non_blocking=True)
        images = normalise(pixels, self._given.model.image)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            features = self._wrapped(images, tokens)
            loss: torch.Tensor = self._loss(
                features["image_features"], features["text_features"], features["logit_scale"]
            )
        loss.backward()
        if train.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), train.gradient_clip_norm)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        clamp_logit_scale(self._model)
        return loss.detach()


def merge(start: TrainingState, taken: Consumption, step: int) -> TrainingState:
    """The state of the whole run: where it started, and what all workers have taken since."""
    mine: dict[str, Any] = {
        "position": taken.position.to_json(),
        "sources": dict(taken.sources),
        "skipped": dict(taken.skipped),
        "skipped_names": taken.skipped_names,
    }
    parts: list[dict[str, Any]] = [mine]
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        parts = [{} for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(parts, mine)
    position = Position.from_json(parts[0]["position"])
    sources, skipped = Counter(start.sources), Counter(start.skipped)
    names = {reason: list(ids) for reason, ids in start.skipped_names.items()}
    for part in parts:
        position.merge(Position.from_json(part["position"]))
        sources.update(part["sources"])
        skipped.update(part["skipped"])
        for reason, ids in part["skipped_names"].items():
            names[reason] = [*names.get(reason, []), *ids][:20]
    return TrainingState(step, sum(sources.values()), position, dict(sources), dict(skipped), names)


def text_shares(sources: Mapping[int, int], p: float) -> dict[str, Any]:
    """The p asked for, the share of samples that showed a rewrite, and the fallbacks by reason."""
    total = sum(sources.values())
    return {
        "p": p,
        "p_effective": sources.get(TextSource.REWRITE, 0) / total if total else 0.0,
        "fallbacks": {source.name.lower(): sources.get(source, 0) for source in FALLBACKS},
    }


class Window:
    """Sums since the last line of metrics."""

    def __init__(self, step: int) -> None:
        self._losses: list[torch.Tensor] = []
        self._started_s = time.monotonic()
        self.waiting_s = 0.0

    def add(self, loss: torch.Tensor) -> None:
        """Add a step's loss."""
        self._losses.append(loss)

    def report(self, step: int, given: LoopInput, merged: TrainingState, stepper: Stepper) -> dict[str, Any]:
        """One line of metrics; begins the next window."""
        elapsed_s = time.monotonic() - self._started_s
        train = given.experiment.train
        row = {
            "step": step,
            "epoch": merged.samples / given.samples_per_epoch,
            "samples": merged.samples,
            "loss": float(torch.stack(self._losses).mean()),
            "learning_rate": learning_rate(step - 1, given.total_steps, train),
            "logit_scale": stepper.logit_scale,
            **text_shares(merged.sources, given.experiment.text.p),
            "skipped": merged.skipped,
            "images_per_s": len(self._losses) * train.batch_size / elapsed_s,
            "waiting_share": self.waiting_s / elapsed_s,
        }
        self._losses, self._started_s, self.waiting_s = [], time.monotonic(), 0.0
        return row


class MetricsLog:
    """`metrics.jsonl` and TensorBoard events below `train.output`, written by rank 0.

    After a restart the lines of steps that are done again are dropped, so that the file holds each step once.
    """

    def __init__(self, given: LoopInput, from_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        output = given.experiment.train_output
        self._url = storage.join(output, "metrics.jsonl")
        rows = storage.read_bytes(self._url).decode().splitlines() if storage.exists(self._url) else []
        self._rows = [row for row in map(json.loads, rows) if row["step"] <= from_step]
        self._flushed_s = time.monotonic()
        self._board = SummaryWriter(storage.join(output, "tensorboard"), purge_step=from_step)

    def append(self, row: dict[str, Any]) -> None:
        """Add a line, and print it."""
        self._rows.append(row)
        for name in ("loss", "learning_rate", "logit_scale", "p_effective", "images_per_s", "waiting_share"):
            self._board.add_scalar(f"train/{name}", row[name], row["step"])
        print(
            f"step {row['step']}  epoch {row['epoch']:.2f}  loss {row['loss']:.4f}  p {row['p']:g} "
            f"(effective {row['p_effective']:.3f})  {row['images_per_s']:.0f} images/s  "
            f"waiting {row['waiting_share']:.0%}",
            flush=True,
        )
        if time.monotonic() - self._flushed_s > _METRICS_FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Commit the file."""
        storage.write_bytes(self._url, "".join(json.dumps(row) + "\n" for row in self._rows).encode())
        self._board.flush()
        self._flushed_s = time.monotonic()

    def close(self) -> None:
        """Commit the file and end."""
        self.flush()
        self._board.close()


def report(
    given: LoopInput,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    rank: int,
    metrics: MetricsLog | None,
) -> None:
    """Report to Ray Train, with a checkpoint from rank 0."""
    import ray.train

    summary = {"step": state.step, "samples": state.samples}
    # The name is unique to step and world size: parts of another attempt never stay in a directory.
    name = f"checkpoint-{state.step:08d}-{time.time_ns()}"
    if rank:
        ray.train.report(summary, checkpoint=None, checkpoint_dir_name=_from_rank_zero(name))
        return
    if metrics is not None:
        metrics.flush()
    with tempfile.TemporaryDirectory() as directory:
        save_checkpoint(Path(directory), model, given.model, optimiser, state, given.lineage)
        ray.train.report(
            summary,
            checkpoint=ray.train.Checkpoint.from_directory(directory),
            checkpoint_dir_name=_from_rank_zero(name),
        )


def _from_rank_zero(name: str) -> str:
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return name
    names = [name]
    distributed.broadcast_object_list(names, src=0)
    return names[0]
