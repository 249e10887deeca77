"""Probes on a few images draw nested images, and report means over the draws."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from laclip_ray.config.evaluation import KShotConfig
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols import linear_probe
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.protocols.k_shot import draw, k_shot
from tests.cases import case
from tests.unit.evaluation.protocols.mixtures import labelled_as, mixture, shuffled

TRAIN, VAL, TEST = (mixture(split, 4, 10, noise=1.5) for split in ("train", "val", "test"))
SHOTS = (1, 2, 4, 8)


@pytest.fixture(autouse=True)
def _every_fourth_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search one value of C a decade, which takes less time."""
    monkeypatch.setattr(linear_probe, "C_VALUES", linear_probe.C_VALUES[::4])


def ids_drawn(shots: int, seed: int = 0, number: int = 0, train: Features = TRAIN) -> set[str]:
    return set(draw(train, None, shots, seed, number)[0].ids)


def test_each_class_gives_as_many_images_as_shots() -> None:
    for shots in SHOTS:
        drawn, _ = draw(TRAIN, None, shots, 0, 0)
        assert set(Counter(drawn.labels.tolist()).values()) == {shots}


def test_the_draw_of_fewer_images_is_part_of_the_draw_of_more() -> None:
    for fewer, more in pairwise(SHOTS):
        assert ids_drawn(fewer) < ids_drawn(more)


def test_draws_differ_by_number_and_seed_and_not_by_order() -> None:
    assert ids_drawn(4) == ids_drawn(4, train=shuffled(TRAIN))
    assert ids_drawn(4) != ids_drawn(4, number=1)
    assert ids_drawn(4) != ids_drawn(4, seed=1)


@pytest.mark.parametrize("val", [None, VAL])
def test_as_many_validation_images_as_shots_and_at_most_four(val: Features | None) -> None:
    for shots, expected in ((1, 1), (2, 2), (4, 4), (6, 4)):
        drawn, validation = draw(TRAIN, val, shots, 0, 0)
        assert set(Counter(validation.labels.tolist()).values()) == {expected}
        assert not set(validation.ids) & set(drawn.ids)
        assert all(identity.startswith("train" if val is None else "val") for identity in validation.ids)


def test_results_are_means_over_the_draws() -> None:
    measured = k_shot(TRAIN, VAL, TEST, KShotConfig(shots=[2], draws=3), 0)[2]
    of_draws = measured.metrics["top1_of_draws"]
    assert len(of_draws) == len(measured.metrics["c_of_draws"]) == 3
    assert measured.metrics["top1"] == pytest.approx(np.mean(of_draws))
    low, high = measured.metrics["top1_interval"]
    assert low < measured.metrics["top1"] < high
    assert measured.hits is not None
    assert measured.hits.mean() == pytest.approx(measured.metrics["top1"])
    assert set(np.round(measured.hits * 3, 9)) <= {0.0, 1.0, 2.0, 3.0}


def test_each_number_of_shots_has_a_result() -> None:
    results = k_shot(TRAIN, None, TEST, KShotConfig(shots=[1, 4], draws=1), 0)
    assert {shots: measured.metrics["train_images"] for shots, measured in results.items()} == {1: 4, 4: 16}
    assert {shots: measured.metrics["val_images"] for shots, measured in results.items()} == {1: 4, 4: 16}
    assert all(measured.metrics["top1_interval"] is None for measured in results.values())
    assert results[4].metrics["top1"] > results[1].metrics["top1"]


@case("Evaluation", "a class with fewer training images than shots", "all that it has are used; a note names it")
def test_a_class_with_too_few_images_gives_all_and_is_named() -> None:
    few = TRAIN.take(np.flatnonzero((TRAIN.labels != 2) | (np.arange(len(TRAIN)) % 10 < 3)))
    few = replace(few, class_names=["fox", "owl", "hare", "cat"])
    metrics = k_shot(few, VAL, TEST, KShotConfig(shots=[4], draws=1), 0)[4].metrics
    assert metrics["train_images"] == 15
    assert metrics["notes"][0] == (
        "1 of 4 classes have fewer than 4 training images, and all that they have are used: class 2 ('hare')."
    )


def test_c_is_one_if_no_image_is_left_to_choose_it() -> None:
    metrics = k_shot(TRAIN, None, TEST, KShotConfig(shots=[10], draws=2), 0)[10].metrics
    assert metrics["c_of_draws"] == [1.0, 1.0]
    assert metrics["val_images"] == 0
    assert metrics["notes"] == ["No images are left to choose C, so it is 1; give val_split."]


def test_unreadable_images_count_as_wrong() -> None:
    measured = k_shot(TRAIN, None, TEST, KShotConfig(shots=[10], draws=1), 0, unreadable=np.array([1, 2]))[10]
    assert measured.metrics["counted_wrong"] == 2
    assert measured.hits is not None
    assert measured.hits[-2:].tolist() == [0.0, 0.0]
    assert measured.metrics["top1"] == pytest.approx(measured.hits.mean())


def test_one_class_is_no_result() -> None:
    one = labelled_as(TRAIN, np.zeros(len(TRAIN), np.int64))
    with pytest.raises(NoResultError, match="are of class 0, so there is nothing to learn"):
        k_shot(one, None, TEST, KShotConfig(shots=[1], draws=1), 0)


def test_an_empty_split_is_no_result() -> None:
    empty = TRAIN.take(np.arange(0))
    with pytest.raises(NoResultError, match="no validation images"):
        k_shot(TRAIN, empty, TEST, KShotConfig(), 0)
