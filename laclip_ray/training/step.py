"""One optimiser step on one batch, whole or in micro-batches.

Micro-batches give the same step as the whole batch (GradCache; Gao et al., 2021, arXiv:2101.06983). A first pass
computes the features of all micro-batches without gradients. The loss of the global batch then gives the gradient of
each feature, and a second pass through the model carries these gradients back to the weights. Every image competes with
every other text of the global batch.

Not covered: batch normalisation (CLIP's ResNets) sees micro-batches, and each of them twice.
"""

import logging
import math
import os
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from laclip_ray.config import TrainConfig
from laclip_ray.models.building import clamp_logit_scale
from laclip_ray.models.layers import use_direct_layers
from laclip_ray.models.pixels import FromPixels
from laclip_ray.models.specs import ModelSpec
from laclip_ray.training.loss import ContrastiveLoss, Features, Texts
from laclip_ray.training.optim import learning_rate, set_learning_rate

logger = logging.getLogger(__name__)


class Stepper:
    """Trains a model, one batch at a time."""

    def __init__(
        self,
        model: torch.nn.Module,
        spec: ModelSpec,
        optimiser: torch.optim.Optimizer,
        loss: ContrastiveLoss,
        train: TrainConfig,
        total_steps: int,
        device: torch.device,
    ) -> None:
        """Prepare the model for training.

        Args:
            model: on its device already.
            spec: of the model.
            optimiser: of the model's weights.
            loss: of the global batch.
            train: the settings.
            total_steps: steps of the whole run; the learning rate follows it.
            device: of the model.
        """
        self._model = model
        self._optimiser = optimiser
        self._loss = loss
        self._train = train
        self._total_steps = total_steps
        self._device = device
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._autocast = train.precision == "bf16" or (train.precision == "auto" and device.type == "cuda")
        if train.gradient_checkpointing:
            _method(model, "set_grad_checkpointing")(True)
        layout = torch.contiguous_format
        if train.channels_last:
            layout = torch.channels_last
            model.to(memory_format=layout)  # type: ignore[call-overload]
        use_direct_layers(model)
        self._wrapped: torch.nn.Module = FromPixels(model, spec.image, device, layout)
        if _world_size() > 1:
            self._wrapped = torch.nn.parallel.DistributedDataParallel(
                self._wrapped,
                device_ids=[device] if device.type == "cuda" else None,
                # Sync running statistics, which differ between workers, but not constant buffers such as causal masks.
                forward_sync_buffers=any(getattr(part, "track_running_stats", False) for part in model.modules()),
                gradient_as_bucket_view=True,
            )
        self._forward: Any = torch.compile(self._wrapped) if is_compiled(train, device) else self._wrapped

    @property
    def has_finite_weights(self) -> bool:
        """Whether the norm of every weight tensor is finite; weights of 1e19 make it infinite. Waits for the device."""
        norms = torch._foreach_norm(list(self._model.parameters()))
        return bool(torch.isfinite(torch.stack(norms)).all())

    @property
    def logit_scale(self) -> float:
        """The factor on the cosine similarities. Waits for the device."""
        scale = self._model.logit_scale
        assert isinstance(scale, torch.Tensor)
        return float(scale.detach().exp())

    def step(self, batch: Mapping[str, np.ndarray], step: int) -> tuple[torch.Tensor, bool]:
        """Train on a batch (columns of `data.entries.Batch`).

        Args:
            batch: of this worker.
            step: its number, from 0.

        Returns:
            The loss, still on the device, and whether the weights changed. They do not if the loss or the gradient is
            not finite and `train.on_non_finite_loss` is `skip`.
        """
        set_learning_rate(self._optimiser, learning_rate(step, self._total_steps, self._train))
        pixels, tokens = self._to_device(batch["image"]), self._to_device(batch["tokens"])
        texts = Texts(self._to_device(batch["text_count"]).long(), self._to_device(batch["text_sampled"]).long())
        rows = self._train.micro_batch_size or len(pixels)
        parts = list(zip(pixels.split(rows), tokens.split(rows), strict=True))
        is_whole = len(parts) == 1
        features, states = (self._features(pixels, tokens), []) if is_whole else self._cache(parts)
        loss = self._loss_of(features, texts)
        if self._is_to_be_skipped(loss):
            return loss.detach(), False
        loss.backward()
        if not is_whole:
            self._carry_on(parts, features, states)
        if self._train.gradient_clip_norm is not None or self._train.on_non_finite_loss == "skip":
            limit = self._train.gradient_clip_norm or math.inf
            if self._is_to_be_skipped(torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit)):
                return loss.detach(), False
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        clamp_logit_scale(self._model)
        return loss.detach(), True

    def _to_device(self, column: np.ndarray) -> torch.Tensor:
        """A column on the device. The copy to a GPU overlaps with the previous step."""
        tensor = torch.as_tensor(np.ascontiguousarray(column))
        if self._copying is None:
            return tensor.to(self._device)
        with torch.cuda.stream(self._copying):
            moved = tensor.pin_memory().to(self._device, non_blocking=True)
        using = torch.cuda.current_stream(self._device)
        using.wait_stream(self._copying)
        moved.record_stream(using)  # otherwise the next copy could reuse its memory before the step ends
        return moved

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)

    def _loss_of(self, features: Features, texts: Texts) -> torch.Tensor:
        with self._precision():
            loss: torch.Tensor = self._loss(features, texts)
        return loss

    def _features(self, pixels: torch.Tensor, tokens: torch.Tensor) -> Features:
        """The features of uint8 images [B, H, W, 3] and tokens [B, S, L]."""
        with self._precision():
            made = self._forward(pixels, tokens.flatten(0, 1))
        texts = made["text_features"].unflatten(0, tokens.shape[:2])
        return Features(made["image_features"], texts, made["logit_scale"], made.get("logit_bias"))

    def _is_to_be_skipped(self, value: torch.Tensor) -> bool:
        """Whether all workers skip this batch, because a loss or gradient norm is not finite on one of them."""
        if self._train.on_non_finite_loss != "skip":
            return False  # checked only at log lines: a check here would wait for the device at each step
        finite = torch.isfinite(value.detach()).to(torch.int32)
        if _world_size() > 1:
            distributed.all_reduce(finite, distributed.ReduceOp.MIN)
        if finite:
            return False
        self._optimiser.zero_grad(set_to_none=True)
        return True

    def _cache(
        self, parts: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[Features, list[tuple[torch.Tensor, torch.Tensor | None]]]:
        """The features of all micro-batches, as leaves of the graph, and torch's random state before each of them."""
        states = []
        pieces: list[Features] = []
        with torch.no_grad():
            for pixels, tokens in parts:
                cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
                states.append((torch.get_rng_state(), cuda))
                pieces.append(self._features(pixels, tokens))
        last = pieces[-1]
        leaves = Features(
            torch.cat([piece.image for piece in pieces]).requires_grad_(),
            torch.cat([piece.texts for piece in pieces]).requires_grad_(),
            last.scale.detach().clone().requires_grad_(),
            last.bias.detach().clone().requires_grad_() if last.bias is not None else None,
        )
        return leaves, states

    def _carry_on(
        self,
        parts: list[tuple[torch.Tensor, torch.Tensor]],
        cached: Features,
        states: list[tuple[torch.Tensor, torch.Tensor | None]],
    ) -> None:
        """Carry the gradients of the cached features back to the weights."""
        start = 0
        for number, (pixels, tokens) in enumerate(parts):
            is_last = number == len(parts) - 1
            stop = start + len(pixels)
            waits = nullcontext() if is_last or _world_size() == 1 else _method(self._wrapped, "no_sync")()
            with waits, self._replayed(*states[number]):
                made = self._features(pixels, tokens)
                product = (made.image * _gradient(cached.image)[start:stop]).sum()
                product = product + (made.texts * _gradient(cached.texts)[start:stop]).sum()
                # Every micro-batch returns scale and bias, but their gradient counts once.
                product = product + made.scale * (_gradient(cached.scale) if is_last else 0)
                if made.bias is not None and cached.bias is not None:
                    product = product + made.bias * (_gradient(cached.bias) if is_last else 0)
                product.backward()
            start = stop

    @contextmanager
    def _replayed(self, state: torch.Tensor, cuda: torch.Tensor | None) -> Iterator[None]:
        """Repeat the random draws (patch dropout) of the first pass."""
        with torch.random.fork_rng([self._device] if cuda is not None else []):
            torch.set_rng_state(state)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda, self._device)
            yield


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    """A leaf's gradient; zero if the loss does not depend on the leaf."""
    return tensor.grad if tensor.grad is not None else torch.zeros_like(tensor)


def is_compiled(train: TrainConfig, device: torch.device) -> bool:
    """Whether to compile a model on this device. Warns if `auto` cannot compile on a GPU."""
    if train.compile != "auto":
        return train.compile
    if device.type != "cuda":
        return False
    # Triton compiles C to launch kernels, and Inductor C++ for operations on the CPU, such as patch dropout.
    compilers = (("CC", "gcc", "clang"), ("CXX", "g++", "clang++"))
    has_compilers = all(os.environ.get(variable) or any(map(shutil.which, names)) for variable, *names in compilers)
    # Triton looks in this scheme; Debian's own scheme names another directory.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    if has_compilers and Path(sysconfig.get_path("include", scheme), "Python.h").exists():
        return True
    logger.warning("the model is not compiled (train.compile: auto): no C++ compiler, or no Python.h, on this machine")
    return False


def _method(module: torch.nn.Module, name: str) -> Any:
    return getattr(module, name)


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
