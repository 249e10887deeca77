"""The metrics of a training run: console lines, `metrics.jsonl`, trackers, and Ray's own gauges."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from laclip_ray import progress, storage
from laclip_ray.progress.messages import TrainingRow
from laclip_ray.tracking.tracker import Outcome
from laclip_ray.tracking.trackers import Trackers
from laclip_ray.tracking.values import numbers
from laclip_ray.training.paths import RunPaths

logger = logging.getLogger(__name__)

_METRICS_FLUSH_S = 30.0
"""Time between two writes of `metrics.jsonl` and of TensorBoard's events."""
_NO_CURVES = frozenset({"step", "unix_time_s", "batch_size"})
"""Numbers of a line that trackers do not get."""
_GAUGES = {
    "loss": "Mean loss since the last line",
    "images_per_s": "Images trained per second, all workers",
    "waiting_share": "Share of its time that the first worker waits for data",
    "shards_in_batch": "Shards that the samples of the newest batch come from",
    "p_effective": "Share of samples that showed a rewrite",
    "p_effective_in_epoch": "Share of the newest epoch's samples that showed a rewrite",
    "late_share_in_epoch": "Share of the newest epoch's rewrites that came too late, so that the caption was shown",
    "rewritten_shards": "Shards whose rewrites are committed",
    "shards_to_rewrite": "Shards in the dataset",
    "rewrites_per_s": "Rewrites accepted per second",
    "lag_shards": "Shards that training has read beyond the number rewritten",
}
"""Exported by Ray as `laclip_NAME`, for its dashboard and for Prometheus."""


def read_metrics(output: str) -> list[dict[str, Any]]:
    """The metrics lines of the training run in `output`; empty before the first one. Damaged lines are left out."""
    url = RunPaths(output).metrics
    lines = storage.read_bytes(url).decode("utf-8", "replace").splitlines() if storage.exists(url) else []
    rows = [row for row in map(_parse_object, lines) if row]
    if len(rows) < len(lines):
        logger.warning("%s: left out %d damaged lines", url, len(lines) - len(rows))
    return rows


def _parse_object(line: str) -> dict[str, Any] | None:
    """The object of a JSON line; None for anything else."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def console_line(row: Mapping[str, Any]) -> str:
    """A line of metrics, as the console shows it."""
    loss = "none" if row["loss"] is None else f"{row['loss']:.4f}"  # None: every batch was skipped
    counts = {**row["fallbacks"], "unscored": row["unscored"]}
    return (
        f"step {row['step']}  epoch {row['epoch']:.2f}  loss {loss}  p {row['p']:g} "
        f"(effective {row['p_effective']:.3f}{_reasons(counts)})  {row['images_per_s']:.0f} images/s  "
        f"waiting {row['waiting_share']:.0%}{_rewriting_progress(row)}"
    )


def _rewriting_progress(row: Mapping[str, Any]) -> str:
    """The progress of rewriting beside training; empty without it."""
    if "rewritten_shards" not in row:
        return ""
    return (
        f"  rewritten {row['rewritten_shards']} of {row['shards_to_rewrite']} shards, {row['rewrites_per_s']:.0f} "
        f"rewrites/s, lag {row['lag_shards']} shards; this epoch: effective p {row['p_effective_in_epoch']:.3f}, "
        f"{row['late_share_in_epoch']:.0%} late"
    )


def _reasons(counts: Mapping[str, int]) -> str:
    """Why the effective p is lower than the requested p, apart from chance, and how often a score was missing."""
    reasons = [f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items() if count]
    return f", {', '.join(reasons)}" if reasons else ""


def tracked_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics that trackers get, by their names there."""
    return numbers({name: value for name, value in row.items() if name not in _NO_CURVES}, "train/")


class MetricsLog:
    """Writes `metrics.jsonl` and Ray's gauges, and tells trackers. Only rank 0 has one.

    A run that resumes drops the lines of steps that it repeats, so the file holds each step once. A file that cannot be
    written is reported once, and never stops training.
    """

    def __init__(self, paths: RunPaths, from_step: int, trackers: Trackers) -> None:
        """Continue the metrics of a run after step `from_step`."""
        from ray.util.metrics import Gauge

        self._output = paths.output
        self._url = paths.metrics
        self._has_failed = False
        self._gauges = {name: Gauge(f"laclip_{name}", description) for name, description in _GAUGES.items()}
        self._rows: list[dict[str, Any]] = []
        with self._tried():
            self._rows = [row for row in read_metrics(paths.output) if row.get("step", 0) <= from_step]
        self._flushed_s = time.monotonic()
        self._trackers = trackers
        trackers.catch_up([(row["step"], tracked_values(row)) for row in self._rows if "step" in row])

    @contextlib.contextmanager
    def _tried(self) -> Iterator[None]:
        """Report the first failure of the file, and continue without it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - file systems raise many types
            if not self._has_failed:
                logger.warning("%s cannot be written, and training continues without it: %s", self._url, error)
            self._has_failed = True

    def append(self, row: dict[str, Any]) -> None:
        """Add a line, and show it."""
        self._rows.append(row)
        self._trackers.scalars(row["step"], tracked_values(row))
        for name, gauge in self._gauges.items():
            gauge.set(row.get(name))
        if progress.is_watched():
            progress.tell(TrainingRow(self._output, row))
        else:
            print(console_line(row), flush=True)
        if time.monotonic() - self._flushed_s > _METRICS_FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the file, and let trackers write."""
        with self._tried():
            storage.write_bytes(self._url, "".join(json.dumps(row) + "\n" for row in self._rows).encode())
        self._trackers.flush()
        self._flushed_s = time.monotonic()

    def close(self, outcome: Outcome = Outcome.FINISHED) -> None:
        """Write everything, and end the run in trackers."""
        self.flush()
        self._trackers.end(outcome)
