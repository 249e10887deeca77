"""What a training run says while it goes on: a line on the console, `metrics.jsonl`, TensorBoard, Ray's own metrics."""

import json
import time
from collections.abc import Mapping
from typing import Any

from laclip_ray import storage

_METRICS_FLUSH_S = 20.0
_GAUGES = {
    "loss": "Mean loss since the last line",
    "images_per_s": "Images trained on a second, all workers",
    "waiting_share": "Share of time that the first worker waits for data",
    "p_effective": "Share of samples that showed a rewrite",
    "p_effective_in_epoch": "The same of the newest epoch",
    "late_share_in_epoch": "Of the newest epoch's texts that were to be rewrites, those read before they were there",
    "rewritten_shards": "Shards whose rewrites are committed",
    "shards_to_rewrite": "Shards that are to have their rewrites",
    "rewrites_per_s": "Rewrites accepted a second",
    "lag_shards": "Shards that training has gone through beyond those that are rewritten",
}
"""Exported by Ray as `laclip_NAME`, for its dashboard and for Prometheus."""


def metrics_url(output: str) -> str:
    """The file of a training run's lines, one JSON object each."""
    return storage.join(output, "metrics.jsonl")


def read_metrics(output: str) -> list[dict[str, Any]]:
    """The lines of the training run below `output`; none where it has written none."""
    url = metrics_url(output)
    lines = storage.read_bytes(url).decode().splitlines() if storage.exists(url) else []
    return [json.loads(line) for line in lines]


def console_line(row: Mapping[str, Any]) -> str:
    """A line of metrics as it is printed."""
    loss = "none" if row["loss"] is None else f"{row['loss']:.4f}"  # where every batch was left out
    return (
        f"step {row['step']}  epoch {row['epoch']:.2f}  loss {loss}  p {row['p']:g} "
        f"(effective {row['p_effective']:.3f}{_fallbacks(row['fallbacks'])})  {row['images_per_s']:.0f} images/s  "
        f"waiting {row['waiting_share']:.0%}{_of_rewriting(row)}"
    )


def _of_rewriting(row: Mapping[str, Any]) -> str:
    """What a line says of rewriting that goes on beside training."""
    if "rewritten_shards" not in row:
        return ""
    return (
        f"  rewritten {row['rewritten_shards']} of {row['shards_to_rewrite']} shards, {row['rewrites_per_s']:.0f} "
        f"rewrites/s, lag {row['lag_shards']} shards; this epoch: effective p {row['p_effective_in_epoch']:.3f}, "
        f"{row['late_share_in_epoch']:.0%} late"
    )


def _fallbacks(counts: Mapping[str, int]) -> str:
    """Why the effective p is not the one that was asked for, as far as it is not chance."""
    shown = [f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items() if count]
    return f", {', '.join(shown)}" if shown else ""


class MetricsLog:
    """`metrics.jsonl` and TensorBoard events below `train.output`, and gauges of Ray's; written by rank 0.

    After a restart the lines of steps that are done again are dropped, so that the file holds each step once.
    """

    def __init__(self, output: str, from_step: int) -> None:
        """Go on below `output` after step `from_step`."""
        from ray.util.metrics import Gauge
        from torch.utils.tensorboard import SummaryWriter

        self._url = metrics_url(output)
        self._gauges = {name: Gauge(f"laclip_{name}", description) for name, description in _GAUGES.items()}
        self._rows = [row for row in read_metrics(output) if row["step"] <= from_step]
        self._flushed_s = time.monotonic()
        self._board = SummaryWriter(storage.join(output, "tensorboard"), purge_step=from_step + 1)

    def append(self, row: dict[str, Any]) -> None:
        """Add a line, and print it."""
        self._rows.append(row)
        for name in ("loss", "learning_rate", "logit_scale", "p_effective", "images_per_s", "waiting_share"):
            if row[name] is not None:
                self._board.add_scalar(f"train/{name}", row[name], row["step"])
        for name, gauge in self._gauges.items():
            gauge.set(row.get(name))
        print(console_line(row), flush=True)
        if time.monotonic() - self._flushed_s > _METRICS_FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Commit the file."""
        storage.write_bytes(self._url, "".join(json.dumps(row) + "\n" for row in self._rows).encode())
        self._board.flush()
        self._flushed_s = time.monotonic()

    def close(self) -> None:
        """Commit the file and end."""
        self.flush()
        self._board.close()
