"""Zero-shot accuracy of a model whose embeddings are known."""

from collections.abc import Iterator

import pytest
import torch

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.labelled import LabelledSet
from laclip_ray.evaluation.zeroshot import zero_shot_metrics
from tests.cases import case

CPU = torch.device("cpu")
CLASSES = 20  # more than are encoded at a time


class Known:
    """Embeds texts and images of class n as axis n; may take images of one class for another."""

    def __init__(self, taken_for: dict[int, int] | None = None) -> None:
        self.taken_for = taken_for or {}
        self.texts: list[str] = []

    def tokenize(self, texts: list[str], context_length: int = 2) -> torch.Tensor:
        """`class 7` becomes token 7; each further word becomes the token -1."""
        self.texts += [text for text in texts if text]
        rows = [[int(text.split()[-1]), *([-1] * text.count("long"))] if text else [0] for text in texts]
        return torch.tensor([[*row, *([0] * context_length)][:context_length] for row in rows])

    def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return torch.eye(CLASSES)[tokens[:, 0]]

    def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        numbers = [self.taken_for.get(int(number), int(number)) for number in pixels[:, 0, 0, 0]]
        return torch.eye(CLASSES)[numbers]


def labelled(classes: int = CLASSES, templates: list[str] | None = None) -> LabelledSet:
    return LabelledSet("set", [f"class {n}" for n in range(classes)], templates or ["a {c}", "the {c}"], [])


def images(labels: list[int], size: int = 7) -> Iterator[tuple[torch.Tensor, list[int]]]:
    for start in range(0, len(labels), size):
        part = labels[start : start + size]
        yield torch.tensor(part).float()[:, None, None, None].expand(-1, 3, 2, 2), part


def measure(model: Known, labels: list[int], of: LabelledSet | None = None) -> dict[str, float]:
    return zero_shot_metrics(model, model.tokenize, of or labelled(), images(labels), CPU)


def test_a_model_that_knows_every_class_is_always_right() -> None:
    assert measure(Known(), list(range(CLASSES)) * 2) == {
        "top1": 1.0,
        "top5": 1.0,
        "mean_per_class": 1.0,
        "images": 40,
        "classes": CLASSES,
        "captions_cut": 0,
    }


def test_a_model_that_takes_every_class_for_another_is_never_right() -> None:
    metrics = measure(Known({n: (n + 1) % CLASSES for n in range(CLASSES)}), list(range(CLASSES)))
    assert (metrics["top1"], metrics["mean_per_class"]) == (0.0, 0.0)


def test_classes_count_alike_in_the_mean_and_by_their_images_in_top1() -> None:
    metrics = measure(Known({1: 0}), [0, 0, 1, 2])
    assert metrics["top1"] == 0.75
    assert metrics["mean_per_class"] == pytest.approx(2 / 3)  # over the three classes with images


def test_top5_takes_the_five_most_similar_classes() -> None:
    class Graded(Known):
        def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
            """Embed every image nearest to class 0, then to class 1, and so on."""
            return torch.linspace(1, 0, CLASSES) * (1 + pixels[:, 0, 0, :1])

    metrics = measure(Graded(), list(range(10)))
    assert (metrics["top1"], metrics["top5"]) == (0.1, 0.5)


def test_fewer_than_five_classes_are_all_in_the_top5() -> None:
    metrics = measure(Known({0: 1}), [0, 1, 2], labelled(3))
    assert metrics["top5"] == 1.0
    assert metrics["top1"] == pytest.approx(2 / 3)


def test_every_class_is_named_in_every_template() -> None:
    model = Known()
    measure(model, [0], labelled(3, ["{c} as {c}", "{not} a {c}"]))
    assert model.texts == [text for n in range(3) for text in (f"class {n} as class {n}", f"{{not}} a class {n}")]


def test_a_classs_embedding_is_the_mean_over_its_templates() -> None:
    class Two(Known):
        def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
            """Embed the second template as the next class; it counts as much as the first."""
            axes = torch.eye(CLASSES)[tokens[:, 0]]
            axes[1::2] = axes[1::2].roll(1, 1)
            return axes

        def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
            numbers = pixels[:, 0, 0, 0].long()
            return torch.eye(CLASSES)[numbers] * 0.7 + torch.eye(CLASSES)[(numbers + 1) % CLASSES] * 0.7

    assert measure(Two(), list(range(CLASSES)))["top1"] == 1.0


def test_no_images_give_no_accuracy() -> None:
    assert measure(Known(), []) == {"images": 0, "classes": CLASSES, "captions_cut": 0}


def test_a_class_without_a_name_keeps_its_label() -> None:
    class Named(Known):
        def tokenize(self, texts: list[str], context_length: int = 2) -> torch.Tensor:
            words = [(text.split() or [""])[-1] for text in texts]
            numbers = [{"near": 1, "the": 2, "far": 3}.get(word, 0) for word in words]
            return torch.nn.functional.pad(torch.tensor(numbers)[:, None], (0, context_length - 1))

        def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
            return torch.eye(CLASSES)[pixels[:, 0, 0, 0].long() + 1]

    assert measure(Named(), [0, 1, 2], LabelledSet("set", ["near", "", "far"], ["the {c}"], []))["top1"] == 1.0


def test_prompts_that_are_cut_are_counted() -> None:
    assert measure(Known(), [0, 1], labelled(2, ["a long, long {c}", "a {c}"]))["captions_cut"] == 2


@case("Evaluation", "NaN embeddings of images or prompts in classification", "no result and no number", exit_code=3)
@pytest.mark.parametrize("kind", ["images", "class prompts"])
def test_embeddings_that_are_not_numbers_are_refused(kind: str) -> None:
    class Diverged(Known):
        def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
            return super().encode_image(pixels, normalize) * (torch.nan if kind == "images" else 1)

        def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
            return super().encode_text(tokens, normalize) * (torch.inf if kind != "images" else 1)

    with pytest.raises(NoResultError, match=f"embeddings of {kind} are infinite or not numbers"):
        measure(Diverged(), [0, 1, 2])


@case("Evaluation", "one embedding for all images or classes in classification", "no result and no number", exit_code=3)
@pytest.mark.parametrize("kind", ["images", "class prompts"])
def test_a_collapsed_model_does_not_get_a_classs_share(kind: str) -> None:
    class Collapsed(Known):
        def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
            return (
                torch.eye(CLASSES)[[0] * len(pixels)] if kind == "images" else super().encode_image(pixels, normalize)
            )

        def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
            return torch.eye(CLASSES)[[0] * len(tokens)] if kind != "images" else super().encode_text(tokens, normalize)

    with pytest.raises(NoResultError, match=rf"same embedding for all \d+ {kind}"):
        measure(Collapsed(), [0, 0, 1, 2])


def test_one_class_or_one_image_is_no_sign_of_collapse() -> None:
    assert measure(Known(), [0, 0, 0][:1], labelled(1))["top1"] == 1.0
