"""What decides, between two stages, which point is trained next, which goes on, and when the sweep has cost enough.

Each is told again of what is in storage when a sweep goes on, and keeps nothing of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from laclip_ray.config import Experiment
from laclip_ray.tuning.space import Point, encoded, optuna_space, suggested_point

_ATTEMPTS = 200
"""Points that a search looks at for one that is new."""
OBJECTIVE = "objective"
"""What is to be as large as possible: the mean of the metric over a point's seeds."""


class Halving(AsyncHyperBandScheduler):
    """ASHA over the epochs of whole points; says which it ends."""

    def __init__(
        self,
        experiment: Experiment,
        reached: Callable[[Mapping[str, Any]], int],
        end: Callable[[Mapping[str, Any], int], None],
        spared: Callable[[Mapping[str, Any]], bool] = lambda values: False,
    ) -> None:
        """Each is called with a point's values, as in the trial's config.

        Args:
            experiment: the configuration.
            reached: the epoch until which the point was trained before this start; it is not judged again before that.
            end: notes that the point is ended after an epoch.
            spared: whether the point is trained to the end in any case.
        """
        halving = experiment.tune.halving
        assert halving is not None
        self._reached = reached
        self._end = end
        self._spared = spared
        self._epochs = experiment.train.epochs
        super().__init__(
            time_attr="epoch",
            metric=OBJECTIVE,
            mode="max",
            max_t=self._epochs,
            grace_period=min(halving.first_epochs, self._epochs),
            reduction_factor=halving.reduction,
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """See `TrialScheduler`."""
        decision = super().on_trial_result(tune_controller, trial, result)
        values, epoch = trial.config["values"], result["epoch"]
        if epoch < self._epochs and decision == TrialScheduler.STOP:
            if epoch < self._reached(values) or self._spared(values):
                return str(TrialScheduler.CONTINUE)
            self._end(values, epoch)
        return str(decision)


Spent = tuple[float, float]
"""GPU-hours and money."""


class BudgetStopper(Stopper):
    """Ends the sweep when its training has cost what `tune.budget` allows."""

    def __init__(self, experiment: Experiment, spent: Mapping[str, Spent]) -> None:
        """`spent` is what points have cost before this start, by name."""
        self._budget = experiment.tune.budget
        self._spent = dict(spent)

    @property
    def is_spent(self) -> bool:
        """Whether a limit is reached."""
        gpu_hours, money = (sum(each[kind] for each in self._spent.values()) for kind in (0, 1))
        limits = ((gpu_hours, self._budget.gpu_hours), (money, self._budget.money))
        return any(limit is not None and spent >= limit for spent, limit in limits)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Note what a point has cost so far; never ends it alone."""
        known = self._spent.get(result["point"], (0.0, 0.0))
        # A point that is told of again, stage by stage, has cost what it had cost before.
        self._spent[result["point"]] = max(known, (result["gpu_hours"], result["money"] or 0.0))
        return False

    def stop_all(self) -> bool:
        """Whether nothing goes on."""
        return self.is_spent


class TreeSearch(Searcher):
    """Optuna's tree-structured Parzen estimator, asked and told through its public interface.

    It begins with every point that was measured before, asks first for those that were begun, and for no point twice.
    """

    def __init__(
        self,
        experiment: Experiment,
        finished: Sequence[tuple[Mapping[str, Any], float]],
        begun: Sequence[Mapping[str, Any]],
    ) -> None:
        """Points by their config values: the finished with their objective, and those to go on with."""
        super().__init__(metric=OBJECTIVE, mode="max")
        self._experiment = experiment
        self._space = optuna_space(experiment)
        # Other draws for each start, so that a sweep which was stopped does not repeat its first ones.
        sampler = optuna.samplers.TPESampler(seed=experiment.seed + len(finished) + len(begun))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        for values, objective in finished:
            self._study.add_trial(
                create_trial(params=encoded(experiment, values), distributions=self._space, value=objective)
            )
        for values in begun:
            self._study.enqueue_trial(encoded(experiment, values))
        self._known = {Point(values).name for values, _ in finished}
        self._asked: dict[str, optuna.trial.Trial] = {}
        self.left = max(len(begun), experiment.tune.points - len(finished))
        """Points that are still to be asked for."""

    @property
    def best_value(self) -> float:
        """The largest objective that it knows."""
        return float(self._study.best_value)

    def suggest(self, trial_id: str) -> Any:
        """See `Searcher`; the end of the search where nothing but known points is found."""
        for _ in range(_ATTEMPTS):
            trial = self._study.ask(self._space)
            name = suggested_point(self._experiment, trial.params).name
            if name not in self._known:
                self._known.add(name)
                self._asked[trial_id] = trial
                return {"values": dict(trial.params)}
            self._study.tell(trial, state=TrialState.FAIL)
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`."""
        trial = self._asked.pop(trial_id)
        if error or not result or OBJECTIVE not in result:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, result[OBJECTIVE])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is in storage says all of it."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
