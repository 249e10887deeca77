"""The optimiser, AdamW with the paper's parameter groups, and the learning rate of each step."""

import math

import torch

from laclip_ray.config import TrainConfig


def build_optimiser(model: torch.nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the model's weights.

    Gains, biases, norms and the temperature have no weight decay, as in open_clip's and the paper's code.
    """
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_free = parameter.ndim < 2 or any(mark in name for mark in ("bn", "ln", "bias", "logit_scale"))
        (free if is_free else decayed).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": train.weight_decay}, {"params": free, "weight_decay": 0.0}],
        lr=train.learning_rate,
        betas=(train.beta1, train.beta2),
        eps=train.epsilon,
        fused=True,  # on a CPU too, it saves a sixth of a small model's step
    )


def learning_rate(step: int, total_steps: int, train: TrainConfig) -> float:
    """The learning rate of a step: a linear warm-up, then half a cosine down to the end value.

    The paper's code (SLIP's `cosine_scheduler`) has the same warm-up and cosine, but stops one step before the end
    value. Here the last step has exactly `learning_rate_end`.

    Args:
        step: from 0 to `total_steps - 1`.
        total_steps: steps of the whole run.
        train: the rates, `warmup_epochs` and `epochs`.
    """
    warmup_steps = round(total_steps * train.warmup_epochs / train.epochs)
    if step < warmup_steps:
        share = step / max(1, warmup_steps - 1)
        return train.learning_rate_start + share * (train.learning_rate - train.learning_rate_start)
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps - 1)
    cosine = (1 + math.cos(math.pi * min(1.0, share))) / 2
    return train.learning_rate_end + (train.learning_rate - train.learning_rate_end) * cosine


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = value
