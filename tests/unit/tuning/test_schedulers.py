"""Points end early, a budget ends the sweep, and a search learns from stored points."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from laclip_ray.config import BudgetConfig, HalvingConfig, SpaceConfig
from laclip_ray.tuning.schedulers import OBJECTIVE, BudgetStopper, Halving, TreeSearch
from laclip_ray.tuning.space import Space
from laclip_ray.tuning.stages import Cost


def result(epoch: int, objective: float, gpu_hours: float = 0.0, money: float | None = None) -> dict[str, Any]:
    return {"epoch": epoch, OBJECTIVE: objective, "gpu_hours": gpu_hours, "money": money}


def test_of_three_points_the_best_continues_and_the_others_are_reported() -> None:
    ended: list[tuple[Mapping[str, Any], int]] = []
    config = HalvingConfig(first_epochs=1, reduction=3)
    halving = Halving(config, 9, reached=lambda values: 0, end=lambda *each: ended.append(each))
    trials = [SimpleNamespace(trial_id=str(number), config={"values": {"text.p": number / 10}}) for number in range(6)]
    decisions = []
    for number, trial in enumerate(trials):
        halving.on_trial_add(None, trial)  # type: ignore[arg-type]
        decisions.append(halving.on_trial_result(None, trial, result(1, 0.6 - number / 10)))  # type: ignore[arg-type]
    assert decisions[0] == TrialScheduler.CONTINUE
    assert decisions[-3:] == [TrialScheduler.STOP] * 3
    assert [each for each in ended if each[1] == 1][-1] == ({"text.p": 0.5}, 1)


def test_a_point_at_its_last_epoch_does_not_end_early() -> None:
    ended: list[Any] = []
    config = HalvingConfig(first_epochs=3)
    halving = Halving(config, 3, reached=lambda values: 0, end=lambda *each: ended.append(each))
    trial = SimpleNamespace(trial_id="1", config={"values": {}})
    halving.on_trial_add(None, trial)  # type: ignore[arg-type]
    assert halving.on_trial_result(None, trial, result(3, 0.1)) == TrialScheduler.STOP  # type: ignore[arg-type]
    assert not ended


def test_a_point_cannot_end_below_its_reached_epoch_and_a_spared_one_never() -> None:
    ended: list[Any] = []
    halving = Halving(
        HalvingConfig(first_epochs=1, reduction=2),
        9,
        reached=lambda values: 4 if values == {"text.p": 0.2} else 0,
        end=lambda *each: ended.append(each),
        is_spared=lambda values: values == {"text.p": 0.3},
    )
    decisions = {}
    for p, objective in ((0.1, 0.9), (0.2, 0.2), (0.3, 0.1), (0.4, 0.05)):
        trial = SimpleNamespace(trial_id=str(p), config={"values": {"text.p": p}})
        halving.on_trial_add(None, trial)  # type: ignore[arg-type]
        decisions[p] = halving.on_trial_result(None, trial, result(2, objective))  # type: ignore[arg-type]
    assert decisions == {0.1: "CONTINUE", 0.2: "CONTINUE", 0.3: "CONTINUE", 0.4: "STOP"}
    assert ended == [({"text.p": 0.4}, 2)]


@pytest.mark.parametrize(("budget", "steps"), [({"gpu_hours": 5.0}, 3), ({"money": 9.0}, 2)])
def test_a_budget_covers_all_points_and_counts_each_once(budget: dict[str, float], steps: int) -> None:
    stopper = BudgetStopper(BudgetConfig(**budget), {})
    reports = [("a", result(1, 0.1, 1.0, 4.0)), ("b", result(1, 0.1, 2.0, 6.0)), ("a", result(2, 0.1, 3.0, 6.0))]
    for number, (point, each) in enumerate(reports, start=1):
        assert not stopper("trial", {**each, "point": point})
        assert stopper.stop_all() == (number >= steps)


def test_earlier_costs_count_once_even_if_they_are_reported_again() -> None:
    stopper = BudgetStopper(BudgetConfig(gpu_hours=5.0), {"a": Cost(3.0), "gone": Cost(1.0)})
    assert not stopper("trial", {**result(1, 0.1, 1.0), "point": "a"})
    assert not stopper.stop_all()
    assert not stopper("trial", {**result(2, 0.1, 4.0), "point": "a"})
    assert stopper.stop_all()


def p_grid(*values: Any) -> Space:
    return Space({"text.p": SpaceConfig(grid=list(values))})


def test_a_search_suggests_unfinished_points_first_and_knows_the_finished_ones() -> None:
    space = Space({**p_grid(0.0, "uniform").keys, "train.weight_decay": SpaceConfig(uniform=(0, 1))})
    finished: list[tuple[Mapping[str, Any], float]] = [
        ({"text.p": 0.0, "train.weight_decay": 0.5}, 0.3),
        ({"text.p": "uniform", "train.weight_decay": 0.25}, 0.4),
    ]
    unfinished = {"text.p": "uniform", "train.weight_decay": 0.75}
    search = TreeSearch(space, 0, 5, finished, [unfinished])
    assert search.remaining == 3
    first = space.decode(search.suggest("1")["values"])
    assert first.values == unfinished
    second = space.decode(search.suggest("2")["values"])
    assert second.values != unfinished
    assert second.values["text.p"] in (0.0, "uniform")
    search.on_trial_complete("1", result(9, 0.5))
    search.on_trial_complete("2", error=True)
    assert search.best_value == 0.5


def test_a_resumed_search_does_not_repeat_its_first_points() -> None:
    space = Space({"text.p": SpaceConfig(uniform=(0, 1))})
    first = TreeSearch(space, 0, 20, [], []).suggest("1")
    assert TreeSearch(space, 0, 20, [], []).suggest("1") == first
    assert TreeSearch(space, 0, 20, [({"text.p": 0.5}, 0.1)], []).suggest("1") != first


def test_a_search_suggests_no_point_twice_and_ends_after_the_last_one() -> None:
    space = p_grid(0.0, 0.5, 1.0)
    search = TreeSearch(space, 0, 20, [({"text.p": 0.5}, 0.3)], [{"text.p": 1.0}])
    points = [space.decode(search.suggest(str(number))["values"]).values["text.p"] for number in range(2)]
    assert points == [1.0, 0.0]
    assert search.suggest("2") == "FINISHED"
