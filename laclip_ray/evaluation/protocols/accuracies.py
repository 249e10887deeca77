"""The result of a protocol, and the accuracies of class scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from laclip_ray.tally import first_names

Metric = Literal["top1", "mean_per_class"]
"""Accuracies that can choose a setting: the share of images, and the mean recall of the classes with images."""

_MOST_CHARACTERS = 40
"""Of a class's name in a message."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of a protocol on one set."""

    metrics: dict[str, Any]
    """Ready for JSON. `notes` are sentences on what a reader of the numbers must know."""
    hits: np.ndarray | None
    """bool [N]: whether each test image got its label. float64 [N] where several draws are measured: the share of the
    draws in which it did. None if images have several labels."""
    scores: np.ndarray | None = None
    """[N, C]: class scores of the test images, if these have several labels. A mean average precision is not a mean
    over images, so its interval needs them."""


def accuracies(
    scores: np.ndarray, classes: np.ndarray, labels: np.ndarray, unreadable: np.ndarray | None = None
) -> tuple[dict[str, float], np.ndarray]:
    """Measure how often an image's label has the highest score.

    Among equal scores the class with the smaller label comes first. An image whose label is not in `classes` is
    wrong, and so is one whose own class has the score -inf.

    Args:
        scores: [N, K], N > 0.
        classes: int64 [K], ascending: the label of each column.
        labels: int64 [N].
        unreadable: labels of images without scores, because they could not be decoded, int64 [M]. Each counts as wrong.

    Returns:
        `top1`, `top5` if there are more than five classes, and `mean_per_class` (over the labels that occur); and
        whether each image is right, bool [N + M].
    """
    if unreadable is not None and len(unreadable):
        labels = np.concatenate([labels, unreadable])
        scores = np.concatenate([scores, np.full((len(unreadable), len(classes)), -np.inf, scores.dtype)])
    columns = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    own = scores[np.arange(len(labels)), columns][:, None]
    is_known = (classes[columns] == labels) & (own[:, 0] > -np.inf)
    is_earlier = np.arange(len(classes)) < columns[:, None]
    ahead = ((scores > own) | ((scores == own) & is_earlier)).sum(axis=1)
    hits = is_known & (ahead == 0)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    metrics = {"top1": float(hits.mean())}
    if len(classes) > 5:
        metrics["top5"] = float((is_known & (ahead < 5)).mean())
    metrics["mean_per_class"] = float((np.bincount(inverse, hits) / counts).mean())
    return metrics, hits


def notes_on_classes(classes: np.ndarray, labels: np.ndarray, names: Sequence[str] = ()) -> list[str]:
    """Say which classes of test images have no training image.

    Args:
        classes: int64 [K]: labels with training images.
        labels: int64 [N]: labels of the test images.
        names: of the classes, by label.
    """
    unknown = np.setdiff1d(labels, classes)
    if not len(unknown):
        return []
    return [
        f"{len(unknown)} of the {len(np.unique(labels))} classes of the test images have no training image, so their "
        f"{int(np.isin(labels, unknown).sum()):,} images count as wrong: {classes_shown(unknown, names)}."
    ]


def classes_shown(labels: Sequence[int] | np.ndarray, names: Sequence[str] = ()) -> str:
    """Classes for a message: the first few with their names, and the number of the others.

    Args:
        labels: of the classes.
        names: of all classes, by label. A class without a name is shown by its label alone.

    >>> classes_shown([1, 2], ["fox", "owl", ""])
    "class 1 ('owl'), class 2"
    """
    return first_names(_class_shown(int(label), names) for label in labels)


def _class_shown(label: int, names: Sequence[str]) -> str:
    name = names[label] if label < len(names) else ""
    if len(name) > _MOST_CHARACTERS:
        name = name[: _MOST_CHARACTERS - 3] + "..."
    return f"class {label} ({name!r})" if name else f"class {label}"
