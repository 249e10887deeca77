"""Retrieval with rewrites differs from retrieval with captions by the words only."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.retrieval import Pairs, directions_of
from laclip_ray.evaluation.tasks import RANKS
from laclip_ray.evaluation.wording.paraphrases import Rewrites, paraphrase_metrics
from tests.cases import case

CPU = torch.device("cpu")
Rule = Literal["match", "differ"]
RULES: tuple[Rule, ...] = ("match", "differ")


def normalised(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def pairs_of(images: torch.Tensor, texts: torch.Tensor, owners: list[int], tokens: list[int] | None = None) -> Pairs:
    numbers = list(range(len(owners))) if tokens is None else tokens
    return Pairs(
        normalised(images),
        torch.arange(len(images)),
        normalised(texts),
        torch.tensor(numbers),
        torch.tensor(owners),
        [f"text {number}" for number in numbers],
    )


def random_pairs(seed: int, images: int = 30, each: int = 2, size: int = 8) -> Pairs:
    draws = torch.Generator().manual_seed(seed)
    vectors = torch.randn(images, size, generator=draws)
    owners = [image for image in range(images) for _ in range(each)]
    return pairs_of(vectors, vectors[owners] + torch.randn(len(owners), size, generator=draws), owners)


def rewrites_of(pairs: Pairs, noise: float, without: set[int] | None = None) -> Rewrites:
    """A rewrite of each caption, whose embedding is that of the caption with noise."""
    draws = torch.Generator().manual_seed(7)
    texts = pairs.texts[pairs.tokens]
    tokens = [-1 if caption in (without or ()) else caption for caption in range(len(texts))]
    return Rewrites(normalised(texts + noise * torch.randn(texts.shape, generator=draws)), torch.tensor(tokens))


def metrics_of(pairs: Pairs, rewrites: Rewrites, rule: Rule = "differ", block: int = 10_000) -> dict[str, Any]:
    return paraphrase_metrics(pairs, rewrites, rule, CPU, block).metrics


@pytest.mark.parametrize("rule", RULES)
def test_rewrites_with_the_embeddings_of_their_captions_change_nothing(rule: Rule) -> None:
    pairs = random_pairs(0)
    metrics = metrics_of(pairs, rewrites_of(pairs, 0.0), rule)
    drops = {name: value for name, value in metrics.items() if name.endswith("_drop")}
    assert len(drops) == 6
    assert set(drops.values()) == {0.0}
    assert metrics["top10_overlap"] == 1.0


def test_rewrites_that_say_something_else_lose_recall_and_overlap() -> None:
    pairs = random_pairs(1)
    metrics = metrics_of(pairs, rewrites_of(pairs, 3.0))
    assert metrics["text_to_image_r5_drop"] > 0.3
    assert metrics["image_to_text_r5_drop"] > 0.3
    assert 0.2 < metrics["top10_overlap"] < 0.6  # 10 of 30 images overlap by a third by chance


@pytest.mark.parametrize("rule", RULES)
def test_recalls_are_those_of_retrieval_among_the_covered_captions(rule: Rule) -> None:
    pairs = random_pairs(2, each=3)
    without = {0, 1, 2, 3, 40}  # the first image has no covered caption
    rewrites = rewrites_of(pairs, 0.8, without)
    found = metrics_of(pairs, rewrites, rule)
    kept = [caption for caption in range(90) if caption not in without]
    owners = [caption // 3 - 1 for caption in kept]
    for suffix, texts in (("", pairs.texts), ("_rewritten", rewrites.texts)):
        alone = pairs_of(pairs.images[1:], texts[kept], owners)
        for name, direction in zip(("image_to_text", "text_to_image"), directions_of(alone, rule), strict=True):
            ranks = direction.ranks(CPU)
            for rank in RANKS:
                assert found[f"{name}_r{rank}{suffix}"] == pytest.approx(direction.recall(ranks, rank))
    assert (found["captions"], found["covered"], found["not_covered"], found["images"]) == (90, 85, 5, 29)


@pytest.mark.parametrize("rule", RULES)
def test_values_of_images_have_the_metrics_as_their_means(rule: Rule) -> None:
    pairs = random_pairs(3, each=3)
    measured = paraphrase_metrics(pairs, rewrites_of(pairs, 0.8, {0, 1, 2, 3}), rule, CPU)
    assert len(measured.per_image) == 19
    for name, metric in measured.per_image.items():
        assert np.flatnonzero(np.isnan(metric.values)).tolist() == [0]
        weights = np.ones(30) if metric.weights is None else metric.weights
        mean = np.average(metric.values[1:], weights=weights[1:])
        assert measured.metrics[name] == pytest.approx(mean)
        assert (metric.weights is None) == name.startswith("image_to_text")


@given(seed=st.integers(0, 99), block=st.integers(1, 200), rule=st.sampled_from(RULES))
def test_the_size_of_blocks_does_not_matter(seed: int, block: int, rule: Rule) -> None:
    pairs = random_pairs(seed, images=6)
    rewrites = rewrites_of(pairs, 0.5)
    # Small differences of similarities may be rounded otherwise; random ones are not so close.
    assert metrics_of(pairs, rewrites, rule, block) == pytest.approx(metrics_of(pairs, rewrites, rule))


def test_overlap_is_the_share_of_the_first_ten_images_in_common() -> None:
    pairs = random_pairs(4, images=25, each=1)
    rewrites = rewrites_of(pairs, 1.0)
    shares = []
    for caption in range(25):
        first, second = (
            set((pairs.images @ texts[caption]).argsort(descending=True)[:10].tolist())
            for texts in (pairs.texts, rewrites.texts)
        )
        shares.append(len(first & second) / 10)
    assert metrics_of(pairs, rewrites)["top10_overlap"] == pytest.approx(np.mean(shares))


def test_pictures_of_the_same_bytes_count_once_in_the_overlap() -> None:
    pairs = random_pairs(5, images=24, each=1)
    pairs.images[12:] = pairs.images[:12]
    pairs.pictures = torch.arange(24) % 12
    assert metrics_of(pairs, rewrites_of(pairs, 0.0))["top10_overlap"] == 1.0


@pytest.mark.parametrize("rule", RULES)
def test_captions_of_the_same_tokens_have_one_rewrite(rule: Rule) -> None:
    # Without this, rewrites would tell apart images that their equal captions do not.
    images = torch.eye(4)
    captions = pairs_of(images, torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), [0, 1, 2, 3], [0, 0, 1, 2])
    rewrites = Rewrites(torch.eye(4), torch.arange(4))
    measured = paraphrase_metrics(captions, rewrites, rule, CPU)
    assert measured.metrics["covered"] == 4
    hits = measured.per_image["text_to_image_r1_rewritten"].values
    assert hits.tolist() == ([1, 1, 1, 1] if rule == "match" else [1, 0, 1, 1])


def test_a_caption_without_a_rewrite_takes_that_of_an_equal_caption() -> None:
    captions = pairs_of(torch.eye(3), torch.eye(3), [0, 1, 2], [0, 0, 1])
    metrics = metrics_of(captions, Rewrites(torch.eye(3), torch.tensor([-1, 0, 1])), "match")
    assert (metrics["covered"], metrics["not_covered"]) == (3, 0)


@case(
    "Evaluation",
    "rewrites that several different captions have",
    "these captions are left out and counted (`shared_rewrites`): the rewriter lost what tells them apart",
)
def test_captions_that_share_a_rewrite_are_left_out() -> None:
    pairs = random_pairs(6, images=5, each=1)
    rewrites = Rewrites(pairs.texts, torch.tensor([0, 0, 2, 3, 4]))
    metrics = metrics_of(pairs, rewrites)
    assert (metrics["covered"], metrics["shared_rewrites"], metrics["images"]) == (3, 2, 3)


@case("Evaluation", "a rewrite set that has no caption of the set", "no result and no number; the message says why", 3)
def test_no_covered_caption_is_no_result() -> None:
    pairs = random_pairs(7, images=4, each=1)
    with pytest.raises(NoResultError, match=r"none of the 4 captions has an accepted rewrite.*\(4 have none, 0 share"):
        metrics_of(pairs, Rewrites(pairs.texts, torch.full((4,), -1)))


def test_embeddings_that_are_not_numbers_are_refused() -> None:
    pairs = random_pairs(8, images=4, each=1)
    rewrites = rewrites_of(pairs, 0.5)
    rewrites.texts[1, 0] = torch.nan
    with pytest.raises(NoResultError, match="embeddings of rewrites are infinite or not numbers"):
        metrics_of(pairs, rewrites)
