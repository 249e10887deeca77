"""Votes of neighbours are those of a plain loop."""

import math
from dataclasses import replace

import numpy as np
import pytest

from laclip_ray.config.evaluation import NeighboursConfig
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.protocols.neighbours import TEMPERATURE, nearest_neighbours
from tests.cases import case
from tests.unit.evaluation.protocols.mixtures import labelled_as, mixture

TRAIN, TEST = mixture("train", 8, noise=2.0), mixture("test", 8, noise=2.0)


def ranked_by_loop(train: Features, image: np.ndarray, neighbours: int) -> list[int]:
    """The labels with votes, the most voted first."""
    similarities = [
        (float(value @ image / np.linalg.norm(value) / np.linalg.norm(image)), int(label))
        for value, label in zip(train.values.astype(float), train.labels, strict=True)
    ]
    votes: dict[int, float] = {}
    for similarity, label in sorted(similarities, reverse=True)[:neighbours]:
        votes[label] = votes.get(label, 0.0) + math.exp(similarity / TEMPERATURE)
    return sorted(votes, key=lambda label: -votes[label])


@pytest.mark.parametrize("neighbours", [1, 3, 20])
def test_accuracies_equal_those_of_a_loop(neighbours: int) -> None:
    measured = nearest_neighbours(TRAIN, TEST, NeighboursConfig(neighbours=neighbours))
    ranked = [ranked_by_loop(TRAIN, image, neighbours) for image in TEST.values.astype(float)]
    hits = [labels[0] == label for labels, label in zip(ranked, TEST.labels, strict=True)]
    assert measured.hits is not None
    assert measured.hits.tolist() == hits
    assert measured.metrics["top1"] == pytest.approx(np.mean(hits))
    five = [label in labels[:5] for labels, label in zip(ranked, TEST.labels, strict=True)]
    assert measured.metrics["top5"] == pytest.approx(np.mean(five))


def test_the_size_of_a_block_does_not_change_the_result() -> None:
    whole = nearest_neighbours(TRAIN, TEST, NeighboursConfig())
    in_parts = nearest_neighbours(TRAIN, TEST, NeighboursConfig(), block_elements=1)
    assert whole.metrics == in_parts.metrics


def test_the_length_of_features_does_not_matter() -> None:
    longer = Features(TEST.ids, TEST.values * np.float32(100), TEST.labels)
    assert nearest_neighbours(TRAIN, longer, NeighboursConfig()).metrics["top1"] == pytest.approx(
        nearest_neighbours(TRAIN, TEST, NeighboursConfig()).metrics["top1"]
    )


def test_a_class_without_a_vote_is_not_among_the_first_five() -> None:
    metrics = nearest_neighbours(TRAIN, TEST, NeighboursConfig(neighbours=1)).metrics
    assert metrics["top5"] == metrics["top1"]


@case("Evaluation", "fewer training images than neighbours vote", "all vote; a note says so")
def test_fewer_training_images_than_neighbours_are_said() -> None:
    metrics = nearest_neighbours(mixture("train", 2, 3), mixture("test", 2), NeighboursConfig()).metrics
    assert metrics["neighbours"] == 6
    assert metrics["notes"] == ["There are 6 training images, so 6 vote instead of 20."]


def test_a_class_without_training_images_is_wrong_and_said() -> None:
    few, test = TRAIN.take(np.flatnonzero(TRAIN.labels < 6)), replace(TEST, class_names=[f"kind {n}" for n in range(8)])
    measured = nearest_neighbours(few, test, NeighboursConfig())
    assert measured.hits is not None
    assert not measured.hits[TEST.labels >= 6].any()
    assert "class 6 ('kind 6'), class 7 ('kind 7')" in measured.metrics["notes"][0]


def test_unreadable_images_count_as_wrong() -> None:
    measured = nearest_neighbours(TRAIN, TEST, NeighboursConfig(), unreadable=np.array([3]))
    assert measured.metrics["counted_wrong"] == 1
    assert measured.hits is not None
    assert measured.hits[:-1].any()
    assert not measured.hits[-1]


def test_an_empty_split_is_no_result() -> None:
    with pytest.raises(NoResultError, match="no train images"):
        nearest_neighbours(TRAIN.take(np.arange(0)), TEST, NeighboursConfig())
    with pytest.raises(NoResultError, match="no test images"):
        nearest_neighbours(TRAIN, TEST.take(np.arange(0)), NeighboursConfig())


def test_labels_need_not_begin_at_zero() -> None:
    metrics = nearest_neighbours(
        labelled_as(TRAIN, TRAIN.labels + 40), labelled_as(TEST, TEST.labels + 40), NeighboursConfig()
    ).metrics
    assert metrics == nearest_neighbours(TRAIN, TEST, NeighboursConfig()).metrics
