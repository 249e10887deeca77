"""The contrastive loss over all workers: open_clip's `ClipLoss`, gathered with gradients.

With the features of every worker gathered with gradient, each worker computes the loss of the whole global batch,
and the mean that DDP takes of the workers' gradients is the gradient of that loss: the same as one process with the
whole batch.
"""

import warnings

import torch
from torch import distributed


def build_loss() -> torch.nn.Module:
    """The loss for this process's place in the world; call it with image and text features [B, D] and the scale."""
    from open_clip.loss import ClipLoss

    # open_clip 3.3 calls torch's older name for the gather with gradients, at each step.
    warnings.filterwarnings("ignore", message=".*all_gather is deprecated", category=FutureWarning)

    in_group = distributed.is_available() and distributed.is_initialized()
    loss: torch.nn.Module = ClipLoss(
        local_loss=False,
        gather_with_grad=True,
        rank=distributed.get_rank() if in_group else 0,
        world_size=distributed.get_world_size() if in_group else 1,
    )
    return loss
