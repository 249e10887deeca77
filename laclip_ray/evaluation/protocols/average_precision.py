"""Mean average precision of sets whose images have several labels.

The average precision of a class is the sum over thresholds of (increase in recall) x (precision), without
interpolation, and equal scores share a threshold: scikit-learn's `average_precision_score`. VOC's older 11-point and
envelope rules give other values.
"""

import numpy as np

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.accuracies import Measured, labels_shown


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The average precision of each class: float64 [C], NaN for a class without images.

    Args:
        scores: [N, C], finite, N > 0.
        labels: bool [N, C].
    """
    return np.array([_average_precision(scores[:, n], labels[:, n]) for n in range(scores.shape[1])])


def _average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    is_last_of_equals = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(labels[order])
    if not found[-1]:
        return float("nan")
    at = np.flatnonzero(is_last_of_equals)
    gained = np.diff(found[at], prepend=0)
    return float((gained * found[at] / (at + 1)).sum() / found[-1])


def mean_average_precision(scores: np.ndarray, labels: np.ndarray, split: str = "test") -> Measured:
    """Measure the mean over classes of the average precision.

    Classes without images have none. They are left out and named.

    Args:
        scores: [N, C]: the higher, the more likely the image has the label.
        labels: bool [N, C].
        split: names the images in messages.

    Returns:
        `map` (a share), `images`, `classes` (those in the mean), `notes`; and the scores.

    Raises:
        NoResultError: there are no images, no image has a label, or a score is not a finite number.
    """
    if not len(scores):
        raise NoResultError(f"there are no {split} images; give a split that has images")
    if not np.isfinite(scores).all():
        raise NoResultError(
            "the scores of classes are infinite or not numbers, so the model's training diverged; evaluate an earlier "
            "checkpoint"
        )
    precisions = average_precisions(scores, labels)
    missing = np.flatnonzero(np.isnan(precisions))
    if len(missing) == len(precisions):
        raise NoResultError(f"none of the {len(scores):,} {split} images has a label; check the labels of the split")
    notes = []
    if len(missing):
        notes.append(
            f"{len(missing)} of {len(precisions)} classes have no {split} image ({labels_shown(missing)}) and are left "
            "out of the mean average precision."
        )
    metrics = {
        "map": float(np.nanmean(precisions)),
        "images": len(scores),
        "classes": len(precisions) - len(missing),
        "notes": notes,
    }
    return Measured(metrics, None, scores)
