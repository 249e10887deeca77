"""The features of a split's images, as every protocol takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.embeddings import SpreadCheck
from laclip_ray.randomness import Key, hash64

VALIDATION_PARTS = 5
"""One image of this many is a validation image."""

_BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Features:
    """The features and labels of N images."""

    ids: Sequence[str]
    values: np.ndarray
    """float32 [N, D]."""
    labels: np.ndarray
    """int64 [N], from 0; or bool [N, C] if an image has several labels."""
    class_names: Sequence[str] = ()
    """By label, for messages. Empty: unknown."""

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.values) == len(self.labels)
        assert self.values.ndim == 2
        assert self.labels.dtype == (np.bool_ if self.labels.ndim == 2 else np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def take(self, rows: np.ndarray) -> "Features":
        """The features of some images.

        Args:
            rows: int64 [M], positions.
        """
        return Features([self.ids[row] for row in rows], self.values[rows], self.labels[rows], self.class_names)

    def joined(self, other: "Features") -> "Features":
        """These images, then those of `other`."""
        return Features(
            [*self.ids, *other.ids],
            np.concatenate([self.values, other.values]),
            np.concatenate([self.labels, other.labels]),
            self.class_names,
        )


def check_features(features: Features, split: str) -> None:
    """Refuse features that measure nothing.

    Args:
        features: of one split.
        split: names it in messages: `test`.

    Raises:
        NoResultError: there is no image, a feature is infinite or not a number, or all images have the same features.
    """
    if not len(features):
        raise NoResultError(f"there are no {split} images; give a split that has images")
    # Embeddings have length 1. Backbone features have any, so the largest is the unit of what counts as equal.
    scale = max(float(np.linalg.norm(block, axis=1).max()) for block in _blocks(features.values))
    check = SpreadCheck(f"{split} images")
    for block in _blocks(features.values):
        check.add(torch.from_numpy(block / np.float32(scale if 0 < scale < np.inf else 1.0)))
    check.finish()


def _blocks(values: np.ndarray) -> list[np.ndarray]:
    return [values[start : start + _BLOCK_ROWS] for start in range(0, len(values), _BLOCK_ROWS)]


def split_validation(features: Features, seed: int) -> tuple[Features, Features]:
    """Split a fifth of each class off for validation.

    Which images these are is a function of `seed` and of the ids and labels of the class. A class of two to nine images
    gives one; a class with one image stays in train. If images have several labels, the fifth is one of all images.

    Returns:
        Train and validation, both in the order of `features`. Validation is empty if no class has two images.
    """
    labels = np.zeros(len(features), np.int64) if features.is_multilabel else features.labels
    ranks, counts = ranks_in_class(labels, features.ids, seed, "validation")
    sizes = np.where(counts > 1, np.maximum(counts // VALIDATION_PARTS, 1), 0)
    is_validation = ranks < sizes
    return features.take(np.flatnonzero(~is_validation)), features.take(np.flatnonzero(is_validation))


def ranks_in_class(labels: np.ndarray, ids: Sequence[str], *keys: Key) -> tuple[np.ndarray, np.ndarray]:
    """Put the images of each class into a random order, as a function of `keys` and the ids.

    Args:
        labels: int64 [N].
        ids: of the N images. Images of the same id keep their order.
        keys: seed of the order.

    Returns:
        Each image's rank in its class, from 0, and the number of images of its class: int64 [N] each.
    """
    hashes = np.array([hash64(*keys, identity) for identity in ids], np.uint64)
    order = np.lexsort((hashes, labels))
    _, starts, inverse, counts = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    ranks, sizes = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts[inverse]
    sizes[order] = counts[inverse]
    return ranks, sizes
