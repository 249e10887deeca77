"""The losses equal their formulas, in one process and in several."""

from math import exp, log
from pathlib import Path

import pytest
import torch

from laclip_ray.config import LossKind, TextMode
from laclip_ray.training.loss import ContrastiveLoss, Features, Texts
from tests.unit.training.worlds import BATCH, Case, batch_of, differences, steps_in_world, whole_step, write_model

CASES = [
    Case(),
    Case(local=True),
    Case(mode="both"),
    Case(mode="multi"),
    Case(mode="multi", local=True),
    Case(kind="siglip"),
    Case(kind="siglip", mode="both"),
]
SCALE = 7.5
BIAS = -4.0


def features_of(slots: int) -> tuple[Features, Texts]:
    draws = torch.Generator().manual_seed(slots)
    image = torch.nn.functional.normalize(torch.randn(BATCH, 8, generator=draws), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(BATCH, slots, 8, generator=draws), dim=-1)
    batch = batch_of(slots)
    count, sampled = (torch.as_tensor(batch[name]).long() for name in ("text_count", "text_sampled"))
    return Features(image, texts, torch.tensor(SCALE), torch.tensor(BIAS)), Texts(count, sampled)


def cosines(features: Features, slot: int) -> list[list[float]]:
    """Cosine similarities by image and text of a slot."""
    similarities: list[list[float]] = (features.image.double() @ features.texts[:, slot].double().T).tolist()
    return similarities


def softmax_loss(similarities: list[float], right: int) -> float:
    return log(sum(exp(SCALE * similarity) for similarity in similarities)) - SCALE * similarities[right]


def naive_clip(features: Features, slot: int) -> float:
    by_image = cosines(features, slot)
    by_text = list(map(list, zip(*by_image, strict=True)))
    terms = [softmax_loss(rows[index], index) for rows in (by_image, by_text) for index in range(BATCH)]
    return sum(terms) / len(terms)


def naive_siglip(features: Features, slot: int) -> float:
    total = 0.0
    for image, similarities in enumerate(cosines(features, slot)):
        for text, similarity in enumerate(similarities):
            sign = 1 if image == text else -1
            total += log(1 + exp(-sign * (SCALE * similarity + BIAS)))
    return total / BATCH


def naive_multi(features: Features, texts: Texts) -> float:
    by_slot = [cosines(features, slot) for slot in range(features.texts.shape[1])]
    image_to_text = text_to_image = 0.0
    for index in range(BATCH):
        count, sampled = int(texts.count[index]), int(texts.sampled[index])
        image_to_text += sum(softmax_loss(by_slot[slot][index], index) for slot in range(count)) / count
        text_to_image += softmax_loss(
            [float(image.double() @ features.texts[index, sampled].double()) for image in features.image], index
        )
    return (image_to_text + text_to_image) / 2 / BATCH


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize(("mode", "slots"), [("sample", 1), ("both", 2)])
def test_the_loss_is_the_mean_of_the_formula_over_an_images_texts(kind: LossKind, mode: TextMode, slots: int) -> None:
    features, texts = features_of(slots)
    naive = naive_clip if kind == "clip" else naive_siglip
    expected = sum(naive(features, slot) for slot in range(slots)) / slots
    assert float(ContrastiveLoss(kind, mode)(features, texts)) == pytest.approx(expected, abs=1e-5)


def test_multi_averages_the_images_own_texts_one_way_and_uses_the_sampled_text_the_other_way() -> None:
    features, texts = features_of(3)
    assert float(ContrastiveLoss("clip", "multi")(features, texts)) == pytest.approx(
        naive_multi(features, texts), abs=1e-5
    )


def test_multi_with_one_text_is_the_plain_loss() -> None:
    features, texts = features_of(1)
    plain = ContrastiveLoss()(features, texts)
    assert float(ContrastiveLoss("clip", "multi")(features, texts)) == pytest.approx(float(plain), abs=1e-6)


@pytest.mark.parametrize("mode", ["sample", "multi"])
def test_a_models_bias_gets_a_zero_gradient_from_softmax(mode: TextMode) -> None:
    # Without a gradient, several workers would wait for it.
    features, texts = features_of(1)
    assert features.bias is not None
    bias, scale = features.bias.requires_grad_(), features.scale.requires_grad_()
    ContrastiveLoss("clip", mode)(features, texts).backward()
    assert bias.grad is not None
    assert float(bias.grad) == pytest.approx(0.0, abs=1e-6)
    assert scale.grad is not None


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    # `make figures AREA=training` does this with four of them too.
    cases = [*CASES, Case(micro_batch_size=2), Case(mode="multi", micro_batch_size=1)]
    ranks = steps_in_world(2, cases, tmp_path)
    model_path = write_model(tmp_path)
    for number, case in enumerate(cases):
        largest = differences(whole_step(model_path, case), [steps[number] for steps in ranks])
        assert max(largest.values()) <= 1e-5, (case, largest)
