"""The contrastive losses over all workers, for one or several texts per image.

The terms are open_clip's `ClipLoss` and `SigLipLoss`. All workers gather the features of all workers with gradients, so
DDP's mean of the workers' gradients is the gradient of the global batch, as if one process had it all.

    sample   one text per image: open_clip's loss
    both     caption and rewrite: the mean of open_clip's loss over the two, with the same image features
    multi    LaCLIP-MT (Fan et al., NeurIPS 2023, "Multi-Text Training Loss"): half the sum of two terms. Image to text
             is the mean over an image's texts; the text in slot j competes with the texts in slot j of all other
             images. Text to image uses only the sampled text.

In formulas, with N images, S slots, n_i texts of image i, and s the scale:

    image to text   -1/N sum_i 1/n_i sum_{j < n_i} log softmax_k(s <image_i, text_kj>)[k = i]
    text to image   -1/N sum_i log softmax_k(s <image_k, sampled_i>)[k = i]

An image with fewer texts than slots repeats its own. The repetitions only compete with the texts of other images.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn import functional

from laclip_ray.config import LossKind, TextMode


@dataclass(frozen=True)
class Features:
    """The model's output for a batch. B images, S texts per image, D dimensions."""

    image: torch.Tensor
    """[B, D], each of length 1."""
    texts: torch.Tensor
    """[B, S, D], each of length 1."""
    scale: torch.Tensor
    """The factor on the cosine similarities, a scalar."""
    bias: torch.Tensor | None = None
    """Added to the scaled similarities, a scalar (SigLIP). None: a model without a bias."""


@dataclass(frozen=True)
class Texts:
    """Which of the texts in a batch's slots an image owns, and which one it shows."""

    count: torch.Tensor
    """[B]: the number of distinct texts of each image; the other slots repeat them."""
    sampled: torch.Tensor
    """[B]: the slot of the text drawn for each image."""


class ContrastiveLoss(torch.nn.Module):
    """The loss of the global batch, computed by each worker from its share."""

    def __init__(self, kind: LossKind = "clip", mode: TextMode = "sample", local: bool = False) -> None:
        """Choose the loss.

        Args:
            kind: `clip` (softmax over the batch) or `siglip` (a sigmoid for each pair; Zhai et al., 2023).
            mode: what to do with several texts per image; `multi` cannot be used with `siglip`.
            local: each worker computes only its own rows of the logits. The gradient is the same, and many workers need
                less memory. `clip` only: `siglip` never computes other rows.
        """
        super().__init__()
        from laclip_ray.light_open_clip import open_clip

        # At each step, open_clip 3.3 calls the gather with gradients by its old name, and torch warns.
        warnings.filterwarnings("ignore", message=".*all_gather is deprecated", category=FutureWarning)
        in_group = distributed.is_available() and distributed.is_initialized()
        place = {
            "rank": distributed.get_rank() if in_group else 0,
            "world_size": distributed.get_world_size() if in_group else 1,
        }
        self._mode = mode
        self._clip = open_clip.ClipLoss(local_loss=local, gather_with_grad=True, **place)
        self._siglip = open_clip.loss.SigLipLoss(**place) if kind == "siglip" else None
        self._gathers_rows = place["world_size"] > 1 and not local

    def forward(self, features: Features, texts: Texts) -> torch.Tensor:
        """The loss of the global batch, a scalar.

        Args:
            features: of this worker's B images.
            texts: of the same images.
        """
        if self._mode == "multi":
            return self._multi(features, texts)
        return torch.stack([self._pairs(features, texts_of_slot) for texts_of_slot in _slots(features)]).mean()

    def _pairs(self, features: Features, texts: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor
        if self._siglip is not None:
            loss = self._siglip(features.image, texts, features.scale, features.bias)
        else:
            # A bias changes no softmax, but DDP waits for its gradient, which is 0.
            loss = self._clip(features.image, texts, features.scale, features.bias)
        return loss

    def _multi(self, features: Features, texts: Texts) -> torch.Tensor:
        rows = torch.arange(len(features.image), device=features.image.device)
        _, by_text = self._clip.get_logits(
            features.image, features.texts[rows, texts.sampled], features.scale, features.bias
        )
        labels = self._clip.get_ground_truth(features.image.device, len(by_text))
        text_to_image = functional.cross_entropy(by_text, labels)
        count = self._of_all(texts.count)
        image_to_text = torch.zeros_like(text_to_image)
        for slot, texts_of_slot in enumerate(_slots(features)):
            by_image, _ = self._clip.get_logits(features.image, texts_of_slot, features.scale, features.bias)
            share = (slot < count) / count
            image_to_text = (
                image_to_text + (share * functional.cross_entropy(by_image, labels, reduction="none")).mean()
            )
        return (image_to_text + text_to_image) / 2

    def _of_all(self, values: torch.Tensor) -> torch.Tensor:
        """The values [B] of all images whose rows of the logits this worker computes."""
        if not self._gathers_rows:
            return values
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values)
        return torch.cat(parts)


def _slots(features: Features) -> list[torch.Tensor]:
    """The texts [B, D] of each slot; contiguous, as the gather requires."""
    return [texts.contiguous() for texts in features.texts.unbind(1)]
