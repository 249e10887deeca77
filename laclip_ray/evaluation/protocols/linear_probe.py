"""Linear probes: a linear classifier on frozen features.

`protocol: standard` follows Kornblith, Shlens and Le, "Do Better ImageNet Models Transfer Better?" (CVPR 2019), with
scikit-learn's C: features standardised by train, the loss of `logistic_regression.py` with the squared penalty, and 45
values of C from 1e-5 to 1e6. These are searched from small to large, each started on the line through the last two
results, because neighbouring values of C have neighbouring classifiers. With fewer images than features the fits run in
the span of the images (`row_space.py`). A fit ends when its gradient is 1e-5 of the penalty's, so top-1 is within 0.1
points of scikit-learn's at the same C, if that has converged.

`protocol: lgssl` is described in `lgssl.py`.

With both, C is chosen on the validation images, or on a fifth of each class of train. The probe with this C is then
fitted to train and validation, from zero, and is tested once. Both fits standardise by the mean and deviation of all
of train, with that fifth.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from laclip_ray.config.evaluation import LinearProbeConfig
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols import lgssl
from laclip_ray.evaluation.protocols.accuracies import Measured, Metric, accuracies, classes_shown, notes_on_classes
from laclip_ray.evaluation.protocols.average_precision import mean_average_precision
from laclip_ray.evaluation.protocols.features import Features, check_features, split_validation
from laclip_ray.evaluation.protocols.logistic_regression import Classifier, Penalty, fit
from laclip_ray.evaluation.protocols.progress import Progress
from laclip_ray.evaluation.protocols.row_space import RowSpace

C_VALUES = tuple(float(c) for c in np.logspace(-5, 6, 45))
"""The values of C of `protocol: standard`."""

Scale = Callable[[np.ndarray], torch.Tensor]
"""Turns features, float32 [N, D], into the input of a probe, float64 [N, D]."""


def linear_probe(
    train: Features,
    val: Features | None,
    test: Features,
    config: LinearProbeConfig,
    seed: int,
    metric: Metric = "top1",
    unreadable: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Fit a linear classifier to training images, and measure it on the test images.

    Args:
        train: training images.
        val: images that choose C. None: a fifth of each class of `train`.
        test: test images.
        config: the protocol.
        seed: chooses the fifth.
        metric: the validation metric that chooses C. Images of several labels take mean average precision.
        unreadable: labels of test images that could not be decoded, int64 [M]. Each counts as wrong, and their hits
            follow those of `test`. Images of several labels have no hits.
        progress: counts values of C.

    Returns:
        The metrics of `accuracies` or of `mean_average_precision`. Also `images` (tested), `counted_wrong`
        (those that could not be decoded), `classes` (fitted), `train_images` (of the last fit), `val_images` (that
        chose C), `c`, `c_at_end` (C is the first or last of its values), `val_top1` or as the metric is called,
        `iterations` and `converged` (of the last fit), `protocol`, `notes`.

    Raises:
        NoResultError: a split is empty, its features are not numbers or all the same, or only one class is left, or no
            images to choose C on.
    """
    for split, features in (("train", train), ("validation", val), ("test", test)):
        if features is not None:
            check_features(features, split)
    scale = standardised(train.values) if config.protocol == "standard" else _raw
    searched, validation = (train, val) if val is not None else split_validation(train, seed)
    if not len(validation):
        raise NoResultError(
            "no class has two training images, so none can be split off to choose C; give val_split, or more images"
        )
    progress = progress or Progress()
    progress.expect(values_searched(config.protocol))
    choice = choose_c(searched, validation, scale, config.protocol, metric, progress)
    probe = Probe.fitted(searched.joined(validation), scale, choice.c, penalty_of(config.protocol))
    measured = probe.measured(test, unreadable)
    counts = {
        "train_images": len(searched) + len(validation),
        "val_images": len(validation),
        "c": choice.c,
        "c_at_end": choice.is_at_end,
        f"val_{'map' if train.is_multilabel else metric}": choice.score,
        "iterations": probe.classifier.iterations,
        "converged": probe.classifier.converged,
        "protocol": config.protocol,
    }
    notes = [*measured.metrics["notes"], *choice.notes(), *probe.notes()]
    return Measured({**measured.metrics, **counts, "notes": notes}, measured.hits, measured.scores)


def penalty_of(protocol: str) -> Penalty:
    """The penalty of a protocol."""
    return "squared" if protocol == "standard" else "norm"


def standardised(values: np.ndarray) -> Scale:
    """Subtract the mean of each dimension of `values` [N, D], and divide by its standard deviation.

    A dimension with one value in all of them becomes 0, and the probe ignores it.
    """
    precise = torch.from_numpy(values).double()
    means, deviations = precise.mean(dim=0), precise.std(dim=0, correction=0)
    deviations[precise.amax(dim=0) == precise.amin(dim=0)] = 1.0
    return lambda other: (torch.from_numpy(other).double() - means) / deviations


def _raw(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).double()


@dataclass(frozen=True)
class Choice:
    """A chosen value of C."""

    c: float
    score: float
    """The validation metric."""
    ends: tuple[float, float]
    """The smallest and largest value that could be chosen."""

    @property
    def is_at_end(self) -> bool:
        """Whether a value outside the search may be better."""
        return any(math.isclose(self.c, end) for end in self.ends)

    def notes(self) -> list[str]:
        """Sentences on the choice."""
        if not self.is_at_end:
            return []
        which, beyond = ("smallest", "smaller") if math.isclose(self.c, self.ends[0]) else ("largest", "larger")
        return [f"The chosen C, {self.c:g}, is the {which} of the values searched; a {beyond} one may be better."]


def values_searched(protocol: str) -> int:
    """How many values of C a search visits; for `lgssl`, at most."""
    return len(C_VALUES) if protocol == "standard" else lgssl.MOST_VISITED


def choose_c(
    train: Features,
    val: Features,
    scale: Scale,
    protocol: str = "standard",
    metric: Metric = "top1",
    progress: Progress | None = None,
) -> Choice:
    """Choose C on validation images.

    Args:
        train: images to fit probes to.
        val: images to compare the probes on.
        scale: of the features.
        protocol: the values of C and their order.
        metric: compares the probes. Among equal ones the first wins: for `standard`, the one with the smallest C.
        progress: gets a step for each value of C.

    Raises:
        NoResultError: `train` has a single class, or no image of `val` has a label.
    """
    problem = _Problem.of(train, scale)
    val_values, count, fitted = scale(val.values), values_searched(protocol), 0

    def score(classifier: Classifier) -> float:
        nonlocal fitted
        fitted += 1
        if progress is not None:
            progress.add(f"value {fitted} of {count} of C")
        return problem.score(classifier.scores(val_values), val, metric)

    if protocol == "lgssl":
        scores = lgssl.search(lambda c: score(problem.fit(c, "norm")))
        ends = lgssl.COARSE[0], lgssl.COARSE[-1]
    else:
        scores, ends = {}, (C_VALUES[0], C_VALUES[-1])
        for c, classifier in zip(C_VALUES, problem.path(C_VALUES), strict=True):
            scores[c] = score(classifier)
    best = max(scores, key=scores.__getitem__)
    return Choice(best, scores[best], ends)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Training images as `logistic_regression.fit` takes them."""

    rows: RowSpace
    targets: torch.Tensor
    classes: np.ndarray
    """int64 [K], ascending: the label of each column."""

    @classmethod
    def of(cls, train: Features, scale: Scale) -> "_Problem":
        """The problem of telling the classes of `train` apart.

        Raises:
            NoResultError: fewer than two classes.
        """
        if train.is_multilabel:
            counts = train.labels.sum(axis=0)
            classes = np.flatnonzero((counts > 0) & (counts < len(train)))
            targets = train.labels[:, classes]
            if not len(classes):
                raise NoResultError(
                    "every label belongs to all or to none of the training images, so there is nothing to learn; "
                    "check the labels of the train split"
                )
        else:
            classes, targets = np.unique(train.labels, return_inverse=True)
            if len(classes) < 2:
                raise NoResultError(
                    f"all {len(train):,} training images are of {classes_shown(classes, train.class_names)}, so there "
                    "is nothing to learn; check the labels of the train split"
                )
        return cls(RowSpace.of(scale(train.values)), torch.from_numpy(targets), classes)

    def fit(self, c: float, penalty: Penalty) -> Classifier:
        """A classifier of these images, fitted from zero."""
        return self.rows.outside(fit(self.rows.values, self.targets, len(self.classes), c, penalty))

    def path(self, values_of_c: Sequence[float]) -> Iterator[Classifier]:
        """The classifiers of neighbouring values of C with the squared penalty, each started from the ones before."""
        last: Classifier | None = None
        start: Classifier | None = None
        for c in values_of_c:
            fitted = fit(self.rows.values, self.targets, len(self.classes), c, start=start)
            yield self.rows.outside(fitted)
            last, start = fitted, fitted if last is None else fitted.beyond(last)

    def score(self, logits: np.ndarray, val: Features, metric: Metric) -> float:
        """The validation metric of logits [N, K]: mean average precision if images have several labels."""
        if val.is_multilabel:
            scores = self._all_columns(logits, val.labels)
            return float(mean_average_precision(scores, val.labels, "validation", val.class_names).metrics["map"])
        return accuracies(logits, self.classes, val.labels)[0][metric]

    def measured(self, logits: np.ndarray, test: Features, unreadable: np.ndarray | None = None) -> Measured:
        """The metrics of logits [N, K]."""
        if test.is_multilabel:
            return mean_average_precision(self._all_columns(logits, test.labels), test.labels, names=test.class_names)
        metrics, hits = accuracies(logits, self.classes, test.labels, unreadable)
        counts = {"images": len(test), "counted_wrong": len(hits) - len(test)}
        notes = notes_on_classes(self.classes, test.labels, test.class_names)
        return Measured({**metrics, **counts, "notes": notes}, hits)

    def _all_columns(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The logits of all C classes. A class without a column gets equal logits, which order no images."""
        scores = np.zeros(labels.shape)
        scores[:, self.classes] = logits
        return scores


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted linear probe."""

    classifier: Classifier
    scale: Scale
    _problem: _Problem

    @classmethod
    def fitted(cls, train: Features, scale: Scale, c: float, penalty: Penalty = "squared") -> "Probe":
        """The probe of training images, fitted from zero.

        Raises:
            NoResultError: fewer than two classes.
        """
        problem = _Problem.of(train, scale)
        return cls(problem.fit(c, penalty), scale, problem)

    def measured(self, test: Features, unreadable: np.ndarray | None = None) -> Measured:
        """The accuracies on test images, `images`, `counted_wrong`, `classes`, and notes on classes not learned."""
        measured = self._problem.measured(self.classifier.scores(self.scale(test.values)), test, unreadable)
        extra: dict[str, Any] = {"classes": len(self._problem.classes)}
        if test.is_multilabel:
            unlearned = np.setdiff1d(np.flatnonzero(test.labels.any(axis=0)), self._problem.classes)
            if len(unlearned):
                extra["notes"] = [
                    *measured.metrics["notes"],
                    f"{len(unlearned)} of {test.labels.shape[1]} classes have all or none of the training images, so "
                    "their average precision is the share of their test images: "
                    f"{classes_shown(unlearned, test.class_names)}.",
                ]
        return Measured({**measured.metrics, **extra}, measured.hits, measured.scores)

    def notes(self) -> list[str]:
        """Sentences on the fit."""
        if self.classifier.converged:
            return []
        steps = f"{self.classifier.iterations:,} iteration{'s' if self.classifier.iterations != 1 else ''}"
        return [f"The fit did not converge: its gradient is still large after {steps}."]
