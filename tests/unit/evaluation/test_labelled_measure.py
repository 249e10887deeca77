"""Results of a labelled set name its classes, and give intervals and the values that comparisons pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from laclip_ray.config import LabelledConfig
from laclip_ray.evaluation.comparison import compare
from laclip_ray.evaluation.labelled_measure import LabelledMeasure
from laclip_ray.evaluation.per_image import RankedValues
from laclip_ray.evaluation.results import TaskResult, metrics_csv, to_json
from tests.unit.evaluation.encoded import TestModel, encoding, read, read_texts
from tests.unit.evaluation.sets.examples import label_with, make_folders

KEY = ("few-shot", "animals")


def sizes_of(image: Image.Image) -> torch.Tensor:
    """Pixels that depend on the image's class (its width) and on its number (its height)."""
    return torch.tensor([[[image.width, image.height * 3.0, image.width % 5]]])


def tokens(texts: Sequence[str], context_length: int = 3) -> torch.Tensor:
    """Tokens that differ between texts."""
    rows = [[len(text), *map(ord, text[-2:])] if text else [0] * 3 for text in texts]
    return torch.tensor([[*row, 0][:context_length] for row in rows])


def measured(config: LabelledConfig, seed: int = 0) -> list[TaskResult]:
    measure = LabelledMeasure.open(config, 0.0, seed)
    with encoding(TestModel(), sizes_of, tokens) as model:
        reader, texts = read(model, measure.sources), measure.first_texts()
        return measure.measure(reader, read_texts(model, texts) if texts else None)


def few_shot(root: Path, seed: int = 0, **settings: Any) -> TaskResult:
    """Few-shot on four classes, the last with too few images."""
    config = make_folders(root, ["fox", "hare", "owl"], 9, zero_shot=False, few_shot={"ways": 2, "episodes": 40,
                          "shots": 2, "queries": 3, **settings})  # fmt: skip
    make_folders(root, ["fox", "hare", "owl", "snow_owl"], 3)
    (result,) = measured(config, seed)
    return result


def test_few_shot_has_the_interval_over_episodes_among_the_others(tmp_path: Path) -> None:
    entry = to_json(few_shot(tmp_path), 200, 0)
    low, high = entry["intervals"]["top1"]
    assert low < entry["top1"] < high
    assert "top1_interval" not in entry
    assert entry["says"] == "The interval is over episodes of the same images, not over other images."
    assert f"few-shot,animals,top1,{entry['top1']},{low},{high}," in metrics_csv([entry])


def test_one_episode_has_no_interval_and_says_nothing_of_it(tmp_path: Path) -> None:
    entry = to_json(few_shot(tmp_path, episodes=1), 200, 0)
    assert entry["intervals"] == {"top1": [None, None]}
    assert "says" not in entry


def test_notes_name_classes(tmp_path: Path) -> None:
    assert few_shot(tmp_path).metrics["notes"] == [
        "1 of 4 classes have fewer than 5 images (2 shots and 3 queries) and are left out: class 3 ('snow owl')."
    ]


def test_few_shot_of_one_set_and_seed_is_paired_over_episodes(tmp_path: Path) -> None:
    first, again, other = few_shot(tmp_path), few_shot(tmp_path), few_shot(tmp_path, seed=1)
    contents = [{"results": [to_json(result, 100, 0)]} for result in (first, again, other)]
    images = [{KEY: result.per_image} for result in (first, again, other) if result.per_image is not None]
    (paired,) = compare(contents[0], contents[1], images[0], images[1])
    assert paired.sentence == "Every episode has the same value with both."
    (unpaired,) = compare(contents[0], contents[2], images[0], images[2])
    assert unpaired.sentence.startswith("The difference cannot be told from chance with 0 common episodes.")


def test_a_mean_average_precision_has_an_interval_over_images(tmp_path: Path) -> None:
    labels = [b"[0, 1]", b"[2]", b"[0]", b"[]", b"[1, 2]", b"[1]"] * 3
    (result,) = measured(label_with(tmp_path / "set", labels, metric="map"))
    assert result.per_image is not None
    values = result.per_image.metrics["map"]
    assert isinstance(values, RankedValues)
    assert (values.scores.shape, values.labels.sum()) == ((18, 3), 3 * 7)
    entry = to_json(result, 100, 0)
    low, high = entry["intervals"]["map"]
    assert low < entry["map"] < high
