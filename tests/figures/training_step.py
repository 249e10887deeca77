"""Figures of the training step alone, on synthetic data: what each option gives, and open_clip's own step beside it.

On a GPU a ViT-B-16 in bf16 with the largest batch that fits; on a CPU the figures' small model, without bars.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip_train.params import parse_args  # type: ignore[import-untyped]
from open_clip_train.train import train_one_epoch  # type: ignore[import-untyped]
from torch.utils.flop_counter import FlopCounterMode

from laclip_ray.config import Precision, TrainConfig
from laclip_ray.models.building import create_model
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.training.loss import ContrastiveLoss
from laclip_ray.training.optim import build_optimiser
from laclip_ray.training.step import Stepper
from tests.figures.figure import Figure
from tests.figures.training_stream import MODEL

ROUNDS = 3
"""Interleaved rounds of everything; the median counts."""
DEFAULT = "as configured by default"
OPTIONS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "train.compile: true": {"compile": True},
    "train.compile: false": {"compile": False},
    "train.channels_last": {"channels_last": True},
    "train.gradient_checkpointing": {"gradient_checkpointing": True},
    "train.micro_batch_size of a half": {"micro_batch_size": "half"},
    "train.precision: bf16": {"precision": "bf16"},
    "train.precision: fp32, train.micro_batch_size of a half": {"precision": "fp32", "micro_batch_size": "half"},
}
"""Of which `train.compile` is by default true on a GPU and false on a CPU, and `train.precision` bf16 and fp32."""
Steps = Callable[[int], None]
"""Makes so many steps."""


@dataclass(frozen=True)
class Setting:
    """What is measured on."""

    model_name: str
    spec: ModelSpec
    device: torch.device
    precision: Precision
    batch_size: int
    steps: int

    def with_batch(self, batch_size: int) -> "Setting":
        """The same with another batch."""
        return replace(self, batch_size=batch_size)


def step_alone(directory: Path) -> Iterator[Figure]:
    """Show 7: images a second of each option and of open_clip's step; on a GPU its share of the chip's rate."""
    on_gpu, threads = torch.cuda.is_available(), torch.get_num_threads()
    if on_gpu:
        setting = Setting("ViT-B-16", load_model_spec("ViT-B-16"), torch.device("cuda"), "bf16", 64, 10)
        setting = setting.with_batch(_largest_batch(setting))
    else:
        print("no GPU is here: show 7 is measured with a small model on a CPU, and has no bars")
        path = directory / "figures_model.json"
        path.write_text(json.dumps(MODEL))
        open_clip.add_model_config(path)
        setting = Setting(path.stem, load_model_spec(str(path)), torch.device("cpu"), "fp32", 32, 5)
        torch.set_num_threads(1)  # two that wait for each other would measure what else the machine does
    where = f"{setting.model_name}, {torch.cuda.get_device_name() if on_gpu else 'CPU'}"
    yield Figure(7, f"images in a batch, {where}", setting.batch_size, "images")

    sides: dict[str, Callable[[], Steps]] = {"open_clip's step": partial(_theirs, setting)}
    default = {"compile": on_gpu, "precision": setting.precision}
    known: list[dict[str, Any]] = []
    for name, options in OPTIONS.items():
        changes = {key: value for key, value in options.items() if default.get(key) != value}
        if changes not in known:
            known.append(changes)
            sides[name] = partial(_ours, setting, options)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, make in sides.items():
            rates[name].append(_rate(setting, make))
    theirs = rates.pop("open_clip's step")
    ratios = {}
    for name, ours in rates.items():
        ratios[name] = statistics.median(mine / peer for mine, peer in zip(ours, theirs, strict=True))
        yield Figure(7, f"images a second, {name}, {where}", statistics.median(ours), "1/s")
        yield Figure(7, f"against open_clip's step, {name}, {where}", ratios[name], "ratio")
    bars = (1.0, 0.45) if on_gpu else (None, None)
    yield Figure(7, f"the default against open_clip's step, {where}", ratios[DEFAULT], "ratio", at_least=bars[0])
    share = statistics.median(rates[DEFAULT]) * _operations_an_image(setting) / _matrix_rate(setting)
    yield Figure(7, f"share of the measured matrix rate, {where}", share, "share", at_least=bars[1])
    torch.set_num_threads(threads)


def _largest_batch(setting: Setting) -> int:
    """The largest power of two, or a half more than it, of which both steps fit into the GPU's memory."""
    size = setting.batch_size
    while _fits(setting.with_batch(2 * size)):
        size *= 2
    return size * 3 // 2 if _fits(setting.with_batch(size * 3 // 2)) else size


def _fits(setting: Setting) -> bool:
    """A compiled step needs less memory than one that is not."""
    few = replace(setting, steps=1)
    return all(_rate(few, make) for make in (partial(_ours, few, {"compile": False}), partial(_theirs, few)))


def _batch(setting: Setting) -> dict[str, np.ndarray]:
    draws = np.random.Generator(np.random.Philox(7))
    count, size = setting.batch_size, setting.spec.image.size_px
    length = setting.spec.model_cfg["text_cfg"].get("context_length", 77)
    return {
        "image": draws.integers(0, 256, (count, size, size, 3), np.uint8),
        "tokens": draws.integers(1, 49_000, (count, 1, length)),
        "text_count": np.ones(count, np.int16),
        "text_sampled": np.zeros(count, np.int16),
    }


def _ours(setting: Setting, options: dict[str, Any]) -> Steps:
    changes: dict[str, Any] = {
        name: setting.batch_size // 2 if value == "half" else value for name, value in options.items()
    }
    changes = {"precision": setting.precision, **changes}
    train = TrainConfig(epochs=1, batch_size=setting.batch_size, **changes)
    model = create_model(setting.spec, 0).to(setting.device)
    optimiser = build_optimiser(model, train)
    loss = ContrastiveLoss(train.loss, "sample", train.local_loss)
    stepper = Stepper(model, setting.spec, optimiser, loss, train, 1_000_000, setting.device)
    batch = _batch(setting)

    def steps(count: int) -> None:
        for number in range(count):
            stepper.step(batch, number)
        _wait(setting)

    return steps


def _theirs(setting: Setting) -> Steps:
    """open_clip's `train_one_epoch` on batches that are ready: normalised, in pinned memory."""
    precision = "amp_bf16" if setting.precision == "bf16" else "fp32"
    # As its `main` would set them for one process.
    args = parse_args(["--precision", precision, "--device", str(setting.device), "--log-every-n-steps", "1000000"])
    args.distill, args.rank, args.world_size, args.wandb, args.batch_size = False, 0, 1, False, setting.batch_size
    model = open_clip.create_model(setting.model_name, output_dict=True).to(setting.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6)
    ours = _batch(setting)
    pixels = torch.as_tensor(ours["image"]).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    batch = (pixels, torch.as_tensor(ours["tokens"][:, 0]))
    if setting.device.type == "cuda":
        batch = (batch[0].pin_memory(), batch[1].pin_memory())

    def steps(count: int) -> None:
        data = {"train": _Ready(batch, count)}
        train_one_epoch(model, data, open_clip.ClipLoss(), 0, optimiser, None, lambda step: None, None, args)
        _wait(setting)

    return steps


class _Ready:
    """The same batch, as often as asked, in the shape of open_clip's `DataInfo` and of its loader."""

    def __init__(self, batch: tuple[torch.Tensor, torch.Tensor], num_batches: int) -> None:
        self._batch = batch
        self.num_batches = num_batches
        self.num_samples = num_batches * len(batch[0])
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        """Nothing is shuffled."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter([self._batch] * self.num_batches)


def _wait(setting: Setting) -> None:
    if setting.device.type == "cuda":
        torch.cuda.synchronize()


def _rate(setting: Setting, make: Callable[[], Steps]) -> float:
    """Images a second, with nothing else on the device; 0 for what does not fit."""
    try:
        return _timed(setting, make())
    except torch.OutOfMemoryError:
        return 0.0
    finally:  # what was made is gone by now: its memory is free for the next
        torch.cuda.empty_cache()


def _timed(setting: Setting, steps: Steps) -> float:
    steps(3)
    started_s = time.monotonic()
    steps(setting.steps)
    return setting.steps * setting.batch_size / (time.monotonic() - started_s)


def _operations_an_image(setting: Setting) -> float:
    """Floating-point operations of a step for an image and its text; those of matrix products, as is usual."""
    few = setting.with_batch(8)
    steps = _ours(few, {"compile": False})
    with FlopCounterMode(display=False) as counted:
        steps(1)
    return float(counted.get_total_flops()) / few.batch_size


def _matrix_rate(setting: Setting) -> float:
    """Operations a second of a large product of matrices in the same precision, measured here."""
    on_gpu = setting.device.type == "cuda"
    size, kind = (8_192, torch.bfloat16) if on_gpu else (2_048, torch.float32)
    left, right = (torch.randn(size, size, device=setting.device).to(kind) for _ in range(2))
    best_s = float("inf")
    for _ in range(10):
        _wait(setting)
        started_s = time.monotonic()
        for _ in range(10 if on_gpu else 1):
            left @ right
        _wait(setting)
        best_s = min(best_s, (time.monotonic() - started_s) / (10 if on_gpu else 1))
    return 2 * size**3 / best_s
