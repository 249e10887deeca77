"""Recall follows its definition, and no model gains from ties, repeats or NaN."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.retrieval import RANKS, ranks_of_matches, retrieval_metrics

CPU = torch.device("cpu")


class Lookup:
    """A model whose embedding of an image, or of a text's number, is a row of a table."""

    def __init__(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        self.images, self.texts = images, texts

    def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return torch.nn.functional.normalize(self.images[pixels.flatten(1)[:, 0].long()], dim=1)

    def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return torch.nn.functional.normalize(self.texts[tokens[:, 0]], dim=1)


def tokenize(captions: list[str]) -> torch.Tensor:
    """`text 7` becomes token 7."""
    return torch.tensor([[int(caption.split()[1])] for caption in captions])


def batches(count: int, size: int = 4, captions: list[str] | None = None) -> Iterator[tuple[torch.Tensor, list[str]]]:
    captions = captions or [f"text {number}" for number in range(count)]
    for start in range(0, count, size):
        numbers = range(start, min(start + size, count))
        pixels = torch.tensor(numbers).float()[:, None, None, None].expand(-1, 3, 2, 2)
        yield pixels, [captions[number] for number in numbers]


def recalls(model: Lookup, count: int, captions: list[str] | None = None) -> dict[str, float]:
    metrics = retrieval_metrics(model, tokenize, batches(count, captions=captions), CPU)
    assert metrics.pop("samples") == count
    assert set(metrics) == {f"{way}_r{rank}" for way in ("image_to_text", "text_to_image") for rank in RANKS}
    return metrics


def test_matching_embeddings_find_everything() -> None:
    assert set(recalls(Lookup(torch.eye(20), torch.eye(20)), 20).values()) == {1.0}


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_model_that_gives_one_embedding_finds_nothing(value: float) -> None:
    same = torch.full((20, 8), value)
    assert set(recalls(Lookup(same, same), 20).values()) == {0.0}


def test_embeddings_shifted_by_one_find_nothing_first() -> None:
    metrics = recalls(Lookup(torch.eye(20), torch.eye(20).roll(1, 0)), 20)
    assert metrics["image_to_text_r1"] == metrics["text_to_image_r1"] == 0.0


def test_recall_rises_with_the_rank_at_which_matches_are() -> None:
    # On a circle, image n is nearest to text n + 3, then to the neighbours of that text: its own text has rank 5 or 6.
    angles = torch.arange(20) * 2 * torch.pi / 20
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    shifted = angles + 2.9 * 2 * torch.pi / 20
    metrics = recalls(Lookup(torch.stack([shifted.cos(), shifted.sin()], dim=1), circle), 20)
    assert [metrics[f"image_to_text_r{rank}"] for rank in RANKS] == [0.0, 0.0, 1.0]


def test_images_of_one_caption_may_find_it_anywhere() -> None:
    captions = [f"text {number // 2}" for number in range(10)]
    images = torch.eye(5).repeat_interleave(2, dim=0)
    assert set(recalls(Lookup(images, torch.eye(5)), 10, captions).values()) == {1.0}


def test_the_batch_size_does_not_matter() -> None:
    torch.manual_seed(0)
    model = Lookup(torch.randn(13, 4), torch.randn(13, 4))
    one, five, all_at_once = (retrieval_metrics(model, tokenize, batches(13, size), CPU) for size in (1, 5, 13))
    assert one == five == all_at_once


def test_no_samples_give_no_recall() -> None:
    assert retrieval_metrics(Lookup(torch.eye(2), torch.eye(2)), tokenize, iter([]), CPU) == {"samples": 0}


@given(data=st.data(), count=st.integers(1, 8), kinds=st.integers(1, 8))
def test_a_rank_counts_the_strangers_that_are_at_least_as_similar(data: st.DataObject, count: int, kinds: int) -> None:
    captions = [str(data.draw(st.integers(0, kinds))) for _ in range(count)]
    values = [[data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) for _ in range(count)] for _ in range(count)]
    ranks = ranks_of_matches(torch.tensor(values), captions)
    for row in range(count):
        best = max(values[row][column] for column in range(count) if captions[column] == captions[row])
        strangers = [values[row][column] for column in range(count) if captions[column] != captions[row]]
        assert ranks[row] == sum(value >= best for value in strangers)


def test_nan_counts_against_its_row_only() -> None:
    similarity = torch.eye(3)
    similarity[1, 1] = float("nan")
    assert ranks_of_matches(similarity, ["a", "b", "c"]).tolist() == [0, 2, 0]
    similarity = torch.eye(3)
    similarity[1, 0] = float("nan")
    assert ranks_of_matches(similarity, ["a", "b", "c"]).tolist() == [0, 1, 0]
