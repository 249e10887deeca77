"""Features are checked, and their validation images are a function of seed and ids."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.features import Features, check_features, ranks_in_class, split_validation
from tests.cases import case
from tests.unit.evaluation.protocols.mixtures import mixture, several_labels, shuffled

labels_of_sets = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def features_of(labels: list[int]) -> Features:
    values = np.arange(len(labels), dtype=np.float32)[:, None]
    return Features([f"id{n}" for n in range(len(labels))], values, np.array(labels, np.int64))


@given(labels=labels_of_sets, seed=st.integers(0, 9))
def test_every_class_gives_a_fifth_and_one_image_stays_in_train(labels: list[int], seed: int) -> None:
    _, val = split_validation(features_of(labels), seed)
    given_of = Counter(val.labels.tolist())
    for label, count in Counter(labels).items():
        assert given_of[label] == (0 if count == 1 else max(1, count // 5))


@given(labels=labels_of_sets, seed=st.integers(0, 9))
def test_every_image_is_in_one_part_with_its_features_and_label(labels: list[int], seed: int) -> None:
    features = features_of(labels)
    train, val = split_validation(features, seed)
    rows = train.values[:, 0].astype(int).tolist() + val.values[:, 0].astype(int).tolist()
    assert sorted(rows) == list(range(len(labels)))
    both = train.joined(val)
    assert both.ids == [f"id{row}" for row in rows]
    assert both.labels.tolist() == [labels[row] for row in rows]


def test_validation_images_do_not_depend_on_the_order_of_the_images() -> None:
    features = mixture("train")
    assert set(split_validation(features, 3)[1].ids) == set(split_validation(shuffled(features), 3)[1].ids)


def test_another_seed_chooses_other_validation_images() -> None:
    features = mixture("train")
    assert set(split_validation(features, 3)[1].ids) != set(split_validation(features, 4)[1].ids)


def test_images_of_several_labels_give_a_fifth_of_all() -> None:
    train, val = split_validation(several_labels(mixture("train"), 3), 0)
    assert (len(train), len(val), val.labels.shape) == (80, 20, (20, 3))


@given(labels=labels_of_sets)
def test_ranks_count_the_images_of_each_class(labels: list[int]) -> None:
    ranks, counts = ranks_in_class(np.array(labels), [f"id{n}" for n in range(len(labels))], 0)
    for label in set(labels):
        of_class = [rank for rank, other in zip(ranks.tolist(), labels, strict=True) if other == label]
        assert sorted(of_class) == list(range(labels.count(label)))
    assert counts.tolist() == [labels.count(label) for label in labels]


@case("Evaluation", "a split of a probe without images", "no result and no number", exit_code=3)
def test_an_empty_split_is_refused() -> None:
    with pytest.raises(NoResultError, match=r"^there are no train images; give a split that has images$"):
        check_features(features_of([]), "train")


@case("Evaluation", "features that are infinite or not numbers", "no result and no number", exit_code=3)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_numbers_are_refused(value: float) -> None:
    features = mixture("test")
    features.values[7, 3] = value
    with pytest.raises(NoResultError, match="embeddings of test images are infinite or not numbers"):
        check_features(features, "test")


@case("Evaluation", "the same features for all images of a split", "no result and no number", exit_code=3)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_features_that_are_all_equal_are_refused_at_any_scale(scale: float) -> None:
    features = mixture("test")
    check_features(Features(features.ids, features.values * np.float32(scale), features.labels), "test")
    features.values[:] = features.values[0] * np.float32(scale)
    with pytest.raises(NoResultError, match="same embedding for all 100 test images"):
        check_features(features, "test")


def test_one_image_is_no_sign_of_collapse() -> None:
    check_features(features_of([0]), "test")
