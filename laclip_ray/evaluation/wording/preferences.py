"""Which of two texts an image is closer to, counted by image; shared by hard negatives and SugarCrepe.

An image must be closer to the right text. A tie counts as wrong: a model that ignores the order of words gives an
exchanged caption the same embedding.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from laclip_ray.evaluation.embeddings import SpreadCheck
from laclip_ray.evaluation.per_image import MetricValues

_BLOCK_ROWS = 65_536


def similarities(
    left: torch.Tensor, right: torch.Tensor, left_rows: torch.Tensor, right_rows: torch.Tensor
) -> torch.Tensor:
    """The similarity of each of M pairs of rows: float64 [M], so that equal rows have exactly equal similarities.

    Args:
        left: float32 [L, D], normalised.
        right: float32 [R, D], normalised.
        left_rows: int64 [M].
        right_rows: int64 [M].
    """
    blocks = zip(left_rows.split(_BLOCK_ROWS), right_rows.split(_BLOCK_ROWS), strict=True)
    parts = [(left[rows].double() * right[others].double()).sum(dim=1) for rows, others in blocks]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def by_image(is_right: NDArray[np.bool_], images: NDArray[np.int64], count: int) -> MetricValues:
    """The share of right choices of each image, weighted by its number of choices, so that the mean is over choices.

    Args:
        is_right: [M].
        images: [M], from 0.
        count: images. One without a choice has no value.
    """
    choices = np.bincount(images, minlength=count).astype(np.float64)
    right = np.bincount(images, is_right, minlength=count)
    return MetricValues(np.divide(right, choices, out=np.full(count, np.nan), where=choices > 0), choices)


def share(values: MetricValues) -> float:
    """The share of right choices over all images."""
    assert values.weights is not None
    has_value = values.weights > 0
    return float((values.values * values.weights)[has_value].sum() / values.weights.sum())


def check_embeddings(embeddings: torch.Tensor, kind: str) -> None:
    """Refuse embeddings [N, D] that are not finite, or all the same: comparisons with NaN are false, not wrong.

    Raises:
        NoResultError: with the kind of input.
    """
    check = SpreadCheck(kind)
    check.add(embeddings)
    check.finish()
