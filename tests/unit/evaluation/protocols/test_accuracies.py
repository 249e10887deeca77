"""Accuracies are those of a plain loop over the images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from laclip_ray.evaluation.protocols.accuracies import accuracies, classes_shown, notes_on_classes
from tests.cases import case

CLASSES = np.array([2, 3, 5, 7, 11, 13, 17])
scores_of_images = arrays.arrays(np.float64, (9, len(CLASSES)), elements=st.sampled_from([0.0, 1.0, 2.0, -np.inf]))
labels_of_images = arrays.arrays(np.int64, 9, elements=st.sampled_from([0, 3, 5, 13, 17, 20]))


@given(scores=scores_of_images, labels=labels_of_images)
def test_accuracies_equal_those_of_a_loop(scores: np.ndarray, labels: np.ndarray) -> None:
    metrics, hits = accuracies(scores, CLASSES, labels)
    first, five = [], []
    for row, label in zip(scores, labels.tolist(), strict=True):
        ranked = sorted(range(len(CLASSES)), key=lambda n, row=row: (-row[n], n))  # type: ignore[misc]
        named = [int(CLASSES[n]) for n in ranked if row[n] > -np.inf]
        first.append(named[:1] == [label])
        five.append(label in named[:5])
    assert hits.tolist() == first
    assert metrics["top1"] == pytest.approx(np.mean(first))
    assert metrics["top5"] == pytest.approx(np.mean(five))
    recalls = [
        np.mean([hit for hit, other in zip(first, labels, strict=True) if other == label]) for label in {*labels}
    ]
    assert metrics["mean_per_class"] == pytest.approx(np.mean(recalls))


def test_the_first_five_of_five_classes_say_nothing() -> None:
    metrics, _ = accuracies(np.eye(5), np.arange(5), np.arange(5))
    assert metrics == {"top1": 1.0, "mean_per_class": 1.0}


@case("Evaluation", "test images of a probe that cannot be decoded", "counted as wrong, in the denominator")
def test_unreadable_images_count_as_wrong() -> None:
    metrics, hits = accuracies(np.eye(6), np.arange(6), np.arange(6), unreadable=np.array([0, 0]))
    assert hits.tolist() == [True] * 6 + [False] * 2
    assert metrics["top1"] == 6 / 8
    assert metrics["mean_per_class"] == pytest.approx((1 / 3 + 5) / 6)


@case("Evaluation", "a class of the test images without training images", "its images count as wrong; a note names it")
def test_a_class_without_training_images_is_named() -> None:
    assert notes_on_classes(np.array([0, 2]), np.array([0, 1, 1, 2, 3]), ["fox", "owl", "hare", "cat"]) == [
        "2 of the 4 classes of the test images have no training image, so their 3 images count as wrong: "
        "class 1 ('owl'), class 3 ('cat')."
    ]
    assert notes_on_classes(np.array([0, 1]), np.array([0])) == []


def test_of_many_classes_the_first_are_named_and_the_others_counted() -> None:
    names = [f"kind {n}" for n in range(12)]
    assert classes_shown(np.arange(12), names) == (
        "class 0 ('kind 0'), class 1 ('kind 1'), class 2 ('kind 2'), class 3 ('kind 3'), class 4 ('kind 4') and 7 more"
    )


def test_a_class_without_a_name_is_shown_by_its_number() -> None:
    assert classes_shown([0, 4], ["", "owl"]) == "class 0, class 4"
    assert classes_shown([4]) == "class 4"


def test_a_long_name_is_cut() -> None:
    assert classes_shown([0], ["a" * 100]) == f"class 0 ({'a' * 37 + '...'!r})"
