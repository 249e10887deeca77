"""Zero-shot classification: images against class prompts, as in CLIP and CLIP_benchmark.

A class's embedding is the mean over its prompts (names x templates) of the normalised text embeddings, normalised
again.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from laclip_ray.evaluation.embeddings import SpreadCheck
from laclip_ray.evaluation.features.reading import TextFeatures, normalised
from laclip_ray.evaluation.protocols.accuracies import Measured, accuracies
from laclip_ray.evaluation.protocols.average_precision import average_precisions, mean_average_precision
from laclip_ray.evaluation.protocols.features import Features, check_features

_BLOCK_ELEMENTS = 2**24
"""Elements of embeddings that are normalised at a time."""


def class_prompts(class_names: Sequence[Sequence[str]], templates: Sequence[str]) -> list[list[str]]:
    """The prompts of each class.

    Args:
        class_names: several names a class.
        templates: texts with `{c}` for the name.
    """
    return [[template.replace("{c}", name) for name in names for template in templates] for names in class_names]


def build_classifier(prompts: Sequence[Sequence[str]], texts: TextFeatures) -> np.ndarray:
    """The classes' embeddings: float32 [C, D].

    Args:
        prompts: of each class.
        texts: their features.

    Raises:
        NoResultError: embeddings are not finite, or classes of different prompts have the same.
    """
    classifier: np.ndarray = np.concatenate(
        [normalised(texts.of(of_class).mean(axis=0, keepdims=True)) for of_class in prompts]
    )
    check = SpreadCheck("class prompts")
    check.add(torch.from_numpy(classifier))
    if len({tuple(of_class) for of_class in prompts}) > 1:
        check.finish()
    return classifier


def zero_shot(features: Features, classifier: np.ndarray, unreadable: np.ndarray | None = None) -> Measured:
    """Measure how often the class whose prompts are most similar to the image is the right one.

    Args:
        features: embeddings of the images; need not be normalised.
        classifier: from `build_classifier`.
        unreadable: labels of images that could not be decoded, int64 [M]. Each counts as wrong.

    Returns:
        `top1`, `top5` (shares of images), `mean_per_class` (mean recall of the classes with images), `per_class`
        (recall by label, None without images), `images`, `classes`, `classes_with_images`, `counted_wrong`. For several
        labels an image: `map` and `per_class` (average precision) instead. Its hits begin with those of `features`;
        those of `unreadable` follow.

    Raises:
        NoResultError: there are no images, or their embeddings are not finite or all the same.
    """
    check_features(features, "test")
    unreadable = np.zeros(0, np.int64) if unreadable is None else unreadable
    scores = _similarities(features.values, classifier)
    classes = len(classifier)
    counts = {"images": len(features), "classes": classes}
    if features.is_multilabel:
        measured = mean_average_precision(scores, features.labels, names=features.class_names)
        per_class = _or_none(average_precisions(scores, features.labels))
        return replace(measured, metrics={**measured.metrics, "per_class": per_class})
    shares, hits = accuracies(scores, np.arange(classes), features.labels, unreadable)
    labels = np.concatenate([features.labels, unreadable])
    seen = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        recalls = np.bincount(labels, hits, minlength=classes) / seen
    shares.setdefault("top5", 1.0 - len(unreadable) / len(labels))  # five classes or fewer: every answer is among five
    return Measured(
        {
            **shares,
            **counts,
            "classes_with_images": int((seen > 0).sum()),
            "counted_wrong": len(unreadable),
            "per_class": _or_none(recalls),
        },
        hits,
    )


def _similarities(embeddings: np.ndarray, classifier: np.ndarray) -> np.ndarray:
    """Cosine similarities, float32 [N, C]."""
    rows = max(1, _BLOCK_ELEMENTS // embeddings.shape[1])
    blocks = range(0, len(embeddings), rows)
    return np.concatenate([normalised(embeddings[start : start + rows]) @ classifier.T for start in blocks])


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
