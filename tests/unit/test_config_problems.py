"""A refused key is named with its origin and the nearest known key."""

from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment, walk
from laclip_ray.config.problems import nearest_key
from laclip_ray.errors import UserError
from tests.cases import case

SECTION = "Configs and secrets"
MINIMAL = {"name": "test", "output": "out", "data": {"path": "shards"}}
KEYS = [facts.key for facts in walk(Experiment)]


def message_of(content: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        parse_experiment({**MINIMAL, **content}, overrides)
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.epoch", "train.epochs"),
        ("trian", "train"),
        ("train.batchsize", "train.batch_size"),
        ("rewrite.engine.actors.maxx", "rewrite.engine.actors.max"),
        ("evaluate.retrieval[0].data.pth", "evaluate.retrieval.data.path"),
        ("batch_size", "train.batch_size"),
        ("warmup_epochs", "train.warmup_epochs"),
        ("zzz", None),
    ],
)
def test_the_nearest_key_is_of_the_same_section_or_has_the_same_name(key: str, nearest: str | None) -> None:
    assert nearest_key(key, KEYS) == nearest


@case(SECTION, "an unknown key", "refused with its path and the nearest known key", 2)
def test_an_unknown_key_names_the_nearest() -> None:
    assert "train.epoch: unknown key; the nearest key is train.epochs" in message_of({"train": {"epoch": 1}})


@case(SECTION, "unknown keys in the file and on the command line", "each is refused with the place it came from", 2)
def test_a_key_says_where_it_came_from() -> None:
    message = message_of({"train": {"epoch": 1}}, "trian.epochs=3", "tune.pp=[0]")
    assert "train.epoch: unknown key; the nearest key is train.epochs (from the file)" in message
    assert "trian: unknown key; the nearest key is train (from the command line)" in message
    assert "tune.pp: unknown key; the nearest key is tune.p (from the command line)" in message


def test_a_file_alone_needs_no_origin() -> None:
    assert "(from" not in message_of({"train": {"epoch": 1}})


@case(SECTION, "a wrong value of thousands of characters", "refused; the message shows its beginning", 2)
def test_a_long_value_is_cut() -> None:
    assert len(message_of({"train": {"epochs": "x" * 10_000}})) < 500
