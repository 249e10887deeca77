"""Episodes are functions of seed and number, and their accuracies are those of a plain loop."""

from dataclasses import replace

import numpy as np
import pytest

from laclip_ray.config.evaluation import FewShotConfig
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols import few_shot as few_shot_module
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.protocols.few_shot import Episode, draw, few_shot, pools_of
from tests.cases import case
from tests.unit.evaluation.protocols.mixtures import mixture, shuffled

CONFIG = FewShotConfig(episodes=60)
TRAIN, TEST = mixture("train", 8, noise=2.0), mixture("test", 8, noise=2.0)


def accuracy_by_loop(episode: Episode, support: Features, test: Features) -> float:
    """One image and one class at a time."""
    centre = np.mean([support.values[row].astype(float) for row in episode.support.flat], axis=0)

    def place(value: np.ndarray) -> np.ndarray:
        moved = value.astype(float) - centre
        placed: np.ndarray = moved / np.linalg.norm(moved)
        return placed

    means = [np.mean([place(support.values[row]) for row in rows], axis=0) for rows in episode.support]
    right = []
    for number, rows in enumerate(episode.queries):
        for row in rows:
            distances = [np.linalg.norm(place(test.values[row]) - mean) for mean in means]
            right.append(int(np.argmin(distances)) == number)
    return float(np.mean(right))


@pytest.mark.parametrize("support", [None, TRAIN])
def test_accuracies_equal_those_of_a_loop_over_the_same_episodes(support: Features | None) -> None:
    results = few_shot(TEST, CONFIG, 5, support)
    pools = pools_of(TEST, support, CONFIG)
    episodes = [draw(pools, CONFIG, 5, number) for number in range(CONFIG.episodes)]
    loop = [accuracy_by_loop(episode, support or TEST, TEST) for episode in episodes]
    assert results.accuracies.tolist() == loop
    assert results.metrics["top1"] == pytest.approx(np.mean(loop))


def test_the_interval_is_that_of_the_mean_over_episodes() -> None:
    results = few_shot(TEST, FewShotConfig(episodes=2_000), 0)
    low, high = results.metrics["top1_interval"]
    half = 1.96 * results.accuracies.std(ddof=1) / np.sqrt(2_000)
    assert (high - low) / 2 == pytest.approx(half, rel=1e-2)
    assert (low + high) / 2 == pytest.approx(results.metrics["top1"])


def test_one_episode_has_no_interval() -> None:
    assert few_shot(TEST, FewShotConfig(episodes=1), 0).metrics["top1_interval"] is None


def test_the_number_of_episodes_at_a_time_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = few_shot(TEST, CONFIG, 5).accuracies.tolist()
    monkeypatch.setattr(few_shot_module, "BLOCK_ELEMENTS", 1)
    assert few_shot(TEST, CONFIG, 5).accuracies.tolist() == whole


def test_an_episode_is_a_function_of_seed_and_number() -> None:
    pools = pools_of(TEST, None, CONFIG)
    first, again = draw(pools, CONFIG, 1, 7), draw(pools, CONFIG, 1, 7)
    assert first.support.tolist() == again.support.tolist()
    assert first.queries.tolist() == again.queries.tolist()
    others = [draw(pools, CONFIG, 1, 8), draw(pools, CONFIG, 2, 7)]
    assert all(first.support.tolist() != other.support.tolist() for other in others)


def test_more_episodes_begin_with_the_same_ones() -> None:
    more = few_shot(TEST, FewShotConfig(episodes=80), 5).accuracies
    assert more[:60].tolist() == few_shot(TEST, CONFIG, 5).accuracies.tolist()


def test_the_order_of_the_images_does_not_change_the_episodes() -> None:
    assert few_shot(shuffled(TEST), CONFIG, 5).accuracies.tolist() == few_shot(TEST, CONFIG, 5).accuracies.tolist()


def test_another_checkpoint_has_the_same_episodes() -> None:
    other = Features(TEST.ids, TEST.values[:, :3], TEST.labels)
    ours, theirs = pools_of(TEST, None, CONFIG), pools_of(other, None, CONFIG)
    for number in range(5):
        ours_drawn, theirs_drawn = draw(ours, CONFIG, 0, number), draw(theirs, CONFIG, 0, number)
        assert ours_drawn.support.tolist() == theirs_drawn.support.tolist()
        assert ours_drawn.queries.tolist() == theirs_drawn.queries.tolist()


def test_the_id_of_an_episode_is_its_number_and_its_images() -> None:
    ids = few_shot(TEST, CONFIG, 5).ids
    assert len(set(ids)) == len(ids) == 60
    assert ids[7].startswith("episode-000007-")
    other = Features(TEST.ids, TEST.values[:, :3], TEST.labels)
    assert few_shot(shuffled(other), CONFIG, 5).ids == ids
    for changed in (
        few_shot(TEST, CONFIG, 6).ids,
        few_shot(TEST, CONFIG, 5, TRAIN).ids,
        few_shot(TEST, FewShotConfig(episodes=60, shots=4, queries=7), 5).ids,
    ):
        assert not set(ids) & set(changed)
    without_a_class = few_shot(TEST.take(np.flatnonzero(TEST.labels != 2)), CONFIG, 5).ids
    assert len(set(ids) & set(without_a_class)) < 20  # an episode may have the same images by chance


def test_an_episode_has_distinct_images_of_distinct_classes() -> None:
    pools = pools_of(TEST, None, CONFIG)
    for number in range(20):
        episode = draw(pools, CONFIG, 0, number)
        rows = [*episode.support.flat, *episode.queries.flat]
        assert len(set(rows)) == 5 * (5 + 6)
        labels = TEST.labels[np.concatenate([episode.support, episode.queries], axis=1)]
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == 5


def test_classes_far_apart_are_always_told_apart() -> None:
    assert few_shot(mixture("test", noise=0.01), CONFIG, 0).metrics["top1"] == 1.0


@case("Evaluation", "classes with fewer images than shots and queries", "left out; a note names them")
def test_classes_with_too_few_images_are_left_out_and_counted() -> None:
    rows = np.flatnonzero((TEST.labels != 3) | (np.arange(len(TEST)) % 20 < 10))  # 10 images; 11 are needed
    few = replace(TEST.take(rows), class_names=["fox", "owl", "hare", "cat"])
    metrics = few_shot(few, CONFIG, 0).metrics
    assert (metrics["classes"], metrics["classes_left_out"]) == (7, 1)
    assert metrics["notes"] == [
        "1 of 8 classes have fewer than 11 images (5 shots and 6 queries) and are left out: class 3 ('cat')."
    ]


def test_with_a_support_set_both_must_have_enough_images() -> None:
    metrics = few_shot(TEST, CONFIG, 0, TRAIN.take(np.flatnonzero(TRAIN.labels != 2))).metrics
    assert (metrics["classes"], metrics["classes_left_out"]) == (7, 1)
    assert "5 training images and 6 test images" in metrics["notes"][0]


@case("Evaluation", "fewer classes than an episode has", "no result; the message names the settings", exit_code=3)
def test_too_few_classes_are_no_result() -> None:
    with pytest.raises(NoResultError, match=r"^4 of 4 classes have 11 images .*lower few_shot\.ways, few_shot\.shots"):
        few_shot(mixture("test", 4), CONFIG, 0)


def test_features_that_measure_nothing_are_no_result() -> None:
    with pytest.raises(NoResultError, match="no test images"):
        few_shot(TEST.take(np.arange(0)), CONFIG, 0)
    equal = Features(TRAIN.ids, np.ones_like(TRAIN.values), TRAIN.labels)
    with pytest.raises(NoResultError, match="same embedding for all 160 train images"):
        few_shot(TEST, CONFIG, 0, equal)
