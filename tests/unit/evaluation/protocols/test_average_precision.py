"""Mean average precision equals scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.average_precision import (
    average_precisions,
    mean_average_precision,
    resampled_precision,
)
from laclip_ray.randomness import generator
from tests.cases import case


@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 1_000_000]), images=st.integers(1, 40))
def test_average_precisions_equal_scikit_learns_with_ties(seed: int, levels: int, images: int) -> None:
    random = generator(seed)
    scores = random.integers(0, levels, (images, 4)) / 7
    labels = random.random((images, 4)) < 0.3
    labels[random.integers(images), :] = True  # scikit-learn gives 0 to a class without images
    expected = average_precision_score(labels, scores, average=None)
    np.testing.assert_allclose(average_precisions(scores, labels), expected, rtol=1e-12)


def test_the_mean_is_over_the_classes() -> None:
    labels = np.array([[True, False], [False, True], [False, True]])
    scores = np.array([[0.9, 0.9], [0.1, 0.5], [0.2, 0.1]])
    measured = mean_average_precision(scores, labels)
    assert measured.metrics["map"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert (measured.metrics["images"], measured.metrics["classes"], measured.metrics["notes"]) == (3, 2, [])
    assert measured.hits is None
    assert measured.scores is scores


@case("Evaluation", "a class without test images in a set of several labels", "left out of the mean; a note names it")
def test_a_class_without_images_is_left_out_and_named() -> None:
    labels = np.array([[True, False], [False, False]])
    measured = mean_average_precision(np.array([[1.0, 0.0], [0.0, 1.0]]), labels, names=["fox", "owl"])
    assert (measured.metrics["map"], measured.metrics["classes"]) == (1.0, 1)
    assert measured.metrics["notes"] == [
        "1 of 2 classes have no test image and are left out of the mean average precision: class 1 ('owl')."
    ]


@case("Evaluation", "a set of several labels whose images have none", "no result and no number", exit_code=3)
def test_no_label_at_all_is_no_result() -> None:
    with pytest.raises(NoResultError, match="none of the 2 test images has a label"):
        mean_average_precision(np.zeros((2, 3)), np.zeros((2, 3), bool))


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores_that_are_not_numbers_are_no_result(score: float) -> None:
    with pytest.raises(NoResultError, match="infinite or not numbers"):
        mean_average_precision(np.array([[score], [0.0]]), np.ones((2, 1), bool))


def test_no_images_are_no_result() -> None:
    with pytest.raises(NoResultError, match="no validation images"):
        mean_average_precision(np.zeros((0, 3)), np.zeros((0, 3), bool), "validation")


@given(seed=st.integers(0, 10_000), levels=st.sampled_from([1, 3, 1_000_000]), images=st.integers(1, 25))
def test_the_precision_of_a_resample_is_that_of_the_drawn_images(seed: int, levels: int, images: int) -> None:
    random = generator(seed)
    scores, labels = random.integers(0, levels, (images, 4)) / 7, random.random((images, 4)) < 0.3
    labels[0, 0] = True
    drawn = random.integers(images, size=(6, images))
    expected = [np.nanmean(average_precisions(scores[rows], labels[rows])) if labels[rows].any() else np.nan
                for rows in drawn]  # fmt: skip
    counts = np.stack([np.bincount(rows, minlength=images) for rows in drawn]).astype(np.float64)
    np.testing.assert_allclose(resampled_precision(scores, labels)(counts), expected, rtol=1e-12)


def test_without_a_label_a_resample_has_no_precision() -> None:
    assert np.isnan(resampled_precision(np.zeros((2, 3)), np.zeros((2, 3), bool))(np.ones((1, 2)))).all()
