"""Retrieval with captions replaced by rewrites: how much of it depends on the words rather than on what they say.

Captions and their rewrites are measured on the same images and with the same right answers. Therefore:

- Only captions with an accepted rewrite count (`covered`), and only images with such a caption.
- All captions of the same tokens are replaced by one rewrite: the first caption's. Otherwise rewrites could tell apart
  what captions do not.
- Captions whose rewrite another caption has too are left out (`shared_rewrites`): that rewrite lost what tells them
  apart, which is a fault of the rewriter.

A model may still be robust because it ignores words. `hard_negatives` measures that.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from laclip_ray.config import EqualCaptions
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.embeddings import SpreadCheck
from laclip_ray.evaluation.per_image import Measurement, MetricValues
from laclip_ray.evaluation.retrieval import BLOCK_ELEMENTS, Pairs, directions_of, ranks_of_captions
from laclip_ray.evaluation.tasks import RANKS

OVERLAP_RANKS = 10
"""Images whose overlap is measured."""

_DIRECTIONS = ("image_to_text", "text_to_image")


@dataclass(frozen=True, eq=False)
class Rewrites:
    """Embedded rewrites of C captions."""

    texts: torch.Tensor
    """float32 [R, D], normalised: one for each different sequence of tokens."""
    tokens: torch.Tensor
    """int64 [C]: each caption's row of `texts`; -1 for a caption without an accepted rewrite."""


def paraphrase_metrics(
    pairs: Pairs,
    rewrites: Rewrites,
    equal_captions: EqualCaptions,
    device: torch.device,
    block_elements: int = BLOCK_ELEMENTS,
) -> Measurement:
    """Measure the same retrieval with captions and with their rewrites.

    Args:
        pairs: the embedded set.
        rewrites: of its captions.
        equal_captions: `match` or `differ`, see `retrieval`. Captions are equal if their tokens are.
        device: computes the similarities.
        block_elements: similarities computed at a time, at most.

    Returns:
        Metrics: for each direction and rank `image_to_text_r1` with captions, `image_to_text_r1_rewritten` with
        rewrites and `image_to_text_r1_drop`, the first minus the second; `top10_overlap` (the mean share of the first
        ten images that a caption and its
        rewrite have in common); `captions`, `covered`, `not_covered`, `shared_rewrites` and `images` (with a covered
        caption), `equal_captions`.
        Per image of `pairs`: the recalls, drops and the overlap; an image's mean over its covered captions for text to
        image, weighted by their number.

    Raises:
        NoResultError: no caption is covered, or embeddings of rewrites are not finite or all the same.
    """
    covered, replacement, counts = _covered(pairs, rewrites)
    check = SpreadCheck("rewrites")
    check.add(rewrites.texts)
    check.finish()
    images, owners = torch.unique(pairs.owners[covered], return_inverse=True)
    pictures = torch.unique(pairs.pictures[images], return_inverse=True)[1]
    # The token numbers stand for the texts: equal tokens are equal captions under either rule.
    names = [str(token) for token in pairs.tokens[covered].tolist()]
    with_captions, with_rewrites = (
        Pairs(pairs.images[images], pictures, *_compact(texts, tokens[covered]), owners, names)
        for texts, tokens in ((pairs.texts, pairs.tokens), (rewrites.texts, replacement))
    )
    per_image = _recalls(with_captions, with_rewrites, equal_captions, device, block_elements)
    per_image["top10_overlap"] = _of_owners(_overlaps(with_captions, with_rewrites, device, block_elements), owners)
    captions_of = torch.bincount(owners, minlength=len(images)).double().numpy()
    metrics: dict[str, float] = {}
    columns: dict[str, MetricValues] = {}
    for name, values in per_image.items():
        weights = captions_of if _is_of_captions(name) else None
        metrics[name] = float(np.average(values, weights=weights))
        columns[name] = MetricValues(
            _scattered(values, images, len(pairs.images), np.nan),
            None if weights is None else _scattered(weights, images, len(pairs.images), 0.0),
        )
    return Measurement({**metrics, **counts, "images": len(images), "equal_captions": equal_captions}, columns)


def _covered(pairs: Pairs, rewrites: Rewrites) -> tuple[torch.Tensor, torch.Tensor, dict[str, int]]:
    """Choose the captions to measure.

    Returns:
        Their numbers, int64 [K]; the rewrite of each of the C captions, int64 [C]; and the counts of all.

    Raises:
        NoResultError: there are none.
    """
    assert len(rewrites.tokens) == len(pairs.owners)
    replacement = _one_rewrite_each(pairs.tokens, rewrites.tokens)
    is_shared = _is_shared(pairs.tokens, replacement)
    covered = torch.nonzero((replacement >= 0) & ~is_shared)[:, 0]
    counts = {
        "captions": len(pairs.owners),
        "covered": len(covered),
        "not_covered": int((replacement < 0).sum()),
        "shared_rewrites": int(is_shared.sum()),
    }
    if not len(covered):
        raise NoResultError(
            f"none of the {counts['captions']:,} captions has an accepted rewrite of its own "
            f"({counts['not_covered']:,} have none, {counts['shared_rewrites']:,} share theirs); rewrite these "
            "captions, or give the rewrite set of this set"
        )
    return covered, replacement, counts


def _is_of_captions(metric: str) -> bool:
    """Whether a metric is a mean over captions."""
    return not metric.startswith("image_to_text")


def _one_rewrite_each(tokens: torch.Tensor, rewrites: torch.Tensor) -> torch.Tensor:
    """For each of C captions, the first rewrite of a caption with its tokens; -1: no rewrite. int64 [C]."""
    has_rewrite = torch.nonzero(rewrites >= 0)[:, 0]
    first = torch.full((int(tokens.max()) + 1 if len(tokens) else 0,), len(tokens))
    first.scatter_reduce_(0, tokens[has_rewrite], has_rewrite, "amin")
    of_tokens = torch.cat([rewrites, rewrites.new_tensor([-1])])[first]
    return of_tokens[tokens]


def _is_shared(tokens: torch.Tensor, replacement: torch.Tensor) -> torch.Tensor:
    """Whether captions of other tokens have the same rewrite: bool [C]. False without a rewrite."""
    has_rewrite = replacement >= 0
    pairs = torch.unique(torch.stack([replacement, tokens])[:, has_rewrite], dim=1)
    if not pairs.shape[1]:
        return torch.zeros_like(has_rewrite)
    kinds = torch.bincount(pairs[0])
    return has_rewrite & (kinds[replacement.clamp(min=0)] > 1)


def _compact(texts: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The used texts of [T, D], and the new rows [K] of the captions."""
    used, numbers = torch.unique(rows, return_inverse=True)
    return texts[used], numbers


def _recalls(
    with_captions: Pairs,
    with_rewrites: Pairs,
    equal_captions: EqualCaptions,
    device: torch.device,
    block_elements: int,
) -> dict[str, NDArray[np.float64]]:
    """Recalls and their drops: float64 [I] each, means over the captions of an image."""
    found: dict[str, NDArray[np.float64]] = {}
    captions = _ranks(with_captions, equal_captions, device, block_elements)
    rewrites = _ranks(with_rewrites, equal_captions, device, block_elements)
    for name, of_captions, of_rewrites in zip(_DIRECTIONS, captions, rewrites, strict=True):
        for rank in RANKS:
            before, after = (of_captions < rank).double(), (of_rewrites < rank).double()
            if _is_of_captions(name):
                before, after = (torch.from_numpy(_of_owners(hits, with_captions.owners)) for hits in (before, after))
            found[f"{name}_r{rank}"] = before.numpy()
            found[f"{name}_r{rank}_rewritten"] = after.numpy()
            found[f"{name}_r{rank}_drop"] = (before - after).numpy()
    return found


def _ranks(
    pairs: Pairs, equal_captions: EqualCaptions, device: torch.device, block_elements: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rank of each image's best caption [I], and of each caption's best image [C], from 0."""
    to_text, to_image = (direction.ranks(device, block_elements) for direction in directions_of(pairs, equal_captions))
    return to_text, ranks_of_captions(to_image, pairs.captions, equal_captions)


def _overlaps(with_captions: Pairs, with_rewrites: Pairs, device: torch.device, block_elements: int) -> torch.Tensor:
    """The share of the first ten images that each caption and its rewrite have in common: float64 [C].

    Images of one picture are one, because equal similarities have no order.
    """
    pictures = int(with_captions.pictures.max()) + 1
    images = torch.empty(pictures, with_captions.images.shape[1])
    images[with_captions.pictures] = with_captions.images
    images = images.to(device)
    within = min(OVERLAP_RANKS, pictures)
    rows = max(1, block_elements // (2 * pictures))
    shares = []
    for start in range(0, len(with_captions.tokens), rows):
        first, second = (
            (pairs.texts[pairs.tokens[start : start + rows]].to(device) @ images.T).topk(within, dim=1).indices
            for pairs in (with_captions, with_rewrites)
        )  # [rows, 10] each
        common = (first[:, :, None] == second[:, None, :]).sum(dim=(1, 2))
        shares.append(common.double().cpu() / within)
    return torch.cat(shares)


def _of_owners(values: torch.Tensor, owners: torch.Tensor) -> NDArray[np.float64]:
    """The mean over the captions of each image, [C] to [I]; every image has a caption."""
    mean = torch.bincount(owners, values.double()) / torch.bincount(owners)
    means: NDArray[np.float64] = mean.numpy()
    return means


def _scattered(values: NDArray[np.float64], images: torch.Tensor, count: int, missing: float) -> NDArray[np.float64]:
    """Values of some images among all values: [I] to [count]."""
    scattered = np.full(count, missing)
    scattered[images.numpy()] = values
    return scattered
