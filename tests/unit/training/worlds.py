"""Steps of a small model on one global batch, in any number of gloo processes."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, multiprocessing
from torch.multiprocessing.spawn import start_processes

from laclip_ray.config import LossKind, TextMode, TrainConfig
from laclip_ray.models.building import create_model
from laclip_ray.models.pixels import normalise, offset_and_factor
from laclip_ray.models.specs import ModelSpec, load_model_spec, with_loss
from laclip_ray.training.loss import ContrastiveLoss
from laclip_ray.training.optim import build_optimiser
from laclip_ray.training.step import Stepper
from tests.integration.procedures import free_port

BATCH = 12
CONTEXT = 16
MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 512, "width": 32, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class Case:
    """The settings of a step."""

    kind: LossKind = "clip"
    mode: TextMode = "sample"
    local: bool = False
    micro_batch_size: int | None = None
    compiled: bool = False

    @property
    def slots(self) -> int:
        """Texts per image."""
        return {"sample": 1, "both": 2, "multi": 3}[self.mode]


@dataclass(frozen=True)
class Step:
    """The effect of a step."""

    loss: float
    changes: dict[str, torch.Tensor]
    """The change of each weight. The learning rate is 1, so this is the negative gradient."""


def batch_of(slots: int, size: int = BATCH, seed: int = 1) -> dict[str, np.ndarray]:
    """A global batch of images with up to `slots` distinct texts each."""
    draws = np.random.Generator(np.random.Philox(seed))
    distinct = draws.integers(1, slots + 1, size) if slots > 2 else np.full(size, slots)
    tokens = draws.integers(1, 511, (size, slots, CONTEXT))
    for row, count in enumerate(distinct):
        tokens[row, count:] = tokens[row, 0]
    return {
        "image": draws.integers(0, 256, (size, 32, 32, 3), np.uint8),
        "tokens": tokens,
        "text_count": distinct.astype(np.int16),
        "text_sampled": (draws.random(size) * distinct).astype(np.int16) if slots > 2 else np.zeros(size, np.int16),
    }


def write_model(directory: Path) -> str:
    """Write the small model's config file, and return its path."""
    path = directory / "small.json"
    path.write_text(json.dumps(MODEL))
    return str(path)


def build_stepper(
    model: torch.nn.Module, spec: ModelSpec, case: Case, optimiser: torch.optim.Optimizer, train: TrainConfig
) -> Stepper:
    """A stepper on the CPU."""
    loss = ContrastiveLoss(case.kind, case.mode, case.local)
    return Stepper(model, spec, optimiser, loss, train, 1_000, torch.device("cpu"))


def take_step(model_path: str, case: Case, rows: slice, **options: Any) -> Step:
    """One step on some rows of the global batch, from fresh weights.

    Args:
        model_path: from `write_model`.
        case: the settings.
        rows: of the batch.
        options: further fields of `TrainConfig`.
    """
    spec = with_loss(load_model_spec(model_path), case.kind)
    model = create_model(spec, seed=3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train = TrainConfig(
        loss=case.kind, local_loss=case.local, micro_batch_size=case.micro_batch_size, compile=case.compiled,
        learning_rate=1.0, learning_rate_start=1.0, learning_rate_end=1.0, batch_size=BATCH,
        **options,
    )  # fmt: skip
    stepper = build_stepper(model, spec, case, torch.optim.SGD(model.parameters(), 1.0), train)
    batch = {name: column[rows] for name, column in batch_of(case.slots).items()}
    loss, _ = stepper.step(batch, 0)
    return Step(float(loss), {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()})


@cache
def whole_step(model_path: str, case: Case) -> Step:
    """One step on the whole global batch in this process. Many tests compare with it, so it is made once."""
    return take_step(model_path, case, slice(None))


def _worker(rank: int, world_size: int, port: int, model_path: str, cases: Sequence[Case], directory: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    share = BATCH // world_size
    steps = [asdict(take_step(model_path, case, slice(rank * share, (rank + 1) * share))) for case in cases]
    torch.save(steps, f"{directory}/{rank}.pt")
    distributed.destroy_process_group()


def steps_in_world(world_size: int, cases: Sequence[Case], directory: Path) -> list[list[Step]]:
    """The steps of each case, by process."""
    arguments = (world_size, free_port(), write_model(directory), cases, str(directory))
    # The fork server imports torch and open_clip once for all processes.
    multiprocessing.set_forkserver_preload([__name__, "laclip_ray.light_open_clip"])
    start_processes(_worker, arguments, nprocs=world_size, start_method="forkserver")
    return [
        [Step(**step) for step in torch.load(directory / f"{rank}.pt", weights_only=True)] for rank in range(world_size)
    ]


def differences(one: Step, world: Sequence[Step]) -> dict[str, float]:
    """The largest differences of loss and gradients between one process and several with the same global batch."""
    gradients = 0.0
    for step in world:
        assert step.changes.keys() == one.changes.keys()
        gradients = max(
            gradients, *(float((step.changes[name] - one.changes[name]).abs().max()) for name in one.changes)
        )
    # Each process has the loss of its own rows; their mean is the loss of the batch.
    mean = sum(step.loss for step in world) / len(world)
    return {"loss": abs(mean - one.loss), "gradients": gradients}


def losses_of_both_loops(model_path: str, steps: int) -> list[tuple[float, float]]:
    """The losses of our steps, and of a plain loop with open_clip's loss and torch's optimiser, from equal weights."""
    from open_clip.loss import ClipLoss

    spec = load_model_spec(model_path)
    train = TrainConfig(batch_size=BATCH, learning_rate_end=1e-3, warmup_epochs=0.0, precision="fp32")
    ours = create_model(spec, 0)
    stepper = build_stepper(ours, spec, Case(), build_optimiser(ours, train), train)
    theirs: Any = create_model(spec, 0)
    free: list[torch.Tensor] = []
    decayed: list[torch.Tensor] = []
    for name, weight in theirs.named_parameters():
        (free if weight.ndim < 2 or "ln" in name or "bias" in name else decayed).append(weight)
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.5}, {"params": free, "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.98), eps=1e-8,
    )  # fmt: skip
    loss_of = ClipLoss()
    losses = []
    for step in range(steps):
        batch = batch_of(1, seed=step)
        loss, _ = stepper.step(batch, step)
        images = normalise(torch.as_tensor(batch["image"]), *offset_and_factor(spec.image, torch.device("cpu")))
        made = theirs(images, torch.as_tensor(batch["tokens"][:, 0]))
        expected = loss_of(made["image_features"], made["text_features"], made["logit_scale"])
        expected.backward()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            theirs.logit_scale.clamp_(0, np.log(100))
        losses.append((float(loss), float(expected.detach())))
    return losses
