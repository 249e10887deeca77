"""Preferences are counted by kind and by image, and a model that ignores words prefers nothing."""

from typing import Any

import numpy as np
import pytest
import torch

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.retrieval import Pairs
from laclip_ray.evaluation.wording.hard_negative_metrics import WrongCaptions, hard_negative_metrics
from laclip_ray.evaluation.wording.hard_negatives import KINDS
from tests.cases import case


def pairs_of(images: torch.Tensor, texts: torch.Tensor, owners: list[int]) -> Pairs:
    captions = [f"text {number}" for number in range(len(owners))]
    numbers = torch.arange(len(images)), torch.arange(len(owners))
    return Pairs(images, numbers[0], texts, numbers[1], torch.tensor(owners), captions)


def wrong_of(texts: torch.Tensor, captions: list[int], kinds: list[str]) -> WrongCaptions:
    return WrongCaptions(texts, torch.arange(len(captions)), torch.tensor(captions, dtype=torch.int64), kinds)


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


IMAGES = unit([1.0, 0, 0], [0, 1, 0], [0, 0, 1])
NEAR, FAR = [1.0, 0.5, 0.5], [0.2, 1, 1]
"""To the first image, if a caption lies between them."""


def example() -> tuple[Pairs, WrongCaptions]:
    """Image 0 has captions 0 and 1, image 1 has caption 2, image 2 has none with wrong captions."""
    captions = unit([1, 0.3, 0.3], [1, 0.3, 0.2], [0.3, 1, 0.3], [0.3, 0.3, 1])
    wrong = unit(FAR, NEAR, [1.0, 0, 0], [0.3, 1, 0.3])
    kinds = ["objects_exchanged", "attribute_replaced", "attribute_replaced", "number_changed"]
    return pairs_of(IMAGES, captions, [0, 0, 1, 2]), wrong_of(wrong, [0, 0, 1, 2], kinds)


def test_shares_are_of_wrong_captions_by_kind_and_a_tie_is_wrong() -> None:
    metrics = hard_negative_metrics(*example()).metrics
    assert metrics["objects_exchanged"] == 1.0
    assert metrics["attribute_replaced"] == 0.5  # image 0 is closer to the wrong caption of caption 1
    assert metrics["number_changed"] == 0.0  # a tie
    assert metrics["tied"] == 1
    assert (metrics["other_order"], metrics["other_words"], metrics["preferred"]) == (1.0, pytest.approx(1 / 3), 0.5)
    assert "attributes_exchanged" not in metrics
    assert metrics["negatives"] == dict(zip(KINDS, (1, 0, 2, 1), strict=True))
    assert (metrics["captions"], metrics["images"]) == (3, 2)


def test_an_image_counts_if_it_prefers_each_caption_to_all_its_wrong_captions() -> None:
    pairs, wrong = example()
    measured = hard_negative_metrics(pairs, wrong)
    assert measured.metrics["preferred_to_all"] == 0.0
    np.testing.assert_array_equal(measured.per_image["preferred_to_all"].values, [0, 0, np.nan])
    only = wrong_of(wrong.texts[:2], [0, 0], list(wrong.kinds[:2]))
    assert hard_negative_metrics(pairs, only).metrics["preferred_to_all"] == 1.0


def test_values_of_images_have_the_metrics_as_their_weighted_means() -> None:
    measured = hard_negative_metrics(*random_example(0, words=1.0))
    for name, values in measured.per_image.items():
        has_value = np.isfinite(values.values)
        weights = np.ones(len(has_value)) if values.weights is None else values.weights
        mean = np.average(values.values[has_value], weights=weights[has_value])
        assert measured.metrics[name] == pytest.approx(mean)


def random_example(seed: int, words: float) -> tuple[Pairs, WrongCaptions]:
    """Captions near their images. `words`: how far wrong captions move off the image. 0: a model blind to words."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randn(500, 16, generator=draws)
    captions = images + 0.5 * torch.randn(500, 16, generator=draws)
    owners = list(range(500)) * 3
    wrong = captions[owners] + 0.3 * torch.randn(1_500, 16, generator=draws) - words * images[owners]
    normalised = [torch.nn.functional.normalize(part, dim=1) for part in (images, captions, wrong)]
    kinds = [KINDS[number // 500] for number in range(1_500)]
    return pairs_of(normalised[0], normalised[1], list(range(500))), wrong_of(normalised[2], owners, kinds)


def metrics_of(words: float) -> dict[str, Any]:
    return hard_negative_metrics(*random_example(1, words)).metrics


def test_a_model_that_reads_words_prefers_captions() -> None:
    assert metrics_of(1.0)["preferred"] > 0.9
    assert metrics_of(1.0)["preferred_to_all"] > 0.8


def test_a_model_that_guesses_prefers_half_and_all_of_three_in_a_quarter() -> None:
    # Random similarities: neither captions nor wrong captions have to do with the images.
    draws = torch.Generator().manual_seed(2)
    images, captions, wrong = (
        torch.nn.functional.normalize(torch.randn(count, 64, generator=draws), dim=1) for count in (2_000, 2_000, 6_000)
    )
    pairs = pairs_of(images, captions, list(range(2_000)))
    metrics = hard_negative_metrics(pairs, wrong_of(wrong, list(range(2_000)) * 3, [KINDS[0]] * 6_000)).metrics
    assert metrics["preferred"] == pytest.approx(0.5, abs=0.03)
    assert metrics["preferred_to_all_by_guessing"] == pytest.approx(0.25)
    assert metrics["preferred_to_all"] == pytest.approx(0.25, abs=0.03)


def test_a_model_that_gives_exchanged_captions_the_same_embedding_prefers_nothing() -> None:
    pairs, _ = random_example(3, 1.0)
    same = wrong_of(pairs.texts, list(range(500)), ["objects_exchanged"] * 500)
    metrics = hard_negative_metrics(pairs, same).metrics
    assert (metrics["other_order"], metrics["tied"]) == (0.0, 500)


@case(
    "Evaluation", "hard negatives on a set whose captions give none", "no result and no number; the message says why", 3
)
def test_no_wrong_caption_is_no_result() -> None:
    with pytest.raises(NoResultError, match=r"none of the 4 captions gives a wrong caption: the rules are for English"):
        hard_negative_metrics(example()[0], wrong_of(torch.zeros(0, 3), [], []))


def test_embeddings_that_are_not_numbers_are_refused() -> None:
    pairs, wrong = example()
    wrong.texts[0, 0] = torch.nan
    with pytest.raises(NoResultError, match="embeddings of wrong captions are infinite or not numbers"):
        hard_negative_metrics(pairs, wrong)
