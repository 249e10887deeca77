"""Zero-shot accuracy of a model whose embeddings are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.protocols.zero_shot import build_classifier, class_prompts, zero_shot
from tests.cases import case
from tests.unit.evaluation.encoded import TestModel, encoding, read_texts

CLASSES = 20


class Known(TestModel):
    """Embeds texts and images of class n as axis n; may take images of one class for another."""

    def __init__(self, taken_for: dict[int, int] | None = None) -> None:
        self.taken_for = taken_for or {}

    def tokenize(self, texts: list[str], context_length: int = 2) -> torch.Tensor:
        """`class 7` becomes token 7; each further word becomes the token -1."""
        rows = [[int(text.split()[-1]), *([-1] * text.count("long"))] if text else [0] for text in texts]
        return torch.tensor([[*row, *([0] * context_length)][:context_length] for row in rows])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.eye(CLASSES)[tokens[:, 0]]

    def of_classes(self, numbers: torch.Tensor) -> torch.Tensor:
        """Embeddings of images of some classes."""
        return torch.eye(CLASSES)[[self.taken_for.get(int(number), int(number)) for number in numbers]]


def class_names(count: int = CLASSES) -> list[list[str]]:
    return [[f"class {number}"] for number in range(count)]


def measure(
    model: Known,
    labels: list[int],
    names: Sequence[Sequence[str]] | None = None,
    templates: Sequence[str] = ("a {c}", "the {c}"),
    unreadable: Sequence[int] = (),
) -> dict[str, Any]:
    prompts = class_prompts(names or class_names(), templates)
    values = model.of_classes(torch.tensor(labels, dtype=torch.int64)).float().numpy()
    features = Features([f"i{number}" for number in range(len(labels))], values, np.array(labels, np.int64))
    with encoding(model, tokenizer=model.tokenize) as encoder:
        texts = read_texts(encoder, [prompt for of_class in prompts for prompt in of_class])
    return zero_shot(features, build_classifier(prompts, texts), np.array(unreadable, np.int64)).metrics


def test_a_model_that_knows_every_class_is_always_right() -> None:
    assert measure(Known(), list(range(CLASSES)) * 2) == {
        "top1": 1.0,
        "top5": 1.0,
        "mean_per_class": 1.0,
        "images": 40,
        "classes": CLASSES,
        "classes_with_images": CLASSES,
        "counted_wrong": 0,
        "per_class": [1.0] * CLASSES,
    }


def test_images_that_cannot_be_decoded_count_as_wrong() -> None:
    metrics = measure(Known(), [0, 1, 2], unreadable=[2, 3])
    assert (metrics["images"], metrics["counted_wrong"]) == (3, 2)
    assert (metrics["top1"], metrics["top5"]) == (0.6, 0.6)
    assert metrics["mean_per_class"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert metrics["per_class"][:5] == [1.0, 1.0, 0.5, 0.0, None]


def test_several_names_of_a_class_count_alike() -> None:
    names = [["class 0", "class 1"], ["class 2"], ["class 3"]]
    assert measure(Known(), [0, 2, 2, 1], names)["top1"] == 0.25  # class 2 is the second class
    assert class_prompts(names[:1], ["a {c}", "the {c}"]) == [["a class 0", "the class 0", "a class 1", "the class 1"]]


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_several_labels_an_image_give_mean_average_precision(scale: float) -> None:
    prompts = class_prompts(class_names(3), ["{c}"])
    model = Known()
    with encoding(model, tokenizer=model.tokenize) as encoder:
        texts = read_texts(encoder, [prompt for (prompt,) in prompts])
    labels = np.array([[True, True, False], [False, True, False], [True, False, False]])
    values = (labels @ torch.eye(CLASSES)[:3].numpy() * scale).astype(np.float32)
    metrics = zero_shot(Features(["a", "b", "c"], values, labels), build_classifier(prompts, texts)).metrics
    assert metrics["map"] == 1.0
    assert metrics["per_class"] == [1.0, 1.0, None]


def test_a_model_that_takes_every_class_for_another_is_never_right() -> None:
    metrics = measure(Known({n: (n + 1) % CLASSES for n in range(CLASSES)}), list(range(CLASSES)))
    assert (metrics["top1"], metrics["mean_per_class"]) == (0.0, 0.0)


def test_classes_count_alike_in_the_mean_and_by_their_images_in_top1() -> None:
    metrics = measure(Known({1: 0}), [0, 0, 1, 2])
    assert metrics["top1"] == 0.75
    assert metrics["mean_per_class"] == pytest.approx(2 / 3)  # over the three classes with images


def test_top5_takes_the_five_most_similar_classes() -> None:
    class Graded(Known):
        def of_classes(self, numbers: torch.Tensor) -> torch.Tensor:
            """Embed every image nearest to class 0, then to class 1, and so on."""
            near = torch.linspace(1, 0, CLASSES)
            return near + 1e-5 * torch.arange(len(numbers))[:, None] * torch.eye(CLASSES)[-1]

    metrics = measure(Graded(), list(range(10)))
    assert (metrics["top1"], metrics["top5"]) == (0.1, 0.5)


def test_fewer_than_five_classes_are_all_in_the_top5() -> None:
    metrics = measure(Known({0: 1}), [0, 1, 2], class_names(3))
    assert metrics["top5"] == 1.0
    assert metrics["top1"] == pytest.approx(2 / 3)


def test_every_class_is_named_in_every_template() -> None:
    prompts = class_prompts(class_names(2), ["{c} as {c}", "{not} a {c}"])
    assert prompts == [[f"class {n} as class {n}", f"{{not}} a class {n}"] for n in range(2)]


def test_a_classs_embedding_is_the_mean_over_its_templates() -> None:
    class Two(Known):
        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
            """Embed the second template as the next class; it counts as much as the first."""
            axes = torch.eye(CLASSES)[tokens[:, 0]]
            axes[1::2] = axes[1::2].roll(1, 1)
            return axes

        def of_classes(self, numbers: torch.Tensor) -> torch.Tensor:
            return torch.eye(CLASSES)[numbers] * 0.7 + torch.eye(CLASSES)[(numbers + 1) % CLASSES] * 0.7

    assert measure(Two(), list(range(CLASSES)))["top1"] == 1.0


def test_no_images_give_no_result() -> None:
    with pytest.raises(NoResultError, match="no test images"):
        measure(Known(), [])


def test_a_class_without_a_name_keeps_its_label() -> None:
    class Named(Known):
        def tokenize(self, texts: list[str], context_length: int = 2) -> torch.Tensor:
            words = [(text.split() or [""])[-1] for text in texts]
            numbers = [{"near": 1, "the": 2, "far": 3}.get(word, 0) for word in words]
            return torch.nn.functional.pad(torch.tensor(numbers)[:, None], (0, context_length - 1))

        def of_classes(self, numbers: torch.Tensor) -> torch.Tensor:
            return torch.eye(CLASSES)[numbers + 1]

    assert measure(Named(), [0, 1, 2], [["near"], [""], ["far"]], ["the {c}"])["top1"] == 1.0


@case("Evaluation", "NaN embeddings of images or prompts in classification", "no result and no number", exit_code=3)
@pytest.mark.parametrize("kind", ["images", "class prompts"])
def test_embeddings_that_are_not_numbers_are_refused(kind: str) -> None:
    class Diverged(Known):
        def of_classes(self, numbers: torch.Tensor) -> torch.Tensor:
            return super().of_classes(numbers) * (torch.nan if kind == "images" else 1)

        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
            return super().encode_text(tokens) * (torch.inf if kind != "images" else 1)

    with pytest.raises(NoResultError, match=f"embeddings of (test )?{kind} are infinite or not numbers"):
        measure(Diverged(), [0, 1, 2])


@case("Evaluation", "one embedding for all images or classes in classification", "no result and no number", exit_code=3)
@pytest.mark.parametrize("kind", ["images", "class prompts"])
def test_a_collapsed_model_does_not_get_a_classs_share(kind: str) -> None:
    class Collapsed(Known):
        def of_classes(self, numbers: torch.Tensor) -> torch.Tensor:
            return super().of_classes(numbers * (0 if kind == "images" else 1))

        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.eye(CLASSES)[[0] * len(tokens)] if kind != "images" else super().encode_text(tokens)

    with pytest.raises(NoResultError, match=rf"same embedding for all \d+ (test )?{kind}"):
        measure(Collapsed(), [0, 0, 1, 2])


def test_one_class_or_one_image_is_no_sign_of_collapse() -> None:
    assert measure(Known(), [0], class_names(1))["top1"] == 1.0
