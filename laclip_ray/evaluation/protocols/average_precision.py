"""Mean average precision of sets whose images have several labels.

The average precision of a class is the sum over thresholds of (increase in recall) x (precision), without
interpolation, and equal scores share a threshold: scikit-learn's `average_precision_score`. VOC's older 11-point and
envelope rules give other values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.accuracies import Measured, classes_shown


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


def resampled_precision(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean average precision of resamples of the images, as a function of how often each image is in them.

    A resample is a set that holds an image several times. A class without images in a resample is left out of its mean.
    The images are sorted once, not once a resample.

    Args:
        scores: [N, C], finite.
        labels: bool [N, C].

    Returns:
        A function of counts, float64 [B, N], that gives float64 [B]: NaN where no class has images.
    """
    rankings = [_Ranking.of(scores[:, n], labels[:, n]) for n in np.flatnonzero(labels.any(axis=0))]

    def mean(counts: np.ndarray) -> np.ndarray:
        total, classes = np.zeros(len(counts)), np.zeros(len(counts))
        for ranking in rankings:
            precision, is_drawn = ranking.precisions(counts)
            total += precision
            classes += is_drawn
        average: np.ndarray = np.divide(total, classes, out=np.full(len(counts), np.nan), where=classes > 0)
        return average

    return mean


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The images of a class and those above them, by score. A threshold is a score that an image of the class has."""

    order: np.ndarray
    """int32 [M]: rows of the images from the highest score down to the last threshold."""
    starts: np.ndarray
    """[T]: where in `order` the images begin that each threshold adds."""
    own: np.ndarray
    """[P]: rows of the images of the class, by score."""
    own_starts: np.ndarray
    """[T]: the same, in `own`."""

    @classmethod
    def of(cls, scores: np.ndarray, labels: np.ndarray) -> "_Ranking":
        """The ranking of a class that has images."""
        order = np.argsort(-scores, kind="stable")
        ranked, is_own = scores[order], labels[order]
        ends = np.searchsorted(
            -ranked, -np.unique(ranked[is_own])[::-1], side="right"
        )  # of the images of each threshold
        own_ends = np.cumsum(is_own)[ends - 1]
        return cls(
            order[: ends[-1]].astype(np.int32),
            np.concatenate([[0], ends[:-1]]),
            order[is_own],
            np.concatenate([[0], own_ends[:-1]]),
        )

    def precisions(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The average precision of each resample, 0 without images of the class; and whether it has any: [B] each."""
        images = np.add.reduceat(counts.take(self.order, axis=1), self.starts, axis=1).cumsum(axis=1)  # [B, T]
        gained = np.add.reduceat(counts.take(self.own, axis=1), self.own_starts, axis=1)
        found = gained.cumsum(axis=1)
        precision = np.divide(found, images, out=np.zeros_like(found), where=images > 0)
        total = found[:, -1]
        average = np.divide((gained * precision).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
        return average, total > 0


def mean_average_precision(
    scores: np.ndarray, labels: np.ndarray, split: str = "test", names: Sequence[str] = ()
) -> Measured:
    """Measure the mean over classes of the average precision.

    Classes without images have none. They are left out and named.

    Args:
        scores: [N, C]: the higher, the more likely the image has the label.
        labels: bool [N, C].
        split: names the images in messages.
        names: of the classes, by label.

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
            f"{len(missing)} of {len(precisions)} classes have no {split} image and are left out of the mean average "
            f"precision: {classes_shown(missing, names)}."
        )
    metrics = {
        "map": float(np.nanmean(precisions)),
        "images": len(scores),
        "classes": len(precisions) - len(missing),
        "notes": notes,
    }
    return Measured(metrics, None, scores)
