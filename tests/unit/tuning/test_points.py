"""The epochs after which runs are evaluated, and the report about a point with several seeds."""

from typing import Any

import pytest

from laclip_ray.config import parse_experiment
from laclip_ray.tuning.points import evaluated_epochs, summarize
from laclip_ray.tuning.schedulers import OBJECTIVE
from laclip_ray.tuning.stages import Stage


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


def stage(seed: int, top1: float, money: float | None = None) -> Stage:
    return Stage("p0.5", {"text.p": 0.5}, seed, 3, {"zero-shot/world/top1": top1}, 0.5, 600, 0.25, money)


def test_a_point_is_reported_as_the_mean_of_its_seeds_with_the_cost_of_all() -> None:
    report = summarize([stage(0, 0.2, 1.5), stage(1, 0.4, 2.5)], "zero-shot/world/top1")
    assert report == {OBJECTIVE: pytest.approx(0.3), "point": "p0.5", "epoch": 3, "gpu_hours": 0.5, "money": 4.0}


def test_without_prices_a_point_has_no_cost_in_money() -> None:
    assert summarize([stage(0, 0.2), stage(1, 0.4)], "zero-shot/world/top1")["money"] is None
