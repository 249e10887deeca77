"""The contrastive losses over all workers, for one or several texts an image.

The terms are open_clip's: `ClipLoss`, gathered with gradient, and `SigLipLoss`. With the features of every worker
gathered with gradient, the mean that DDP takes of the workers' gradients is the gradient of the whole global batch:
the same as one process with the whole batch.

    sample   one text an image: open_clip's loss
    both     caption and rewrite: the mean of open_clip's loss over the two, with the same image features
    multi    LaCLIP-MT (Fan et al., NeurIPS 2023, "Multi-Text Training Loss"): the image-to-text term is the mean over
             an image's texts, where the text in slot j competes with the texts in slot j of all other images; the
             text-to-image term is of the sampled text alone. The loss is half the sum of the two.

In formulas, with N images, S slots, n_i texts of image i, and s the scale:

    image to text   -1/N sum_i 1/n_i sum_{j < n_i} log softmax_k(s <image_i, text_kj>)[k = i]
    text to image   -1/N sum_i log softmax_k(s <image_k, sampled_i>)[k = i]

An image with fewer texts than slots repeats its own: these only compete with the texts of other images.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn import functional

from laclip_ray.config import LossKind, TextMode


@dataclass(frozen=True)
class Features:
    """What the model makes of a batch."""

    image: torch.Tensor
    """[B, D], of length 1."""
    texts: torch.Tensor
    """[B, S, D], of length 1: the S texts of each image."""
    scale: torch.Tensor
    """The factor on cosine similarities."""
    bias: torch.Tensor | None = None
    """What is added to them; SigLIP's."""


@dataclass(frozen=True)
class Texts:
    """Which of a batch's texts are what."""

    count: torch.Tensor
    """[B]: of the S texts of an image the first so many are its own different ones."""
    sampled: torch.Tensor
    """[B]: the one among them that it was drawn to show."""


class ContrastiveLoss(torch.nn.Module):
    """The loss for this process's place in the world."""

    def __init__(self, kind: LossKind = "clip", mode: TextMode = "sample", local: bool = False) -> None:
        """Choose the loss.

        Args:
            kind: `clip` (softmax over the batch) or `siglip` (a sigmoid for each pair; Zhai et al., 2023).
            mode: what becomes of several texts an image; `multi` has no meaning with `siglip`.
            local: each worker has only its own rows of the logits, which takes less memory in a large world and
                gives the same gradient; `clip` only (`siglip` never holds more).
        """
        super().__init__()
        from open_clip.loss import ClipLoss, SigLipLoss

        # open_clip 3.3 calls torch's older name for the gather with gradients, at each step.
        warnings.filterwarnings("ignore", message=".*all_gather is deprecated", category=FutureWarning)
        in_group = distributed.is_available() and distributed.is_initialized()
        place = {
            "rank": distributed.get_rank() if in_group else 0,
            "world_size": distributed.get_world_size() if in_group else 1,
        }
        self._mode = mode
        self._clip = ClipLoss(local_loss=local, gather_with_grad=True, **place)
        self._siglip = SigLipLoss(**place) if kind == "siglip" else None
        self._gathers_rows = place["world_size"] > 1 and not local

    def forward(self, features: Features, texts: Texts) -> torch.Tensor:
        """The loss of the global batch, of which this worker has B images; a scalar."""
        if self._mode == "multi":
            return self._multi(features, texts)
        return torch.stack([self._pairs(features, texts_of_slot) for texts_of_slot in _slots(features)]).mean()

    def _pairs(self, features: Features, texts: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor
        if self._siglip is not None:
            loss = self._siglip(features.image, texts, features.scale, features.bias)
        else:
            # A model's bias changes no softmax, but has to have its gradient, of 0, among several workers.
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
        """The values of all rows of the logits that this worker has."""
        if not self._gathers_rows:
            return values
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values)
        return torch.cat(parts)


def _slots(features: Features) -> list[torch.Tensor]:
    """[B, D] for each slot; contiguous, as gathering wants it."""
    return [texts.contiguous() for texts in features.texts.unbind(1)]
