"""Image-text retrieval: recall at 1, 5 and 10 in both directions."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

RANKS = (1, 5, 10)
METRICS = tuple(f"{direction}_r{rank}" for direction in ("image_to_text", "text_to_image") for rank in RANKS)
"""Names of the recalls in `retrieval_metrics`."""


@torch.no_grad()
def retrieval_metrics(
    model: Any, tokenizer: Any, batches: Iterator[tuple[torch.Tensor, list[str]]], device: torch.device
) -> dict[str, Any]:
    """Measure recall of each image's caption among all captions, and of each caption's image among all images.

    Args:
        model: an open_clip model in evaluation mode.
        tokenizer: its tokeniser.
        batches: pixels [B, 3, H, W] and B captions.
        device: the device of `model`.

    Returns:
        `samples`, and recalls as shares: `image_to_text_r1`, `_r5`, `_r10`, `text_to_image_r1`, `_r5`, `_r10`. Without
        samples there are no recalls.
    """
    images, texts, captions = [], [], []
    for pixels, batch_captions in batches:
        images.append(model.encode_image(pixels.to(device), normalize=True).cpu())
        texts.append(model.encode_text(tokenizer(batch_captions).to(device), normalize=True).cpu())
        captions.extend(batch_captions)
    if not captions:
        return {"samples": 0}
    similarity = torch.cat(images).float() @ torch.cat(texts).float().T  # [N images, N texts]
    metrics: dict[str, Any] = {"samples": len(captions)}
    for direction, matrix in (("image_to_text", similarity), ("text_to_image", similarity.T)):
        ranks = ranks_of_matches(matrix, captions)
        for rank in RANKS:
            metrics[f"{direction}_r{rank}"] = float((ranks < rank).float().mean())
    return metrics


def ranks_of_matches(similarity: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
    """Rank each row's best match among the columns, from 0.

    All columns with the row's own caption are matches, because alt-texts repeat. A tie between a match and another
    column counts against the row. A model with one embedding for all inputs therefore scores 0.

    Args:
        similarity: [N, N]; row i and column i belong to one sample.
        captions: the N samples' captions.

    Returns:
        int64 [N].
    """
    number_of: dict[str, int] = {}
    numbers = torch.tensor([number_of.setdefault(caption, len(number_of)) for caption in captions])
    matches = numbers[:, None] == numbers[None, :]
    best = similarity.masked_fill(~matches, float("-inf")).max(dim=1).values
    # `~(a < b)` and not `a >= b`: NaN, from a model that diverged, then counts against the row too.
    return (~(similarity < best[:, None]) & ~matches).sum(dim=1)
