"""How often an image prefers its caption to wrong captions made from it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.per_image import Measurement, MetricValues
from laclip_ray.evaluation.retrieval import Pairs
from laclip_ray.evaluation.wording.hard_negatives import KINDS
from laclip_ray.evaluation.wording.preferences import by_image, check_embeddings, share, similarities

GROUPS = {
    "other_order": ("objects_exchanged", "attributes_exchanged"),
    "other_words": ("attribute_replaced", "number_changed"),
    "preferred": KINDS,
}
"""Metrics over several kinds: the same words in another order, other words, all."""


@dataclass(frozen=True, eq=False)
class WrongCaptions:
    """M embedded wrong captions of a set's captions."""

    texts: torch.Tensor
    """float32 [K, D], normalised: one for each different sequence of tokens."""
    tokens: torch.Tensor
    """int64 [M]: each wrong caption's row of `texts`."""
    captions: torch.Tensor
    """int64 [M]: the caption that each is made from."""
    kinds: Sequence[str]
    """Of `hard_negatives.KINDS`."""


def hard_negative_metrics(pairs: Pairs, wrong: WrongCaptions) -> Measurement:
    """Measure how often an image is closer to its caption than to a wrong caption.

    Args:
        pairs: the embedded set.
        wrong: its wrong captions.

    Returns:
        Metrics: shares of (image, caption, wrong caption) by kind and for `GROUPS` (a guess gives 0.5; a kind without
        wrong captions is missing); `preferred_to_all`, the share of images that prefer each caption to all its wrong
        captions, and `preferred_to_all_by_guessing`; `negatives` (counts by kind), `tied` (equal similarities, which
        count as wrong), `captions` and `images` (with a wrong caption).
        Per image of `pairs`: the shares, weighted by their number, and `preferred_to_all`.

    Raises:
        NoResultError: there are no wrong captions, or their embeddings are not finite or all the same.
    """
    if not len(wrong.tokens):
        raise NoResultError(
            f"none of the {len(pairs.owners):,} captions gives a wrong caption: the rules are for English captions "
            "with objects, attributes or numbers; set hard_negatives=false"
        )
    check_embeddings(wrong.texts, "wrong captions")
    owners = pairs.owners[wrong.captions]
    own = similarities(pairs.images, pairs.texts, owners, pairs.tokens[wrong.captions])
    other = similarities(pairs.images, wrong.texts, owners, wrong.tokens)
    is_right, images = (own > other).numpy(), owners.numpy()
    kinds, count = np.array(wrong.kinds), len(pairs.images)
    per_image: dict[str, MetricValues] = {}
    for name, of in {**{kind: (kind,) for kind in KINDS}, **GROUPS}.items():
        rows = np.isin(kinds, of)
        if rows.any():
            per_image[name] = by_image(is_right[rows], images[rows], count)
    metrics = {name: share(values) for name, values in per_image.items()}
    of_all = _preferred_to_all(per_image["preferred"])
    return Measurement(
        {
            **metrics,
            "preferred_to_all": float(np.nanmean(of_all.values)),
            "preferred_to_all_by_guessing": _by_guessing(wrong.captions.numpy(), images, count),
            "negatives": {kind: Counter(wrong.kinds)[kind] for kind in KINDS},
            "tied": int((own == other).sum()),
            "captions": len(np.unique(wrong.captions.numpy())),
            "images": len(np.unique(images)),
        },
        {**per_image, "preferred_to_all": of_all},
    )


def _preferred_to_all(preferred: MetricValues) -> MetricValues:
    has_value = np.isfinite(preferred.values)
    return MetricValues(np.where(has_value, preferred.values == 1, np.nan))


def _by_guessing(captions: NDArray[np.int64], images: NDArray[np.int64], count: int) -> float:
    """The share of images that would prefer all captions if similarities were random.

    A caption is the closest of itself and its k wrong captions in 1 of k + 1 cases.
    """
    distinct, first, wrong = np.unique(captions, return_index=True, return_counts=True)
    assert len(distinct)
    logarithms = np.bincount(images[first], -np.log(wrong + 1.0), minlength=count)
    return math.fsum(np.exp(logarithms[np.unique(images)])) / len(np.unique(images))
