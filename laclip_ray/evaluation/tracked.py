"""What trackers learn of an evaluation: a row for each metric with its interval, and of epochs a curve for each."""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.evaluation.tasks import flatten
from laclip_ray.tracking.choice import begin_trackers
from laclip_ray.tracking.tracker import Cell, Outcome, Table
from laclip_ray.tracking.trackers import Trackers

_COLUMNS = ("model", "task", "dataset", "metric", "value", "low", "high", "images", "no_result")


def track_evaluation(experiment: Experiment, contents: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell trackers the results of an evaluation.

    Args:
        experiment: the configuration.
        contents: of `results.json`, by the model's name in `evaluate.others`; empty for the experiment's own.
    """
    if not experiment.track.report_to:
        return
    models = {
        name or "own": {key: content.get(key) for key in ("checkpoint", "weights_digest")}
        for name, content in contents.items()
    }
    trackers = begin_trackers(experiment, "evaluate", experiment.evaluate_output, {"models": models})
    trackers.table(lambda: evaluation_table({name: content["results"] for name, content in contents.items()}))
    for name, content in contents.items():
        prefix = f"{name}/" if name else ""
        trackers.summary({f"{prefix}{metric}": value for metric, value in flatten(content).items()})
    is_whole = all("no_result" not in entry for content in contents.values() for entry in content["results"])
    trackers.end(Outcome.FINISHED if is_whole else Outcome.FAILED)


def begin_epochs(experiment: Experiment) -> Trackers:
    """Begin the run of the epochs that are evaluated while training goes on; its steps are epochs."""
    return begin_trackers(experiment, "evaluate", storage.join(experiment.train_output, "evaluations"), {})


def evaluation_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """A row for each metric, and for each set without a result.

    Args:
        results: entries of `results.json`, by model.
    """
    rows: list[list[Cell]] = []
    for model, entries in results.items():
        for entry in entries:
            images = entry.get("images")
            for metric, value in entry.items():
                if isinstance(value, float):
                    low, high = entry.get("intervals", {}).get(metric, (None, None))
                    rows.append([model, entry["task"], entry["dataset"], metric, value, low, high, images, None])
            if "no_result" in entry:
                rows.append([model, entry["task"], entry["dataset"], *[None] * 5, f"{entry['no_result']}"])
    return Table("evaluation", _COLUMNS, rows)
