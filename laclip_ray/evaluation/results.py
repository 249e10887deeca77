"""The files of an evaluation: results set by set, a table with a row a metric, and values of single images.

OUTPUT/results.json             all sets so far, written again after each
OUTPUT/metrics.csv              a row for each metric of each set
OUTPUT/per_image/TASK/SET.parquet   by image or episode, what the metrics are of; for comparisons of two models
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from laclip_ray import storage
from laclip_ray.errors import IncompleteError
from laclip_ray.evaluation.bootstrap import Estimate, estimates
from laclip_ray.evaluation.coverage import Coverage
from laclip_ray.evaluation.per_image import PerImage, write_per_image
from laclip_ray.redaction import redacted
from laclip_ray.tally import NAMES_KEPT

RESULTS_FILE, METRICS_FILE = "results.json", "metrics.csv"


class IncompleteEvaluationError(IncompleteError):
    """Some sets have no result. The results of the others are written."""

    results: Mapping[str, Any] = {}
    """The content of `results.json`."""


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The result of a protocol on a set."""

    task: str
    """`zero-shot`."""
    dataset: str
    metrics: Mapping[str, Any]
    """Ready for JSON; `no_result` with the reason instead of metrics."""
    per_image: PerImage | None = None
    """By image or episode, the values that give the metrics of the same names."""
    coverage: Coverage = field(default_factory=Coverage)
    says: Callable[[Mapping[str, Estimate]], str] | None = None
    """Makes a sentence on the meaning of the metrics with their intervals."""


def to_json(result: TaskResult, resamples: int, seed: int) -> dict[str, Any]:
    """The entry of a result in `results.json`, with 95 % intervals of the metrics that have values by image."""
    skipped = result.coverage.skipped
    names = [name for names in skipped.names.values() for name in names]
    entry = {"task": result.task, "dataset": result.dataset, **result.metrics}
    if result.per_image is not None:
        intervals = estimates(result.per_image.metrics, resamples, seed)
        entry["intervals"] = {metric: _bounds(found) for metric, found in intervals.items()}
        if result.says is not None:
            entry["says"] = result.says(intervals)
    return {
        **entry,
        "skipped": skipped.counts.total(),
        "skipped_reasons": dict(skipped.counts),
        "skipped_names": names[:NAMES_KEPT],
    }


def _bounds(found: Estimate) -> list[float | None]:
    return [found.low, found.high]


def per_image_url(output: str, task: str, dataset: str) -> str:
    """Where the values of single images of a set are."""
    return storage.join(output, "per_image", task, f"{quote(dataset, safe='')}.parquet")


@dataclass
class ResultFiles:
    """The growing results of one model."""

    output: str
    """Directory or URL."""
    head: Mapping[str, Any]
    """Facts about the whole evaluation: the model, versions, precision."""
    metrics: Mapping[str, str]
    """By data set, its own metric, for the averages."""
    resamples: int
    seed: int
    sets: int
    """How many sets are measured in all."""
    sets_measured: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, results: Sequence[TaskResult]) -> None:
        """Add the results of a set, and write the files."""
        self.sets_measured += 1
        for result in results:
            self.entries.append(dict(redacted(to_json(result, self.resamples, self.seed))))  # messages may hold URLs
            if result.per_image is not None:
                url = per_image_url(self.output, result.task, result.dataset)
                write_per_image(url, result.per_image.ids, result.per_image.metrics, result.per_image.unit)
        storage.write_json(storage.join(self.output, RESULTS_FILE), self.content())
        storage.write_bytes(storage.join(self.output, METRICS_FILE), metrics_csv(self.entries).encode())

    def content(self) -> dict[str, Any]:
        """The content of `results.json`."""
        counts = {"sets": self.sets, "sets_measured": self.sets_measured}
        averaged = averages(self.entries, self.metrics)
        return {**redacted(self.head), **counts, "results": self.entries, "averages": averaged}

    def check_complete(self) -> dict[str, Any]:
        """The content of `results.json`.

        Raises:
            IncompleteEvaluationError: sets have no result.
        """
        reasons = [
            f"  {entry['task']}, {entry['dataset']}: {entry['no_result']}"
            for entry in self.entries
            if "no_result" in entry
        ]
        if not reasons:
            return self.content()
        url = storage.join(self.output, RESULTS_FILE)
        others = " has the others" if len(reasons) < len(self.entries) else " says why, too"
        lines = "\n".join(reasons)
        error = IncompleteEvaluationError(
            f"no result for {len(reasons)} of {len(self.entries)} datasets; {url}{others}\n{lines}"
        )
        error.results = self.content()
        raise error


def metrics_csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """A row for each metric: task, dataset, metric, value, the bounds of its interval, images."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("task", "dataset", "metric", "value", "low", "high", "images"))
    for entry in entries:
        for metric, value in entry.items():
            if isinstance(value, float):
                bounds = entry.get("intervals", {}).get(metric, (None, None))
                writer.writerow((entry["task"], entry["dataset"], metric, value, *bounds, entry.get("images", "")))
    return text.getvalue()


def averages(entries: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> dict[str, float]:
    """By task, the mean over labelled sets of each set's own metric; only of tasks with results on several sets.

    A task without a set's own metric, as few-shot classification, takes `top1`.

    Args:
        entries: of `results.json`.
        metrics: by data set, its metric.
    """
    values: dict[str, list[float]] = {}
    for entry in entries:
        own = metrics.get(entry["dataset"], "")
        if (value := entry.get(own, entry.get("top1"))) is not None:
            values.setdefault(entry["task"], []).append(value)
    return {task: float(np.mean(of_task)) for task, of_task in values.items() if len(of_task) > 1}
