"""The epochs after which runs are evaluated."""

from typing import Any

import pytest

from laclip_ray.config import parse_experiment
from laclip_ray.tuning.points import evaluated_epochs


@pytest.mark.parametrize(
    ("tune", "epochs"),
    [
        ({}, [20]),
        ({"evaluate_every_epochs": 5}, [5, 10, 15, 20]),
        ({"evaluate_every_epochs": 30}, [20]),
        ({"halving": {"first_epochs": 2, "reduction": 3}}, [2, 6, 18, 20]),
        ({"halving": {"first_epochs": 4, "reduction": 2}, "evaluate_every_epochs": 10}, [4, 8, 10, 16, 20]),
        ({"halving": {"first_epochs": 40}}, [20]),
    ],
)
def test_runs_are_evaluated_at_intervals_at_rungs_and_at_the_end(tune: dict[str, Any], epochs: list[int]) -> None:
    experiment = parse_experiment({"name": "sweep", "output": "out", "data": {"path": "data"}, "tune": tune})
    assert evaluated_epochs(experiment.tune, epochs=20) == epochs
