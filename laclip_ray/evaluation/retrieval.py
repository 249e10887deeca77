"""Image-text retrieval: recall at 1, 5 and 10 in both directions, for images with any number of captions.

An image finds its captions if one of them is among the first k of all captions. A caption finds its image if the image
is among the first k of all images. The recalls are those of CLIP_benchmark with `--no_amp`, with two additions.

Ties. Another input with the same similarity as the right one counts as better.

Equal captions. Alt-texts repeat, so all images of one caption are right answers to it (`match`). CLIP_benchmark knows
only pairs, and published sets are measured so (`differ`). Then inputs that the model cannot tell apart (captions with
the same tokens, pictures with the same bytes) are ordered by their position, as in CLIP_benchmark on a CPU.

Memory grows with the number of images and captions, not with their product: similarities are computed for a block of
rows at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from laclip_ray.config import EqualCaptions
from laclip_ray.evaluation.embeddings import SpreadCheck
from laclip_ray.evaluation.tasks import RANKS

BLOCK_ELEMENTS = 2**22
"""Upper bound on the similarities computed at a time, unless one row has more. Each takes about 16 bytes."""


@dataclass
class Pairs:
    """Embeddings of I images and C captions, and which belong together."""

    images: torch.Tensor
    """float32 [I, D], normalised."""
    pictures: torch.Tensor
    """int64 [I]: numbers of the images' contents."""
    texts: torch.Tensor
    """float32 [T, D], normalised: one for each different sequence of tokens."""
    tokens: torch.Tensor
    """int64 [C]: each caption's row of `texts`."""
    owners: torch.Tensor
    """int64 [C]: each caption's image."""
    captions: Sequence[str]


@dataclass(frozen=True)
class Retrieval:
    """The result of a retrieval set."""

    metrics: dict[str, Any]
    """JSON: the recalls as shares, and counts."""
    ranks: tuple[torch.Tensor, torch.Tensor]
    """float32 [R] each: of image to text and text to image, the rank of each row's best right answer, from 0."""
    directions: "tuple[Direction, Direction]"


def retrieval_metrics(pairs: Pairs, device: torch.device, equal_captions: EqualCaptions = "match") -> Retrieval:
    """Measure the recall of each image's captions among all captions, and of each caption's image among all images.

    Args:
        pairs: the embedded set, with at least one caption.
        device: computes the similarities.
        equal_captions: the rule for captions that several images have. `auto`: `differ` if most images have several
            captions, else `match`.

    Returns:
        Its metrics are `image_to_text_r1`, `_r5`, `_r10`, `text_to_image_r1`, `_r5`, `_r10`. Also `images` (and the
        same as `samples`), `captions`, `repeated_captions` (captions that another image has too) and `equal_captions`
        (the rule that was used).

    Raises:
        NoResultError: the embeddings are not finite, or all the same.
    """
    for kind, embeddings in (("images", pairs.images), ("captions", pairs.texts)):
        check = SpreadCheck(kind)
        check.add(embeddings)
        check.finish()
    if equal_captions == "auto":
        several = int((torch.bincount(pairs.owners) > 1).sum())
        equal_captions = "differ" if 2 * several > len(pairs.images) else "match"
    directions = directions_of(pairs, equal_captions)
    ranks = directions[0].ranks(device), directions[1].ranks(device)
    metrics: dict[str, Any] = {}
    for name, direction, of_direction in zip(("image_to_text", "text_to_image"), directions, ranks, strict=True):
        metrics |= {f"{name}_r{rank}": direction.recall(of_direction, rank) for rank in RANKS}
    metrics |= {
        "images": len(pairs.images),
        "samples": len(pairs.images),
        "captions": len(pairs.owners),
        "repeated_captions": _repeated(pairs),
        "equal_captions": equal_captions,
    }
    return Retrieval(metrics, ranks, directions)


@dataclass(frozen=True)
class Direction:
    """One direction of retrieval: R rows, each with its right answers among N columns.

    Columns that the model cannot tell apart are one of K candidates.
    """

    queries: torch.Tensor
    """float32 [Q, D]."""
    query_of: torch.Tensor
    """int64 [R]: each row's query."""
    weights: torch.Tensor
    """float64 [R]: how often each row counts."""
    candidates: torch.Tensor
    """float32 [K, D]."""
    columns: torch.Tensor
    """float32 [K]: how many columns each candidate stands for."""
    match_rows: torch.Tensor
    """int64 [M], ascending: rows of the right answers. Every row has one."""
    match_candidates: torch.Tensor
    """int64 [M]: candidates of the right answers. No pair of row and candidate repeats."""
    columns_before: torch.Tensor
    """float32 [M]: wrong columns of the same candidate that come before the right one."""

    def recall(self, ranks: torch.Tensor, within: int) -> float:
        """The share of rows whose rank (from `ranks`) is below `within`."""
        return float(self.weights[ranks < within].sum() / self.weights.sum())

    def ranks(self, device: torch.device, block_elements: int = BLOCK_ELEMENTS) -> torch.Tensor:
        """The rank of each row's best right answer, from 0: float32 [R] on the CPU.

        Args:
            device: computes the similarities.
            block_elements: similarities computed at a time, at most.
        """
        queries, candidates, columns = (part.to(device) for part in (self.queries, self.candidates, self.columns))
        block_rows = max(1, block_elements // len(candidates))
        ranks = torch.empty(len(self.query_of))
        for start in range(0, len(ranks), block_rows):
            rows = queries[self.query_of[start : start + block_rows].to(device)]
            bounds = torch.searchsorted(self.match_rows.contiguous(), torch.tensor([start, start + len(rows)]))
            part = slice(int(bounds[0]), int(bounds[1]))
            numbers = (self.match_rows[part] - start).to(device)
            right = self.match_candidates[part].to(device)
            similarity = rows @ candidates.T  # [rows of the block, K]
            of_matches = similarity[numbers, right]
            best = _reduce(of_matches, numbers, len(rows), "amax")
            is_ahead = similarity >= best[:, None]
            is_ahead[numbers, right] = False
            # Among equally similar right answers, the one with the fewest wrong columns before it decides.
            before = torch.where(of_matches == best[numbers], self.columns_before[part].to(device), torch.inf)
            ahead = is_ahead.float() @ columns + _reduce(before, numbers, len(rows), "amin")
            ranks[start : start + len(rows)] = ahead.cpu()
        return ranks


def _reduce(values: torch.Tensor, rows: torch.Tensor, count: int, how: str) -> torch.Tensor:
    """The largest (`amax`) or smallest (`amin`) value of each of `count` rows."""
    reduced = torch.zeros(count, dtype=values.dtype, device=values.device)
    return reduced.scatter_reduce(0, rows, values, how, include_self=False)


def directions_of(pairs: Pairs, equal_captions: EqualCaptions) -> tuple[Direction, Direction]:
    """Image to text, and text to image.

    Args:
        pairs: the embedded set.
        equal_captions: `match` or `differ`.
    """
    return _matching(pairs) if equal_captions == "match" else _differing(pairs)


def _matching(pairs: Pairs) -> tuple[Direction, Direction]:
    """An image's right answers are all captions with the text of one of its own; and the other way round."""
    text_of = number_texts(pairs.captions)
    tokens = torch.empty(int(text_of.max()) + 1, dtype=torch.int64)
    tokens[text_of] = pairs.tokens
    texts, counts = pairs.texts[tokens], torch.bincount(text_of)
    count = len(pairs.images)
    images = torch.arange(count)
    of_image, of_text = torch.unique(torch.stack([pairs.owners, text_of]), dim=1)  # sorted by image
    before = torch.zeros(len(of_image))
    by_text = of_text.argsort(stable=True)
    return (
        Direction(pairs.images, images, _ones(count), texts, counts.float(), of_image, of_text, before),
        Direction(
            texts, torch.arange(len(texts)), counts.double(), pairs.images, torch.ones(count),
            of_text[by_text], of_image[by_text], before,
        ),
    )  # fmt: skip


def _differing(pairs: Pairs) -> tuple[Direction, Direction]:
    """Only an image's own captions are its right answers, and only a caption's own image is its right answer."""
    count = len(pairs.images)
    (of_image, of_text), pair_of = torch.unique(
        torch.stack([pairs.owners, pairs.tokens]), dim=1, return_inverse=True
    )  # sorted by image
    before = _reduce(_earlier(pairs.tokens), pair_of, len(of_image), "amin")
    first_image = _reduce(torch.arange(count), pairs.pictures, int(pairs.pictures.max()) + 1, "amin")
    captions = torch.arange(len(pairs.owners))
    return (
        Direction(
            pairs.images, torch.arange(count), _ones(count), pairs.texts, torch.bincount(pairs.tokens).float(),
            of_image, of_text, before,
        ),
        Direction(
            pairs.texts, pairs.tokens, _ones(len(captions)), pairs.images[first_image],
            torch.bincount(pairs.pictures).float(), captions, pairs.pictures[pairs.owners],
            _earlier(pairs.pictures)[pairs.owners],
        ),
    )  # fmt: skip


def ranks_of_captions(ranks: torch.Tensor, captions: Sequence[str], equal_captions: EqualCaptions) -> torch.Tensor:
    """The rank of each caption's best image: float32 [C].

    Args:
        ranks: of text to image, from `Direction.ranks`. With `match`, a row stands for all captions of one text.
        captions: all C captions.
        equal_captions: `match` or `differ`.
    """
    return ranks[number_texts(captions)] if equal_captions == "match" else ranks


def number_texts(texts: Sequence[str]) -> torch.Tensor:
    """Number different texts in the order of their first appearance: int64 [N]."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts], dtype=torch.int64)


def _ones(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.float64)


def _earlier(numbers: torch.Tensor) -> torch.Tensor:
    """How many earlier items have the same number, for each of N items: float32 [N]."""
    order = numbers.argsort(stable=True)
    counts = torch.bincount(numbers)
    starts = counts.cumsum(0) - counts
    earlier = torch.empty(len(numbers))
    earlier[order] = (torch.arange(len(numbers)) - starts[numbers[order]]).float()
    return earlier


def _repeated(pairs: Pairs) -> int:
    """How many captions another image has too."""
    images_of: dict[str, set[int]] = {}
    for caption, owner in zip(pairs.captions, pairs.owners.tolist(), strict=True):
        images_of.setdefault(caption, set()).add(owner)
    return sum(len(images_of[caption]) > 1 for caption in pairs.captions)
