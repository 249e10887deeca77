"""Which points end early, when the money is gone, and what a search is told."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.tuning.space import suggested_point
from laclip_ray.tuning.steering import OBJECTIVE, BudgetStopper, Halving, TreeSearch


def experiment(epochs: int = 9, **tune: Any) -> Experiment:
    content = {"name": "sweep", "output": "out", "data": {"path": "data"}, "train": {"epochs": epochs}, "tune": tune}
    return parse_experiment(content)


def result(epoch: int, objective: float, gpu_hours: float = 0.0, money: float | None = None) -> dict[str, Any]:
    return {"epoch": epoch, OBJECTIVE: objective, "gpu_hours": gpu_hours, "money": money}


def test_of_three_points_the_best_goes_on_and_those_that_end_are_named() -> None:
    ended: list[tuple[Mapping[str, Any], int]] = []
    halving = Halving(experiment(halving={"first_epochs": 1, "reduction": 3}), lambda *each: ended.append(each))
    trials = [SimpleNamespace(trial_id=str(number), config={"values": {"text.p": number / 10}}) for number in range(6)]
    decisions = []
    for number, trial in enumerate(trials):
        halving.on_trial_add(None, trial)  # type: ignore[arg-type]
        decisions.append(halving.on_trial_result(None, trial, result(1, 0.6 - number / 10)))  # type: ignore[arg-type]
    assert decisions[0] == TrialScheduler.CONTINUE
    assert decisions[-3:] == [TrialScheduler.STOP] * 3
    assert [each for each in ended if each[1] == 1][-1] == ({"text.p": 0.5}, 1)


def test_a_point_at_its_last_epoch_is_not_said_to_end_early() -> None:
    ended: list[Any] = []
    halving = Halving(experiment(epochs=3, halving={"first_epochs": 3}), lambda *each: ended.append(each))
    trial = SimpleNamespace(trial_id="1", config={"values": {}})
    halving.on_trial_add(None, trial)  # type: ignore[arg-type]
    assert halving.on_trial_result(None, trial, result(3, 0.1)) == TrialScheduler.STOP  # type: ignore[arg-type]
    assert not ended


@pytest.mark.parametrize(("budget", "steps"), [({"gpu_hours": 5.0}, 3), ({"money": 9.0}, 2)])
def test_a_budget_is_of_all_points_together_and_counts_each_once(budget: dict[str, float], steps: int) -> None:
    stopper = BudgetStopper(experiment(budget=budget))
    reports = [("a", result(1, 0.1, 1.0, 4.0)), ("b", result(1, 0.1, 2.0, 6.0)), ("a", result(2, 0.1, 3.0, 6.0))]
    for number, (trial_id, each) in enumerate(reports, start=1):
        assert not stopper(trial_id, each)
        assert stopper.stop_all() == (number >= steps)


def test_a_search_asks_for_what_was_begun_and_knows_what_was_found() -> None:
    given = experiment(search="optuna", points=5, p=[0.0, "uniform"], space={"train.weight_decay": {"uniform": [0, 1]}})
    known: list[tuple[Mapping[str, Any], float]] = [
        ({"text.p": 0.0, "train.weight_decay": 0.5}, 0.3),
        ({"text.p": "uniform", "train.weight_decay": 0.25}, 0.4),
    ]
    begun = {"text.p": "uniform", "train.weight_decay": 0.75}
    search = TreeSearch(given, known, [begun])
    assert search.left == 3
    first = suggested_point(given, search.suggest("1")["values"])
    assert first.values == begun
    second = suggested_point(given, search.suggest("2")["values"])
    assert second.values != begun
    assert second.values["text.p"] in (0.0, "uniform")
    search.on_trial_complete("1", result(9, 0.5))
    search.on_trial_complete("2", error=True)
    assert search.best_value == 0.5


def test_a_search_that_goes_on_does_not_repeat_its_first_points() -> None:
    given = experiment(search="optuna", p=None, space={"text.p": {"uniform": [0, 1]}})
    fresh = TreeSearch(given, [], []).suggest("1")
    assert TreeSearch(given, [], []).suggest("1") == fresh
    assert TreeSearch(given, [({"text.p": 0.5}, 0.1)], []).suggest("1") != fresh
