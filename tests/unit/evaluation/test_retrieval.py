"""Recall follows its definition, equals CLIP_benchmark's, and no model gains from ties, repeats or NaN."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.captioned import CaptionedImage
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.pairs import collect_captioned, embed_pairs
from laclip_ray.evaluation.retrieval import (
    Pairs,
    directions_of,
    retrieval_metrics,
)
from laclip_ray.evaluation.tasks import RANKS
from laclip_ray.evaluation.tasks import RECALLS as METRICS
from tests.cases import case
from tests.unit.evaluation.encoded import TestModel, encoding, read_texts

CPU = torch.device("cpu")
PADDING = 0


class Lookup(TestModel):
    """A model whose embedding of an image, or of a text's number, is a row of a table."""

    def __init__(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        self.images, self.texts = images, texts

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.texts[tokens[:, 0]]


def tokenize(captions: list[str], context_length: int = 2) -> torch.Tensor:
    """`text 7` becomes token 7, and a word after it token 1; capitals make no difference."""
    rows = [[int(words[1]), *([1] * len(words[2:]))] if (words := caption.split()) else [0] for caption in captions]
    return torch.tensor([[*row, *([PADDING] * context_length)][:context_length] for row in rows])


def rows_of(model: Lookup, captions: Sequence[Sequence[str]]) -> Iterator[CaptionedImage]:
    for image, texts in enumerate(captions):
        yield CaptionedImage(image, image, model.images[image].numpy(), texts)


def measure_rows(model: Lookup, rows: Iterable[CaptionedImage], batch_size: int, equal_captions: Any) -> dict[str, Any]:
    found = collect_captioned(rows)
    with encoding(model, tokenizer=tokenize, batch_size=batch_size) as encoder:
        texts = read_texts(encoder, found.captions)
    metrics = retrieval_metrics(embed_pairs(found, texts), CPU, equal_captions).metrics
    return {**metrics, "captions_cut": texts.count_cut(list(dict.fromkeys(found.captions)))}


def measure(
    model: Lookup, captions: Sequence[Sequence[str]], batch_size: int = 4, equal_captions: Any = "match"
) -> dict[str, Any]:
    return measure_rows(model, rows_of(model, captions), batch_size, equal_captions)


def recalls(model: Lookup, captions: Sequence[Sequence[str]], **options: Any) -> dict[str, float]:
    metrics = measure(model, captions, **options)
    assert (metrics["images"], metrics["samples"]) == (len(captions), len(captions))
    assert metrics["captions"] == sum(map(len, captions))
    assert {name for name, value in metrics.items() if isinstance(value, float)} == set(METRICS)
    return {name: metrics[name] for name in METRICS}


def one_each(count: int) -> list[list[str]]:
    return [[f"text {number}"] for number in range(count)]


def test_matching_embeddings_find_everything() -> None:
    assert set(recalls(Lookup(torch.eye(20), torch.eye(20)), one_each(20)).values()) == {1.0}


@case("Evaluation", "a perfect model and five captions an image", "recall at 1 is 100 % in both directions")
@pytest.mark.parametrize("equal_captions", ["match", "differ", "auto"])
def test_matching_embeddings_find_all_captions_of_an_image(equal_captions: str) -> None:
    captions = [[f"text {5 * image + number}" for number in range(5)] for image in range(20)]
    model = Lookup(torch.eye(20), torch.eye(20).repeat_interleave(5, dim=0))
    assert set(recalls(model, captions, equal_captions=equal_captions).values()) == {1.0}


def test_embeddings_shifted_by_one_find_nothing_first() -> None:
    metrics = recalls(Lookup(torch.eye(20), torch.eye(20).roll(1, 0)), one_each(20))
    assert metrics["image_to_text_r1"] == metrics["text_to_image_r1"] == 0.0


def test_recall_rises_with_the_rank_at_which_matches_are() -> None:
    # On a circle, image n is nearest to text n + 3, then to the neighbours of that text: its own text has rank 5 or 6.
    angles = torch.arange(20) * 2 * torch.pi / 20
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    shifted = angles + 2.9 * 2 * torch.pi / 20
    metrics = recalls(Lookup(torch.stack([shifted.cos(), shifted.sin()], dim=1), circle), one_each(20))
    assert [metrics[f"image_to_text_r{rank}"] for rank in RANKS] == [0.0, 0.0, 1.0]


def test_images_of_one_caption_may_find_it_anywhere() -> None:
    captions = [[f"text {number // 2}"] for number in range(10)]
    images = torch.eye(5).repeat_interleave(2, dim=0)
    assert set(recalls(Lookup(images, torch.eye(5)), captions).values()) == {1.0}


def test_without_this_rule_equal_captions_compete() -> None:
    captions = [[f"text {number // 2}"] for number in range(10)]
    images = torch.eye(5).repeat_interleave(2, dim=0)
    metrics = recalls(Lookup(images, torch.eye(5)), captions, equal_captions="differ")
    assert (metrics["image_to_text_r1"], metrics["text_to_image_r1"]) == (0.5, 0.0)  # a tie between images counts
    assert metrics["text_to_image_r5"] == 1.0


def test_the_rule_for_equal_captions_follows_the_captions_of_an_image() -> None:
    several, one = [["text 0", "text 1"], ["text 1", "text 2"], ["text 3"]], [["text 0", "text 1"], ["text 0"]]
    model = Lookup(torch.eye(4), torch.eye(4))
    assert measure(model, several, equal_captions="auto")["equal_captions"] == "differ"
    assert measure(model, one, equal_captions="auto")["equal_captions"] == "match"
    assert measure(model, one)["repeated_captions"] == measure(model, several)["repeated_captions"] == 2


@pytest.mark.parametrize("equal_captions", ["match", "differ"])
def test_the_batch_size_does_not_matter(equal_captions: str) -> None:
    torch.manual_seed(0)
    model = Lookup(torch.randn(13, 4), torch.randn(40, 4))
    captions = [[f"text {(7 * image + number) % 40}" for number in range(1 + image % 3)] for image in range(13)]
    one, five, all_at_once = (measure(model, captions, size, equal_captions) for size in (1, 5, 50))
    assert one == five == all_at_once


@case(
    "Evaluation",
    "captions longer than the model's context",
    "they are cut, as in training; `captions_cut` says how many",
)
def test_captions_that_are_cut_are_counted() -> None:
    captions = [["text 0 long"], ["text 1 very long"], ["text 2"], ["text 3 much too long"]]
    metrics = measure(Lookup(torch.eye(4), torch.eye(4)), captions)
    assert (metrics["captions_cut"], metrics["captions"]) == (2, 4)


@case("Evaluation", "a model whose embeddings are NaN", "the dataset has no result and no number", exit_code=3)
@pytest.mark.parametrize("broken", ["images", "texts"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_numbers_are_refused(broken: str, value: float) -> None:
    model = Lookup(torch.eye(20), torch.eye(20))
    getattr(model, broken)[7] = value
    with pytest.raises(NoResultError, match=r"embeddings of \w+ are infinite or not numbers.*diverged"):
        measure(model, one_each(20))


@case(
    "Evaluation",
    "a model that gives one embedding for everything",
    "the dataset has no result and no number",
    exit_code=3,
)
@pytest.mark.parametrize(
    ("images", "texts", "kind"),
    [
        (torch.ones(20, 8), torch.eye(20, 8), "images"),
        (torch.eye(20, 8), torch.ones(20, 8), "captions"),
        (torch.zeros(20, 8), torch.eye(20, 8), "images"),
    ],
)
def test_a_model_that_gives_one_embedding_is_refused(images: torch.Tensor, texts: torch.Tensor, kind: str) -> None:
    with pytest.raises(NoResultError, match=rf"same embedding for all 20 {kind}.*collapsed"):
        measure(Lookup(images, texts), one_each(20))


def test_a_row_of_a_known_image_adds_captions_only() -> None:
    def rows() -> Iterator[CaptionedImage]:
        yield CaptionedImage(0, 0, np.array([1, 0], np.float32), ["text 0"])
        yield CaptionedImage(1, 1, np.array([0, 1], np.float32), ["text 1"])
        yield CaptionedImage(0, 0, None, ["text 2", "text 3"])

    model = Lookup(torch.eye(2), torch.tensor([[1.0, 0], [0, 1], [1, 0.1], [0, 1]]))
    metrics = measure_rows(model, rows(), 4, "differ")
    assert (metrics["images"], metrics["captions"]) == (2, 4)
    assert metrics["text_to_image_r1"] == 0.75  # text 3 is taken for image 1
    assert metrics["image_to_text_r1"] == 0.5  # text 3 ties with text 1


# --- equality with a brute-force reference, and with CLIP_benchmark


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    """Pairs with many ties, equal captions and equal pictures."""
    images, kinds = draw(st.integers(1, 7)), draw(st.integers(1, 8))
    owners = sorted([*range(images), *draw(st.lists(st.integers(0, images - 1), max_size=8))])
    if draw(st.booleans()):
        owners = list(draw(st.permutations(owners)))
    tokens = [draw(st.integers(0, kinds - 1)) for _ in owners]
    distinct = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    pictures = [draw(st.integers(0, image)) for image in range(images)]
    known: dict[int, int] = {}
    pictures = [known.setdefault(picture, len(known)) for picture in pictures]
    # Sums of a few powers of two are exact, in any order of addition.
    values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3)
    of_pictures = torch.tensor([draw(values) for _ in known])
    return Pairs(
        images=of_pictures[pictures],
        pictures=torch.tensor(pictures),
        texts=torch.tensor([draw(values) for _ in distinct]),
        tokens=torch.tensor([distinct[token] for token in tokens]),
        owners=torch.tensor(owners),
        captions=[f"text {token}" for token in tokens],
    )


def brute_force(
    rows: int,
    columns: int,
    similarity: Callable[[int, int], float],
    right: Callable[[int, int], bool],
    is_ahead: Callable[[int, int], bool],
) -> list[int]:
    """Each row's rank: the fewest wrong columns ahead of one of its right ones."""  # fmt: skip
    ranks = []
    for row in range(rows):
        best = max(similarity(row, column) for column in range(columns) if right(row, column))
        ranks.append(
            min(
                sum(
                    similarity(row, other) > best or (similarity(row, other) == best and is_ahead(other, column))
                    for other in range(columns)
                    if not right(row, other)
                )
                for column in range(columns)
                if right(row, column) and similarity(row, column) == best
            )
        )
    return ranks


@given(made=pairs(), block=st.integers(1, 30))
def test_matching_ranks_count_the_strangers_that_are_at_least_as_similar(made: Pairs, block: int) -> None:
    to_text, to_image = directions_of(made, "match")
    captions, owners = made.captions, made.owners.tolist()
    texts_of = [{captions[c] for c in range(len(captions)) if owners[c] == image} for image in range(len(made.images))]
    scores = (made.images @ made.texts[made.tokens].T).tolist()
    expected = brute_force(
        len(made.images), len(captions), lambda i, c: scores[i][c], lambda i, c: captions[c] in texts_of[i],
        lambda other, own: True,
    )  # fmt: skip
    assert to_text.ranks(CPU, block).tolist() == expected
    expected = brute_force(
        len(captions), len(made.images), lambda c, i: scores[i][c], lambda c, i: captions[c] in texts_of[i],
        lambda other, own: True,
    )  # fmt: skip
    by_text = to_image.ranks(CPU, block)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(captions))}
    assert [by_text[numbers[caption]] for caption in captions] == expected
    assert to_image.weights.tolist() == [captions.count(text) for text in numbers]


@given(made=pairs(), block=st.integers(1, 30))
def test_differing_ranks_order_the_inputs_that_are_the_same_by_position(made: Pairs, block: int) -> None:
    to_text, to_image = directions_of(made, "differ")
    tokens, owners, pictures = made.tokens.tolist(), made.owners.tolist(), made.pictures.tolist()
    scores = (made.images @ made.texts[made.tokens].T).tolist()
    captions = range(len(tokens))
    # Own captions that tie are one right answer: a wrong caption of the same tokens as one of them comes after it.
    expected = []
    for image in range(len(pictures)):
        best = max(scores[image][c] for c in captions if owners[c] == image)
        wrong = [c for c in captions if owners[c] != image]
        own_tokens = {tokens[c] for c in captions if owners[c] == image}
        ahead = sum(scores[image][c] >= best and tokens[c] not in own_tokens for c in wrong)
        tied = [c for c in captions if owners[c] == image and scores[image][c] == best]
        expected.append(ahead + min(sum(tokens[w] == tokens[c] and w < c for w in wrong) for c in tied))
    assert to_text.ranks(CPU, block).tolist() == expected
    expected = brute_force(
        len(tokens), len(pictures), lambda c, i: scores[i][c], lambda c, i: owners[c] == i,
        lambda other, own: pictures[other] != pictures[own] or other < own,
    )  # fmt: skip
    assert to_image.ranks(CPU, block).tolist() == expected


def benchmark_recall(scores: torch.Tensor, positives: torch.Tensor, within: int) -> float:
    """Recall as CLIP_benchmark defines it: the share of rows with a positive among the `within` highest scores.

    Args:
        scores: [R, N].
        positives: bool [R, N].
        within: rank.
    """
    highest = scores.argsort(dim=1, descending=True, stable=True)[:, :within]
    return float(positives.gather(1, highest).any(dim=1).float().mean())


@case(
    "Evaluation",
    "a retrieval set in CLIP_benchmark's layout",
    "the recalls are those of CLIP_benchmark with `--no_amp`, also where captions repeat",
)
@pytest.mark.parametrize("repeats", [False, True])
def test_recalls_are_those_of_clip_benchmark(repeats: bool) -> None:
    torch.manual_seed(1)
    images, captions = 300, 1_100
    owners = torch.cat([torch.arange(images), torch.randint(images, (captions - images,))]).sort().values
    tokens = torch.randint(700, (captions,)) if repeats else torch.arange(captions)
    tokens = torch.unique(tokens, return_inverse=True)[1]
    texts = torch.nn.functional.normalize(torch.randn(int(tokens.max()) + 1, 16), dim=1)
    first = torch.stack([texts[tokens[owners == image][0]] for image in range(images)])
    embedded = torch.nn.functional.normalize(first + 0.2 * torch.randn(images, 16), dim=1)
    named = [f"text {token}" for token in tokens.tolist()]
    scores = texts[tokens] @ embedded.T
    positives = torch.zeros(captions, images, dtype=torch.bool)
    positives[torch.arange(captions), owners] = True
    made = Pairs(embedded, torch.arange(images), texts, tokens, owners, named)
    for direction, theirs, own in zip(
        directions_of(made, "differ"), (scores.T, scores), (positives.T, positives), strict=True
    ):
        ranks = direction.ranks(CPU, 10_000)
        for rank in RANKS:
            expected = benchmark_recall(theirs, own, rank)
            assert expected > 0.02
            assert direction.recall(ranks, rank) == pytest.approx(expected, abs=1e-6)


def test_without_repeats_both_rules_are_those_of_clip_benchmark() -> None:
    torch.manual_seed(2)
    captions = [[f"text {3 * image + number}" for number in range(3)] for image in range(50)]
    model = Lookup(torch.randn(50, 8), torch.randn(150, 8))
    assert recalls(model, captions) == recalls(model, captions, equal_captions="differ")


@case(
    "Evaluation",
    "a set of many images and captions",
    "similarities are computed in blocks: memory does not grow with their product",
)
def test_memory_is_bounded_by_a_block_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    largest = 0
    multiply = torch.Tensor.__matmul__

    def watch(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        product = multiply(left, right)
        largest = max(largest, product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watch)
    count, images = 2_000, 400
    made = Pairs(
        torch.randn(images, 4), torch.arange(images), torch.randn(count, 4), torch.arange(count),
        torch.arange(count) % images, [f"text {number}" for number in range(count)],
    )  # fmt: skip
    for direction in directions_of(made, "differ"):
        direction.ranks(CPU, block_elements=10_000)
    assert 1_000 < largest <= 10_000
