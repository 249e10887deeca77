"""Values that are right alone and wrong together are refused, with the key, the reason and what to set instead."""

from typing import Any

import pytest

from laclip_ray.config import parse_experiment
from laclip_ray.errors import UserError

MINIMAL = {"name": "test", "output": "out", "data": {"path": "shards"}}
LABELLED = {"name": "a", "path": "images"}
PROBED = {**LABELLED, "linear_probe": {}, "train_split": "train"}
RAMP = {"by": "log_probability", "low": 0.2, "high": 0.8, "p_low": 1.0, "p_high": 0.0, "unscored": 0.5}


def labelled(**changes: Any) -> dict[str, Any]:
    return {"evaluate": {"labelled": [{**LABELLED, **changes}]}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a linear probe without training images": (
        labelled(linear_probe={}),
        "evaluate.labelled[0]: linear_probe: needs training images; set train_split",
    ),
    "neighbours without training images": (labelled(neighbours={}), "neighbours: needs training images"),
    "a probe tested on its training images": (
        labelled(linear_probe={}, train_split="test"),
        "train_split: 'test' is also split, so a probe would be tested on what it was trained on; give another split",
    ),
    "a validation split that is also another": (
        labelled(linear_probe={}, train_split="train", val_split="train"),
        "val_split: 'train' is used twice; give a split of its own, or none",
    ),
    "a set that is not measured": (
        labelled(zero_shot=False),
        "a: nothing to measure; set zero_shot, linear_probe, few_shot or another",
    ),
    "several labels an image where a measure needs one": (
        labelled(metric="map", few_shot={}),
        "metric: map is for images with several labels; few_shot, k_shot, neighbours and wording need one label an "
        "image. Remove these, or choose another metric",
    ),
    "a score of a gate that is off": (
        {"text": {"choice": {"by": "picture", "temperature": 0.1}}},
        "\n  text.choice.by: the score picture comes from rewrite.gate.picture, which is off; set it, or choose "
        "another score",
    ),
    "rewrites that would all be the same": (
        {"rewrite": {"rewrites_per_set": 2, "sampling": {"temperature": 0}}},
        "rewrite: sampling.temperature is 0, so all rewrites_per_set would be the same; set it to 1",
    ),
    "p of a mode without p": (
        {"text": {"mode": "both", "p": RAMP}},
        "text: p.by has no effect with mode=both, where every image shows a rewrite; remove p",
    ),
    "more workers than samples in a batch": (
        {"train": {"batch_size": 4, "workers": {"min": 1, "max": 8}}},
        "train: batch_size (4) is less than workers (8); lower train.workers, or raise batch_size",
    ),
    "a file system without its package": (
        {"data": {"path": "shards", "image_schemes": ["nosuch"]}},
        "data.image_schemes: 'nosuch' cannot be read (Protocol not known: nosuch); install its package or leave it out",
    ),
}


@pytest.mark.parametrize(("sections", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_values_that_do_not_fit_together_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_experiment({**MINIMAL, **sections})
    assert message in str(refused.value)


def test_their_counterparts_are_accepted() -> None:
    parse_experiment({**MINIMAL, "evaluate": {"labelled": [PROBED]}, "train": {"batch_size": 8, "workers": 8}})
    parse_experiment({**MINIMAL, "rewrite": {"sampling": {"temperature": 0}}, "text": {"mode": "both"}})
