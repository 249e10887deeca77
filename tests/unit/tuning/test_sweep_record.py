"""What a sweep's place may hold: runs that are compared with one another, and no others."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.tuning.sweep_record import check_place, record

EPOCHS = [5, 35]
SETS = {"rewrites/crowd": 1, "rewrites/human": None}


@pytest.fixture
def swept(tmp_path: Path) -> Experiment:
    """A sweep that has begun in this place."""
    space = {"train.weight_decay": {"grid": [0.1, 0.2]}}
    experiment = parse_experiment(
        {"name": "sweep", "output": str(tmp_path), "data": {"path": "data"}, "tune": {"p": [0, 1], "space": space}}
    )
    check_place(experiment, EPOCHS)
    record(experiment, EPOCHS, SETS)
    return experiment


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tune.seeds": [0, 1, 2]},
        {"tune.p": [0.5]},
        {"tune.halving": {"first_epochs": 2}},
        {"train.weight_decay": 0.3},
        {"text.p": 0.3},
        {"train.workers": 4, "stream.prefetch_batches": 3},
    ],
)
def test_a_sweep_goes_on_with_more_points_and_at_another_speed(swept: Experiment, changes: dict[str, Any]) -> None:
    again = with_overrides(swept, changes)
    check_place(again, EPOCHS[1:])
    record(again, EPOCHS[1:], {**SETS, "rewrites/new": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.learning_rate", 1.0),
        ("train.epochs", 3),
        ("text.mode", "both"),
        ("stream.order", "exact"),
        ("data.path", "other"),
        ("rewrite.prompt_sets", ["crowd"]),
        ("evaluate.zero_shot", [{"name": "new", "path": "new"}]),
    ],
)
def test_another_sweep_is_refused_with_what_differs(swept: Experiment, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"holds another sweep \({key} differ"):
        check_place(with_overrides(swept, {key: value}), EPOCHS)


def test_a_key_that_is_not_swept_any_more_is_what_it_was(swept: Experiment) -> None:
    record(with_overrides(swept, {"train.weight_decay": 0.3}), EPOCHS, SETS)
    with pytest.raises(UserError, match=r"train\.weight_decay differ"):
        check_place(with_overrides(swept, {"tune.space": {}, "train.weight_decay": 0.3}), EPOCHS)


def test_a_set_that_has_changed_is_refused(swept: Experiment) -> None:
    with pytest.raises(UserError, match=r"holds another sweep \(rewrites/crowd differ"):
        record(swept, EPOCHS, {**SETS, "rewrites/crowd": 2})


def test_epochs_of_which_there_is_no_model_are_refused(swept: Experiment) -> None:
    with pytest.raises(UserError, match="after epochs 10, 20, of which"):
        check_place(swept, [5, 10, 20, 35])
