"""Decisions between two stages: which point trains next, which one continues, and when the budget is spent.

No decision is stored. When a sweep resumes, each object here learns the stored results again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from laclip_ray import progress
from laclip_ray.config import BudgetConfig, HalvingConfig
from laclip_ray.progress.messages import Count
from laclip_ray.tuning.space import Point, Space
from laclip_ray.tuning.stages import Cost

OBJECTIVE = "objective"
"""Key of the maximised number in Tune's results: the mean of the metric over a point's seeds."""
_ATTEMPTS = 200
"""Suggestions of Optuna that a search tries, to find a new point."""


class Halving(AsyncHyperBandScheduler):
    """ASHA over the epochs of whole points. Reports the points that it ends."""

    def __init__(
        self,
        halving: HalvingConfig,
        epochs: int,
        reached: Callable[[Mapping[str, Any]], int],
        end: Callable[[Mapping[str, Any], int], None],
        is_spared: Callable[[Mapping[str, Any]], bool] = lambda values: False,
    ) -> None:
        """The functions take a point's values, as in the trial's config.

        Args:
            halving: the first rung and the reduction.
            epochs: of a complete run.
            reached: returns the epoch up to which the point was trained before this start. It cannot end before.
            end: called with the epoch when a point ends.
            is_spared: whether the point always trains to the end.
        """
        self._reached = reached
        self._end = end
        self._is_spared = is_spared
        self._epochs = epochs
        super().__init__(
            time_attr="epoch",
            metric=OBJECTIVE,
            mode="max",
            max_t=epochs,
            grace_period=min(halving.first_epochs, epochs),
            reduction_factor=halving.reduction,
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """See `TrialScheduler`."""
        decision = super().on_trial_result(tune_controller, trial, result)
        values, epoch = trial.config["values"], result["epoch"]
        if epoch < self._epochs and decision == TrialScheduler.STOP:
            if epoch < self._reached(values) or self._is_spared(values):
                return str(TrialScheduler.CONTINUE)
            self._end(values, epoch)
        return str(decision)


class BudgetStopper(Stopper):
    """Ends the sweep when its training has cost `tune.budget`."""

    def __init__(self, budget: BudgetConfig, costs: Mapping[str, Cost]) -> None:
        """`costs` holds what each point, by its name, has cost before this start."""
        self._budget = budget
        self._costs = dict(costs)

    @property
    def is_spent(self) -> bool:
        """Whether a limit is reached."""
        gpu_hours = sum(cost.gpu_hours for cost in self._costs.values())
        money = sum(cost.money for cost in self._costs.values())
        limits = ((gpu_hours, self._budget.gpu_hours), (money, self._budget.money))
        return any(limit is not None and cost >= limit for cost, limit in limits)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Record the cost of a point so far. Never ends a single point."""
        point, cost = result["point"], Cost(result["gpu_hours"], result["money"] or 0.0)
        # After a restart, the stored stages of a point report less than the point has cost.
        self._costs[point] = max(self._costs.get(point, Cost()), cost)
        return False

    def stop_all(self) -> bool:
        """Whether to end the sweep."""
        return self.is_spent


class EndedPoints(Callback):
    """Shows how many points have ended, to who watches the sweep."""

    def __init__(self, points: int) -> None:
        """`points` are all points of this start."""
        self._points = points
        self._ended = 0

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """See `Callback`."""
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """See `Callback`."""
        self._show()

    def _show(self) -> None:
        self._ended += 1
        is_over = self._ended >= self._points
        progress.tell(Count("points", "points of the sweep", self._ended, self._points, is_over=is_over))


class TreeSearch(Searcher):
    """Optuna's tree-structured Parzen estimator, used through its public ask-and-tell interface.

    It learns from all finished points, suggests unfinished points first, and suggests no point twice.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        points: int,
        finished: Sequence[tuple[Mapping[str, Any], float]],
        unfinished: Sequence[Mapping[str, Any]],
    ) -> None:
        """Begin a search, or resume it.

        Args:
            space: the space.
            seed: of the experiment.
            points: in all.
            finished: values and objective of finished points.
            unfinished: values of points that began earlier.
        """
        super().__init__(metric=OBJECTIVE, mode="max")
        self._space = space
        self._distributions = space.distributions()
        # A resumed search draws other numbers than it began with. Otherwise it would repeat its first suggestions.
        sampler = optuna.samplers.TPESampler(seed=seed + len(finished) + len(unfinished))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        for values, objective in finished:
            self._study.add_trial(
                create_trial(params=space.encode(values), distributions=self._distributions, value=objective)
            )
        for values in unfinished:
            self._study.enqueue_trial(space.encode(values))
        self._suggested = {Point(values).name for values, _ in finished}
        self._trials: dict[str, optuna.trial.Trial] = {}
        self.remaining = max(len(unfinished), points - len(finished))
        """Points still to suggest."""

    @property
    def best_value(self) -> float:
        """The largest known objective."""
        return float(self._study.best_value)

    def suggest(self, trial_id: str) -> Any:
        """See `Searcher`. Ends the search if Optuna repeats known points only."""
        for _ in range(_ATTEMPTS):
            trial = self._study.ask(self._distributions)
            name = self._space.decode(trial.params).name
            if name not in self._suggested:
                self._suggested.add(name)
                self._trials[trial_id] = trial
                return {"values": dict(trial.params)}
            self._study.tell(trial, state=TrialState.FAIL)
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`."""
        trial = self._trials.pop(trial_id)
        if error or not result or OBJECTIVE not in result:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, result[OBJECTIVE])

    def save(self, checkpoint_path: str) -> None:
        """Do nothing. The stored stages hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
