"""Accuracies, flips and spread by template follow their definitions."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.per_image import Measurement
from laclip_ray.evaluation.wording.templates import template_metrics
from laclip_ray.randomness import generator
from tests.cases import case

CPU = torch.device("cpu")
PER_IMAGE = ("template_mean", "ensemble_top1", "flip_rate", "always_right", "always_same_wrong")


def measure(images: torch.Tensor, labels: torch.Tensor, classifiers: torch.Tensor, block: int = 100) -> Measurement:
    names = [f"template {number} of a {{c}}" for number in range(len(classifiers))]
    return template_metrics(images, labels, names, classifiers.__getitem__, CPU, block)


def predicting(predictions: np.ndarray, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and classifiers with given predictions [T, N]: each image is a unit vector of its own."""
    templates, images = predictions.shape
    classifiers = torch.full((templates, images, classes), 0.1)
    for template in range(templates):
        classifiers[template, torch.arange(images), torch.from_numpy(predictions[template])] = 1.0
    # Another scale for each column keeps the columns different, also where no image has the class.
    return torch.eye(images), classifiers + torch.linspace(0, 0.01, classes)


@st.composite
def cases_of_predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    templates, images, classes = draw(st.integers(2, 5)), draw(st.integers(2, 9)), draw(st.integers(2, 4))
    rows = st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)
    predictions = np.array([draw(rows) for _ in range(templates)])
    return predictions, np.array(draw(rows)), classes


@given(cases_of_predictions())
def test_metrics_follow_their_definitions(given_case: tuple[np.ndarray, np.ndarray, int]) -> None:
    predictions, labels, classes = given_case
    found = measure(
        *predicting(predictions, classes)[:1], torch.from_numpy(labels), predicting(predictions, classes)[1]
    )
    right = predictions == labels
    pairs = list(combinations(range(len(predictions)), 2))
    flips = np.mean([predictions[one] != predictions[other] for one, other in pairs], axis=0)
    same = np.array([len(set(column)) == 1 for column in predictions.T])
    metrics = found.metrics
    assert [entry["top1"] for entry in metrics["by_template"]] == pytest.approx(right.mean(axis=1).tolist())
    assert metrics["template_mean"] == pytest.approx(right.mean())
    assert metrics["template_spread"] == pytest.approx(np.ptp(right.mean(axis=1)))
    assert metrics["worst_template_top1"] == right.mean(axis=1).min()
    assert metrics["by_template"][int(metrics["worst_template"].split()[1])]["top1"] == right.mean(axis=1).min()
    np.testing.assert_allclose(found.per_image["flip_rate"].values, flips, atol=1e-12)
    np.testing.assert_array_equal(found.per_image["always_right"].values, same & right[0])
    np.testing.assert_array_equal(found.per_image["always_same_wrong"].values, same & ~right[0])


def test_values_of_images_have_the_metrics_as_their_means() -> None:
    torch.manual_seed(0)
    found = measure(torch.randn(40, 8), torch.randint(5, (40,)), torch.randn(6, 8, 5))
    assert tuple(found.per_image) == PER_IMAGE
    for name in PER_IMAGE:
        assert found.metrics[name] == pytest.approx(found.per_image[name].values.mean())


def test_the_ensemble_is_the_normalised_mean_of_the_classifiers() -> None:
    torch.manual_seed(1)
    images, classifiers = torch.randn(200, 8), torch.nn.functional.normalize(torch.randn(4, 8, 6), dim=1)
    labels = torch.randint(6, (200,))
    mean = torch.nn.functional.normalize(classifiers.mean(dim=0), dim=0)
    expected = ((images @ mean).argmax(dim=1) == labels).float().mean()
    assert measure(images, labels, classifiers).metrics["ensemble_top1"] == pytest.approx(float(expected))


def test_the_size_of_blocks_does_not_matter() -> None:
    torch.manual_seed(2)
    images, labels, classifiers = torch.randn(30, 8), torch.randint(4, (30,)), torch.randn(3, 8, 4)
    assert measure(images, labels, classifiers, 1).metrics == measure(images, labels, classifiers, 1_000).metrics


def test_one_classifier_is_asked_for_at_a_time() -> None:
    torch.manual_seed(3)
    classifiers, asked = torch.randn(3, 8, 4), []

    def classifier_of(number: int) -> torch.Tensor:
        asked.append(number)
        return classifiers[number]

    template_metrics(torch.randn(9, 8), torch.zeros(9, dtype=torch.int64), ["a", "b", "c"], classifier_of, CPU)
    assert asked == [0, 1, 2]


def test_equally_good_templates_rarely_exceed_the_spread_by_chance() -> None:
    exceeded = 0
    for number in range(200):
        draws = generator("templates", number)
        ease, templates = draws.random(300), 5
        right = draws.random((templates, 300)) < np.clip(ease * 1.2 - 0.1, 0, 1)
        predictions = np.where(right, 0, 1)
        images, classifiers = predicting(predictions, 2)
        found = measure(images, torch.zeros(300, dtype=torch.int64), classifiers, 10_000).metrics
        exceeded += found["template_spread"] > found["spread_by_chance"]
    assert exceeded / 200 < 0.1


def test_a_bad_template_exceeds_it() -> None:
    draws = generator("bad template")
    right = draws.random((5, 300)) < np.array([0.6, 0.6, 0.6, 0.6, 0.4])[:, None]
    images, classifiers = predicting(np.where(right, 0, 1), 2)
    found = measure(images, torch.zeros(300, dtype=torch.int64), classifiers, 10_000).metrics
    assert found["template_spread"] > found["spread_by_chance"]
    assert found["worst_template"] == "template 4 of a {c}"


@case("Evaluation", "robustness to templates with one template", "no result and no number; the message says why", 3)
def test_one_template_has_no_result() -> None:
    with pytest.raises(NoResultError, match=r"needs at least two, and there is 1; set templates=openai"):
        measure(torch.eye(3), torch.arange(3), torch.eye(3)[None])


def test_no_images_have_no_result() -> None:
    with pytest.raises(NoResultError, match="there are no images"):
        measure(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.rand(2, 3, 3))


def test_embeddings_that_are_not_numbers_have_no_result() -> None:
    classifiers = torch.rand(2, 3, 3)
    classifiers[1, 0, 0] = torch.nan
    with pytest.raises(NoResultError, match=r"class prompts of the template 'template 1 of a \{c\}' are infinite"):
        measure(torch.eye(3), torch.arange(3), classifiers)
