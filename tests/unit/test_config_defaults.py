"""Configurations of earlier versions are compared with every later key at its default."""

import copy
from typing import Any

import pytest

from laclip_ray.config import Experiment, TextConfig, TuneConfig, parse_experiment
from laclip_ray.config.defaults import with_defaults

CONTENT: dict[str, Any] = {
    "name": "old",
    "output": "out",
    "data": {"path": "data"},
    "text": {"p": {"start": 0.1, "end": 0.9}},
    "train": {"workers": {"min": 1, "max": 2}},
    "evaluate": {"retrieval": [{"name": "flickr", "data": {"path": "flickr"}}]},
    "tune": {"space": {"train.weight_decay": {"grid": [0.1, 0.2]}}},
}


def dumped() -> dict[str, Any]:
    return parse_experiment(CONTENT).model_dump(mode="json")


def test_a_whole_configuration_stays_as_it_is() -> None:
    assert with_defaults(Experiment, dumped()) == dumped()


@pytest.mark.parametrize(
    "key",
    [
        "data.exif",
        "data.image_schemes",
        "stream.crop_scale",
        "train.checkpoint",
        "train.checkpoint.keep",
        "text.p.epochs",
        "rewrite.gate.drop_repeats",
        "rewrite.engine.actors",
        "evaluate.retrieval.0.data.exif",
        "tune.space.train/weight_decay.uniform",
        "ray",
    ],
)
def test_a_key_that_an_earlier_version_did_not_have_has_its_default(key: str) -> None:
    earlier: Any = copy.deepcopy(dumped())
    section = earlier
    *parents, last = [part.replace("/", ".") for part in key.split(".")]
    for part in parents:
        section = section[int(part)] if part.isdigit() else section[part]
    del section[last]
    assert earlier != dumped()
    assert with_defaults(Experiment, earlier) == dumped()


def test_keys_that_no_longer_exist_stay() -> None:
    earlier = {**dumped(), "data": {**dumped()["data"], "gone": 1}}
    assert with_defaults(Experiment, earlier)["data"]["gone"] == 1


def test_of_several_sections_the_one_that_a_value_belongs_to_is_completed() -> None:
    by = {"by": "caption_words", "low": 1.0, "high": 8.0, "p_low": 0.9, "p_high": 0.1}
    content = {"p": by, "choice": {"by": "meaning", "temperature": 1.0}}
    complete = with_defaults(TextConfig, content)
    assert complete["p"] == {**by, "unscored": None}
    assert complete["choice"] == content["choice"]
    points = with_defaults(TuneConfig, {"p": [0.5, "uniform", by, {"start": 0.0, "end": 1.0}]})["p"]
    assert points == [0.5, "uniform", {**by, "unscored": None}, {"start": 0.0, "end": 1.0, "epochs": None}]
