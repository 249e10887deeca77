"""Checkpoints are compared on the same images, and each row says whether its difference is larger than chance."""

from typing import Any

import numpy as np
import pytest

from laclip_ray.evaluation.comparison import Row, SetKey, compare, summary
from laclip_ray.evaluation.per_image import MetricValues, PerImage, RankedValues
from laclip_ray.randomness import generator
from tests.cases import case

KEY: SetKey = ("zero-shot", "pets")


def results(**metrics: Any) -> dict[str, Any]:
    return {"results": [{"task": KEY[0], "dataset": KEY[1], **metrics}]}


def images(values: np.ndarray, ids: list[str] | None = None) -> dict[SetKey, PerImage]:
    names = ids or [f"image {number}" for number in range(len(values))]
    return {KEY: PerImage(names, {"top1": MetricValues(values.astype(np.float64))})}


def of(first: np.ndarray, second: np.ndarray) -> list[Row]:
    """Compare two checkpoints by whether they get each image right."""
    return compare(
        results(top1=float(first.mean())), results(top1=float(second.mean())), images(first), images(second), 200
    )


EASE = generator(0).random(400)


def test_a_large_difference_is_larger_than_chance() -> None:
    (row,) = of(EASE < 0.5, EASE < 0.6)
    assert (row.task, row.dataset, row.metric) == ("zero-shot", "pets", "top1")
    assert row.difference is not None
    assert row.a is not None
    assert row.b is not None
    assert row.difference.value == pytest.approx(row.b - row.a)
    assert row.sentence.startswith("B is higher by 1")
    assert row.sentence.endswith(": larger than chance.")


def test_a_loss_is_said_as_one() -> None:
    (row,) = of(EASE < 0.6, EASE < 0.5)
    assert row.sentence.startswith("B is lower by 1")


def test_a_small_difference_is_not_larger_than_chance() -> None:
    flipped = np.where(generator(1).random(400) < 0.3, EASE >= 0.5, EASE < 0.5)
    (row,) = of(flipped, np.where(generator(2).random(400) < 0.3, EASE >= 0.5, EASE < 0.5))
    assert row.sentence.startswith("The difference of ")
    assert row.sentence.endswith("is not larger than chance.")


def test_a_checkpoint_equals_itself() -> None:
    (row,) = of(EASE < 0.5, EASE < 0.5)
    assert row.difference is not None
    assert (row.difference.value, row.difference.low, row.difference.high) == (0, 0, 0)
    assert row.sentence == "Every image has the same value with both."


def test_images_are_matched_by_id_in_any_order() -> None:
    order = generator(3).permutation(400)
    ids = [f"image {number}" for number in order]
    second = EASE < 0.6
    whole = of(EASE < 0.5, second)
    shuffled = compare(results(top1=0.5), results(top1=0.6), images(EASE < 0.5), images(second[order], ids), 200)
    assert shuffled[0].difference == whole[0].difference


@case(
    "Evaluation",
    "a comparison of checkpoints that were measured on other images of a set",
    "the images that both have are compared, and the row says how many they are",
)
def test_only_common_images_are_compared() -> None:
    first, second = np.array([0.0, 0.0, 0.0]), np.array([1.0, 1.0])
    (row,) = compare(
        results(top1=0.0), results(top1=1.0), images(first, ["a", "b", "c"]), images(second, ["b", "d"]), 50
    )
    assert row.difference is not None
    assert (row.difference.value, row.difference.images) == (1.0, 1)
    assert "cannot be told from chance with 1 common images" in row.sentence
    assert row.sentence.endswith("They share 1 images; A has 3, B has 2.")


@case("Evaluation", "a comparison without the values of the images", "differences are given, but no interval")
def test_without_values_of_images_chance_is_unknown() -> None:
    (row,) = compare(results(top1=0.1), results(top1=0.9), {}, {})
    assert (row.a, row.b, row.difference) == (0.1, 0.9, None)
    assert "cannot be told from chance" in row.sentence
    assert summary([row]) == "No difference has an interval, so none can be told from chance."


@case("Evaluation", "a comparison where one checkpoint has no result on a set", "the row says why")
def test_a_set_without_a_result_says_why() -> None:
    (row,) = compare(results(top1=0.1), results(no_result="its labels count from 1"), {}, {})
    assert row.metric == ""
    assert row.sentence == "B has no result: its labels count from 1."


EPISODES = ("few-shot", "pets")


def of_episodes(first: list[str], second: list[str]) -> Row:
    """Compare two checkpoints by their accuracies on episodes: the second is better by 0.2 in each."""
    accuracies = generator(4).random(len(first)) * 0.5
    contents = [{"results": [{"task": "few-shot", "dataset": "pets", "top1": top1}]} for top1 in (0.25, 0.45)]
    values = [
        {EPISODES: PerImage(ids, {"top1": MetricValues(accuracies[: len(ids)] + shift)}, "episode")}
        for ids, shift in ((first, 0.0), (second, 0.2))
    ]
    (row,) = compare(contents[0], contents[1], values[0], values[1], 200)
    return row


def test_few_shot_is_paired_over_episodes_and_says_so() -> None:
    ids = [f"episode-{number:06d}" for number in range(50)]
    row = of_episodes(ids, ids)
    assert row.difference is not None
    assert [row.difference.low, row.difference.high] == pytest.approx([0.2, 0.2])
    assert row.sentence == (
        "B is higher by 20.0 points (95 % interval +20.0 to +20.0 over episodes of the same images): larger than "
        "chance."
    )


@case("Evaluation", "a comparison of few-shot with other episodes", "they are not paired, and the row says so")
def test_other_episodes_are_not_paired() -> None:
    row = of_episodes([f"episode-{n:06d}-a" for n in range(50)], [f"episode-{n:06d}-b" for n in range(40)])
    assert row.sentence == (
        "The difference cannot be told from chance with 0 common episodes. They share 0 episodes; A has 50, B has 40."
    )


def test_mean_average_precision_is_compared_on_the_same_images() -> None:
    labels = generator(5).random((300, 3)) < 0.3
    scores = generator(6).normal(size=(300, 3))
    names = [f"image {number}" for number in range(300)]
    order = generator(7).permutation(300)
    first = {KEY: PerImage(names, {"map": RankedValues(scores, labels)})}
    better = RankedValues((scores + labels)[order], labels[order])
    second = {KEY: PerImage([names[number] for number in order], {"map": better})}
    (row,) = compare(results(map=0.3), results(map=0.6), first, second, 200)
    assert row.sentence.startswith("B is higher by ")
    assert row.sentence.endswith(": larger than chance.")


def test_a_set_of_one_checkpoint_is_named() -> None:
    other = {"results": [{"task": "retrieval", "dataset": "coco", "image_to_text_r1": 0.2}]}
    rows = compare(results(top1=0.1), other, {}, {})
    assert [row.sentence for row in rows] == ["B was not measured on this set.", "A was not measured on this set."]


def test_counts_and_texts_are_no_metrics_and_nested_metrics_have_their_path() -> None:
    entry = {"top1": 0.5, "images": 400, "worst": "a photo", "more": {"flip_rate": 0.25, "templates": 7}}
    assert [row.metric for row in compare(results(**entry), results(**entry), {}, {})] == ["top1", "more.flip_rate"]


def test_a_metric_of_one_checkpoint_is_named() -> None:
    rows = compare(results(top1=0.5, top5=0.9), results(top1=0.5), {}, {})
    assert rows[1].sentence == "B has no such metric."


@case(
    "Evaluation",
    "a comparison of checkpoints that were measured with other class names or templates",
    "the row names what differs",
)
def test_other_settings_are_named() -> None:
    (row,) = compare(results(top1=0.5, templates_digest="ab"), results(top1=0.5, templates_digest="cd"), {}, {})
    assert row.sentence.endswith("They were measured differently: templates_digest.")


def test_the_summary_counts_what_chance_would_give() -> None:
    rows = [*of(EASE < 0.5, EASE < 0.6), *of(EASE < 0.5, EASE < 0.5)]
    assert summary(rows) == ("1 of 2 differences is larger than chance; between equal checkpoints about 0.1 would be.")
