"""Which points end early, when the money is gone, and what a search is told."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.tuning.schedulers import OBJECTIVE, BudgetStopper, Halving, TreeSearch
from laclip_ray.tuning.space import suggested_point


def experiment(epochs: int = 9, **tune: Any) -> Experiment:
    content = {"name": "sweep", "output": "out", "data": {"path": "data"}, "train": {"epochs": epochs}, "tune": tune}
    return parse_experiment(content)


def result(epoch: int, objective: float, gpu_hours: float = 0.0, money: float | None = None) -> dict[str, Any]:
    return {"epoch": epoch, OBJECTIVE: objective, "gpu_hours": gpu_hours, "money": money}


def test_of_three_points_the_best_goes_on_and_those_that_end_are_named() -> None:
    ended: list[tuple[Mapping[str, Any], int]] = []
    halving = Halving(
        experiment(halving={"first_epochs": 1, "reduction": 3}), lambda values: 0, lambda *each: ended.append(each)
    )
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
    given = experiment(epochs=3, halving={"first_epochs": 3})
    halving = Halving(given, lambda values: 0, lambda *each: ended.append(each))
    trial = SimpleNamespace(trial_id="1", config={"values": {}})
    halving.on_trial_add(None, trial)  # type: ignore[arg-type]
    assert halving.on_trial_result(None, trial, result(3, 0.1)) == TrialScheduler.STOP  # type: ignore[arg-type]
    assert not ended


def test_a_point_is_not_judged_again_below_what_it_had_reached_and_a_spared_one_never() -> None:
    ended: list[Any] = []
    halving = Halving(
        experiment(halving={"first_epochs": 1, "reduction": 2}),
        reached=lambda values: 4 if values == {"text.p": 0.2} else 0,
        end=lambda *each: ended.append(each),
        spared=lambda values: values == {"text.p": 0.3},
    )
    decisions = {}
    for p, objective in ((0.1, 0.9), (0.2, 0.2), (0.3, 0.1), (0.4, 0.05)):
        trial = SimpleNamespace(trial_id=str(p), config={"values": {"text.p": p}})
        halving.on_trial_add(None, trial)  # type: ignore[arg-type]
        decisions[p] = halving.on_trial_result(None, trial, result(2, objective))  # type: ignore[arg-type]
    assert decisions == {0.1: "CONTINUE", 0.2: "CONTINUE", 0.3: "CONTINUE", 0.4: "STOP"}
    assert ended == [({"text.p": 0.4}, 2)]


@pytest.mark.parametrize(("budget", "steps"), [({"gpu_hours": 5.0}, 3), ({"money": 9.0}, 2)])
def test_a_budget_is_of_all_points_together_and_counts_each_once(budget: dict[str, float], steps: int) -> None:
    stopper = BudgetStopper(experiment(budget=budget), {})
    reports = [("a", result(1, 0.1, 1.0, 4.0)), ("b", result(1, 0.1, 2.0, 6.0)), ("a", result(2, 0.1, 3.0, 6.0))]
    for number, (point, each) in enumerate(reports, start=1):
        assert not stopper("trial", {**each, "point": point})
        assert stopper.stop_all() == (number >= steps)


def test_what_was_spent_before_counts_and_is_not_counted_again_when_it_is_told_again() -> None:
    stopper = BudgetStopper(experiment(budget={"gpu_hours": 5.0}), {"a": (3.0, 0.0), "gone": (1.0, 0.0)})
    assert not stopper("trial", {**result(1, 0.1, 1.0), "point": "a"})
    assert not stopper.stop_all()
    assert not stopper("trial", {**result(2, 0.1, 4.0), "point": "a"})
    assert stopper.stop_all()


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


def test_a_search_gives_no_point_twice_and_ends_where_there_is_no_other() -> None:
    given = experiment(search="optuna", p=[0.0, 0.5, 1.0], points=20)
    search = TreeSearch(given, [({"text.p": 0.5}, 0.3)], [{"text.p": 1.0}])
    found = [suggested_point(given, search.suggest(str(number))["values"]).values["text.p"] for number in range(2)]
    assert found == [1.0, 0.0]
    assert search.suggest("2") == "FINISHED"
