"""Evaluate the models that training exports after its epochs, while training continues.

    OUTPUT/evaluate/epochs/epoch-00003/results.json    the results after an epoch
    TRAIN/evaluations.jsonl                            one line an epoch: the metrics
    TRAIN/best.json                                    the model with the best value of `train.checkpoint.keep_best`

A thread of the driver looks for finished exports, and measures one at a time in a Ray task that reserves a core: it
waits until training leaves a core free, and training does not wait for it. When training has ended, the driver measures
the epochs that are left. A second start of the run finds the results of earlier epochs.

Not covered: a metric that ends training early.
"""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.evaluation.results import RESULTS_FILE, IncompleteEvaluationError
from laclip_ray.evaluation.run import evaluate_on_cluster, measure_without_features, open_sets
from laclip_ray.evaluation.tasks import flatten, metric_names
from laclip_ray.evaluation.tracked import begin_epochs, evaluation_table
from laclip_ray.models.files import CONFIG_FILE
from laclip_ray.nearest import did_you_mean
from laclip_ray.tracking.tracker import Outcome
from laclip_ray.tracking.trackers import Trackers
from laclip_ray.training.paths import RunPaths

logger = logging.getLogger(__name__)

_LOOK_S = 2.0
"""Time between two looks for a finished export."""


@contextmanager
def evaluation_during(experiment: Experiment) -> Iterator[Experiment]:
    """Evaluate the epochs of the training that runs inside this context.

    Yields:
        The experiment to train: it exports each epoch that is evaluated. Without `evaluate.during`, the same one.

    Raises:
        UserError: the sets cannot be opened, or do not give `train.checkpoint.keep_best`. Training did not begin.
        IncompleteEvaluationError: training is complete, and epochs have no result.
    """
    during = experiment.evaluate.during
    if during is None:
        yield experiment
        return
    open_sets(experiment)
    metric = experiment.train.checkpoint.keep_best
    if metric is not None and metric not in (names := metric_names(experiment.evaluate)):
        near = did_you_mean(metric, names)
        raise UserError(f"train.checkpoint.keep_best: there is no {metric}; there are {', '.join(names)}{near}")
    if experiment.train.export_every_epochs is None:
        experiment = with_overrides(experiment, {"train.export_every_epochs": during.every_epochs})
    follower = _Follower(experiment, during.every_epochs)
    thread = threading.Thread(target=follower.follow, name="evaluate epochs", daemon=True)
    thread.start()
    outcome = Outcome.FAILED
    try:
        try:
            yield experiment
        finally:
            follower.stop.set()
        thread.join()  # not if training failed or was interrupted: an evaluation may take long
        follower.measure_the_rest()
        outcome = Outcome.FINISHED
    finally:
        follower.end(outcome)


@dataclass
class _Follower:
    experiment: Experiment
    every_epochs: int
    stop: threading.Event = field(default_factory=threading.Event)
    _trackers: Trackers | None = None
    """From the first evaluation of this start on."""

    def follow(self) -> None:
        """Measure exports as they appear, until training ends."""
        while not self.stop.wait(_LOOK_S):
            try:
                self._measure_next()
            except Exception:  # training must not end because a look failed; the rest is measured at its end
                logger.warning("an epoch could not be evaluated now; it is tried again after training", exc_info=True)
                self.stop.wait()

    def _measure_next(self) -> None:
        import ray

        if not ray.is_initialized():
            return
        for epoch in self._epochs():
            if not storage.exists(self._results(epoch)) and self._is_exported(epoch):
                self._measure(epoch, on_cluster=True)
                return

    def measure_the_rest(self) -> None:
        """Measure the exports without results.

        Raises:
            IncompleteEvaluationError: epochs have no result.
        """
        import ray

        for epoch in self._epochs():
            if not storage.exists(self._results(epoch)) and self._is_exported(epoch):
                self._measure(epoch, on_cluster=ray.is_initialized())
        incomplete = [
            f"  epoch {epoch}: {entry['task']}, {entry['dataset']}: {entry['no_result']}"
            for epoch, results in self._measured().items()
            for entry in results["results"]
            if "no_result" in entry
        ]
        if incomplete:
            lines = "\n".join(incomplete)
            raise IncompleteEvaluationError(f"training is complete, and sets have no result after epochs:\n{lines}")

    def end(self, outcome: Outcome) -> None:
        """End the run in trackers, if this start has evaluated an epoch."""
        if self._trackers is not None:
            results = {f"epoch {epoch}": content["results"] for epoch, content in self._measured().items()}
            self._trackers.table(lambda: evaluation_table(results))
            self._trackers.end(outcome)

    def _epochs(self) -> list[int]:
        """The epochs after which there is an evaluation."""
        epochs = self.experiment.train.epochs
        return sorted({*range(self.every_epochs, epochs + 1, self.every_epochs), epochs})

    def _export(self, epoch: int) -> str:
        paths = RunPaths(self.experiment.train_output)
        return paths.export if epoch == self.experiment.train.epochs else paths.epoch_export(epoch)

    def _is_exported(self, epoch: int) -> bool:
        # The config is written last.
        return storage.exists(storage.join(self._export(epoch), CONFIG_FILE))

    def _output(self, epoch: int) -> str:
        return storage.join(self.experiment.evaluate_output, "epochs", f"epoch-{epoch:05d}")

    def _results(self, epoch: int) -> str:
        return storage.join(self._output(epoch), RESULTS_FILE)

    def _measure(self, epoch: int, on_cluster: bool) -> None:
        """Measure the model of an epoch, and write the metrics of all epochs."""
        overrides = {"evaluate.checkpoint": self._export(epoch), "evaluate.output": self._output(epoch)}
        variant = with_overrides(self.experiment, overrides)
        try:
            evaluate_on_cluster(variant) if on_cluster else measure_without_features(variant)
        except IncompleteEvaluationError as error:
            logger.warning("epoch %d: %s", epoch, error)
        self._write(self._measured())

    def _measured(self) -> dict[int, dict[str, Any]]:
        """The results of the measured epochs."""
        remedy = "Remove it, and the same command measures the epoch again."
        return {
            epoch: storage.read_state(self._results(epoch), "the results of this epoch", remedy, dict)
            for epoch in self._epochs()
            if storage.exists(self._results(epoch))
        }

    def _write(self, measured: dict[int, dict[str, Any]]) -> None:
        paths = RunPaths(self.experiment.train_output)
        values = {epoch: flatten(results) for epoch, results in measured.items()}
        lines = [json.dumps({"epoch": epoch, **of_epoch}) for epoch, of_epoch in values.items()]
        storage.write_bytes(paths.evaluations, "".join(f"{line}\n" for line in lines).encode())
        metric = self.experiment.train.checkpoint.keep_best
        of_metric = {epoch: of_epoch[metric] for epoch, of_epoch in values.items() if metric in of_epoch}
        if metric is not None and of_metric:
            best = max(of_metric, key=lambda epoch: (of_metric[epoch], -epoch))
            content = {"metric": metric, "value": of_metric[best], "epoch": best, "checkpoint": self._export(best)}
            storage.write_json(paths.best, content)
        if self._trackers is None:
            self._trackers = begin_epochs(self.experiment)
        self._trackers.catch_up([*values.items()])
        newest = max(values)
        logger.info("epoch %d evaluated: %s", newest, _first(values[newest]))


def _first(values: dict[str, float]) -> str:
    """The first values, for a line of the log."""
    return ", ".join(f"{name} {value:.2%}" for name, value in list(values.items())[:3]) or "no result"
