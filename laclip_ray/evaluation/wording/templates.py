"""How zero-shot predictions change with the template of the class prompts.

Each template alone makes a classifier, from "a photo of a {c}." or "a sketch of a {c}.". A robust model predicts the
same class with all of them. The flip rate is the share of (image, pair of templates) with different predictions. It
counts changes between wrong classes too, which accuracy does not see.

Accuracies by template differ by chance as well. `spread_by_chance` says how much: images are drawn anew, and equally
good templates get the variance of the real ones between templates (as in Cochran's Q test, "The comparison of
percentages in matched samples", Biometrika, 1950). The spread of normal variables has no formula, so it is drawn.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.embeddings import SpreadCheck
from laclip_ray.evaluation.per_image import Measurement, MetricValues
from laclip_ray.intervals import CONFIDENCE
from laclip_ray.randomness import generator

BLOCK_ELEMENTS = 2**22
"""Upper bound on the similarities computed at a time, unless one image has more."""

_SPREADS_DRAWN = 4_000


def template_metrics(
    images: torch.Tensor,
    labels: torch.Tensor,
    templates: Sequence[str],
    classifier_of: Callable[[int], torch.Tensor],
    device: torch.device,
    block_elements: int = BLOCK_ELEMENTS,
) -> Measurement:
    """Measure zero-shot classification with each template alone.

    Args:
        images: float32 [N, D], normalised.
        labels: int64 [N].
        templates: T templates, for the names in the metrics.
        classifier_of: by the template's number, the normalised embeddings of its class prompts, float32 [D, C]; called
            once for each. Of a tensor [T, D, C], its `__getitem__`.
        device: computes the similarities.
        block_elements: similarities computed at a time, at most.

    Returns:
        Metrics: `by_template` (a list of `template` and `top1`), `template_mean`, `template_spread` (largest minus
        smallest), `spread_by_chance` (95 % of equally good templates stay below), `worst_template` and its
        `worst_template_top1`, `ensemble_top1` (a class is the normalised mean over templates, as in zero-shot
        classification), `flip_rate`, `always_right` and `always_same_wrong` (shares of images with one prediction by
        all templates), `images`, `templates`.
        Per image: `template_mean`, `ensemble_top1`, `flip_rate`, `always_right`, `always_same_wrong`.

    Raises:
        NoResultError: there are fewer than two templates or no images, or embeddings are not finite or all the same.
    """
    _check_counts(len(templates), len(images))
    _check(images, "images")
    total = None
    predictions = np.empty((len(templates), len(images)), np.int32)
    for number in range(len(templates)):
        classifier = classifier_of(number)
        _check(classifier.T, f"class prompts of the template {templates[number]!r}")
        predictions[number] = _predictions(images, classifier, device, block_elements)
        total = classifier.double() if total is None else total + classifier
    assert total is not None
    ensemble = torch.nn.functional.normalize(total, dim=0).float()
    truth = labels.numpy()
    per_image = _per_image(predictions, _predictions(images, ensemble, device, block_elements), truth)
    right_of = (predictions == truth).mean(axis=1)  # [T]
    metrics = {
        **{name: float(values.mean()) for name, values in per_image.items()},
        "template_spread": float(right_of.max() - right_of.min()),
        "spread_by_chance": _spread_by_chance(per_image["template_mean"], len(templates)),
        "worst_template": templates[int(right_of.argmin())],
        "worst_template_top1": float(right_of.min()),
        "by_template": [
            {"template": name, "top1": float(top1)} for name, top1 in zip(templates, right_of, strict=True)
        ],
        "images": len(images),
        "templates": len(templates),
    }
    return Measurement(metrics, {name: MetricValues(values) for name, values in per_image.items()})


def _check_counts(templates: int, images: int) -> None:
    if templates < 2:
        raise NoResultError(
            f"robustness to templates needs at least two, and there is {templates}; set templates=openai or give a "
            "file with several"
        )
    if not images:
        raise NoResultError("there are no images; give a split that has images")


def _check(embeddings: torch.Tensor, kind: str) -> None:
    check = SpreadCheck(kind)
    check.add(embeddings)
    check.finish()


def _predictions(
    images: torch.Tensor, classifier: torch.Tensor, device: torch.device, block_elements: int
) -> NDArray[np.int32]:
    """The class of highest similarity for each image, int32 [N]."""
    classifier = classifier.to(device)
    rows = max(1, block_elements // classifier.shape[1])
    found = [(block.to(device) @ classifier).argmax(dim=1).int().cpu() for block in images.split(rows)]
    predictions: NDArray[np.int32] = torch.cat(found).numpy()
    return predictions


def _per_image(
    predictions: NDArray[np.int32], ensemble: NDArray[np.int32], truth: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """The metrics that are means over images: float64 [N] each.

    Args:
        predictions: [T, N].
        ensemble: [N].
        truth: [N].
    """
    is_same = (predictions == predictions[0]).all(axis=0)
    is_right = predictions[0] == truth
    return {
        "template_mean": (predictions == truth).mean(axis=0),
        "ensemble_top1": (ensemble == truth).astype(np.float64),
        "flip_rate": _flip_rates(predictions),
        "always_right": (is_same & is_right).astype(np.float64),
        "always_same_wrong": (is_same & ~is_right).astype(np.float64),
    }


def _flip_rates(predictions: NDArray[np.int32]) -> NDArray[np.float64]:
    """The share of pairs of templates whose predictions differ, for each image: [T, N] to [N].

    Sorted predictions of one class are neighbours, and the k-th of them makes k - 1 equal pairs with those before it.
    """
    ordered = np.sort(predictions, axis=0)
    equal_pairs = np.zeros(predictions.shape[1], np.int64)
    earlier = np.zeros(predictions.shape[1], np.int64)
    for previous, current in pairwise(ordered):
        earlier = np.where(current == previous, earlier + 1, 0)
        equal_pairs += earlier
    return 1 - equal_pairs / math.comb(len(predictions), 2)


def _spread_by_chance(shares: NDArray[np.float64], templates: int) -> float:
    """The spread that equally good templates reach in 5 % of draws of the images.

    With equally good templates, each image's right and wrong predictions could belong to any of them. Then the T
    accuracies vary like independent normal variables around their mean.

    Args:
        shares: [N]: the share of templates with which the image is right.
        templates: T.
    """
    deviation = math.sqrt((shares * (1 - shares)).sum() * templates / (templates - 1)) / len(shares)
    drawn = generator("spread by chance", templates).normal(size=(_SPREADS_DRAWN, templates))
    return deviation * float(np.quantile(np.ptp(drawn, axis=1), CONFIDENCE))
