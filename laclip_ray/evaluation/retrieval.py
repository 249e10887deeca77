"""Image-text retrieval: recall at 1, 5 and 10 in both directions."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

RANKS = (1, 5, 10)
METRICS = tuple(f"{direction}_r{rank}" for direction in ("image_to_text", "text_to_image") for rank in RANKS)
"""Shares that `retrieval_metrics` gives."""


@torch.no_grad()
def retrieval_metrics(
    model: Any, tokenizer: Any, batches: Iterator[tuple[torch.Tensor, list[str]]], device: torch.device
) -> dict[str, Any]:
    """Recall of each image's caption among all captions, and of each caption's image among all images.

    Args:
        model: an open_clip model in evaluation mode, on `device`.
        tokenizer: its tokeniser.
        batches: pixels [B, 3, H, W] and B captions.
        device: where to compute.

    Returns:
        image_to_text_r1, r5, r10 and text_to_image_r1, r5, r10 (shares), samples.
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
    """The rank, from 0, of each row's best match.

    Columns with the row's own caption are all matches (alt-texts repeat). A tie with a column that is no match counts
    against the row, so that a model which gives everything the same embedding finds nothing.

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
    # Not `>=`: what is not a number, from a model that diverged, counts against the row too.
    return (~(similarity < best[:, None]) & ~matches).sum(dim=1)
