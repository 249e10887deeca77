"""What each worker reports to the others, and the totals of the whole run.

Workers report at every logged step and at every checkpoint. Counts in metrics and checkpoints are sums over all
workers; the first worker decides whether a checkpoint is due, because clocks differ.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import distributed

from laclip_ray.data.consumption import Consumption
from laclip_ray.tally import Tally
from laclip_ray.training.checkpoint import TrainingState

_MAX_SKIPPED_IN_A_ROW = 20
"""Consecutive skipped batches after which the weights are to blame, not the batches."""

T = TypeVar("T")


class NonFinite(NamedTuple):
    """A step whose loss is not finite."""

    step: int
    """From 1."""
    ids: list[str]
    """Samples of its batch; empty if a weight, not the loss, is not finite."""


@dataclass(frozen=True)
class WorkerReport:
    """What one worker has done since it started."""

    shown_counts: dict[int, Counter[int]]
    """Samples trained on, by epoch and `ShownText`."""
    requested_p: dict[int, float]
    """By epoch, the sum of these samples' p."""
    skipped: Tally
    """Skipped rows by reason."""
    skipped_batches: int
    loss: float | None
    """Mean since the last log line; None without a step."""
    non_finite: NonFinite | None
    is_save_due: bool
    """Whether this worker would make a checkpoint now."""


@dataclass(frozen=True)
class RunReport:
    """What all workers together have done."""

    state: TrainingState
    """The run's state, with the position of the last checkpoint. Only a new checkpoint merges positions."""
    loss: float | None
    """Mean since the last log line; None without a step."""
    non_finite: NonFinite | None
    """The first step whose loss is not finite, with the ids of all workers."""
    is_save_due: bool
    """Whether the first worker wants a checkpoint."""


class Window:
    """One worker's sums since the last log line, and since the last checkpoint."""

    def __init__(self, batch_size: int) -> None:
        """Start empty.

        Args:
            batch_size: samples per step, over all workers.
        """
        self._batch_size = batch_size
        self._losses: list[torch.Tensor] = []
        self._ids: list[tuple[int, Any]] = []
        self._unsaved_losses: list[torch.Tensor] = []
        self._skipped_in_a_row: list[tuple[int, Any]] = []
        self._started_s = time.monotonic()
        self._waiting_s = 0.0
        self.skipped_batches = 0
        """Since the worker started."""
        self.has_steps = False
        """Whether a batch was taken since the last log line."""

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time spent waiting for them counts as waiting."""
        requested_s = time.monotonic()
        for batch in batches:
            self._waiting_s += time.monotonic() - requested_s
            yield batch
            requested_s = time.monotonic()

    def add(self, step: int, loss: torch.Tensor, is_trained: bool, ids: Any) -> None:
        """Add a step.

        Args:
            step: its number, from 1.
            loss: a scalar; may still be on the device.
            is_trained: False if the batch was skipped.
            ids: of the batch's samples.
        """
        self.has_steps = True
        if is_trained:
            self._losses.append(loss)
            self._unsaved_losses.append(loss)
            self._ids.append((step, ids))
            self._skipped_in_a_row = []
        else:
            self.skipped_batches += 1
            self._skipped_in_a_row.append((step, ids))

    def non_finite_step(self) -> NonFinite | None:
        """The first step whose loss is not finite, or the first of too many skipped ones. Waits for the device."""
        if len(self._skipped_in_a_row) >= _MAX_SKIPPED_IN_A_ROW:
            step, ids = self._skipped_in_a_row[0]
        elif self._losses:
            finite = torch.isfinite(torch.stack(self._losses)).tolist()
            if all(finite):
                return None
            step, ids = self._ids[finite.index(False)]
        else:
            return None
        return NonFinite(step, np.asarray(ids).tolist())

    def report(self, consumption: Consumption, is_save_due: bool) -> WorkerReport:
        """This worker's report. Waits for the device."""
        return WorkerReport(
            shown_counts=consumption.shown_counts,
            requested_p=consumption.requested_p,
            skipped=consumption.skipped,
            skipped_batches=self.skipped_batches,
            loss=_mean(self._losses),
            non_finite=self.non_finite_step(),
            is_save_due=is_save_due,
        )

    def close(self) -> dict[str, float]:
        """End the window at a log line and start the next; returns the line's speed and share of waiting."""
        elapsed_s = time.monotonic() - self._started_s
        speed = {
            "images_per_s": len(self._losses) * self._batch_size / elapsed_s,
            "waiting_share": self._waiting_s / elapsed_s,
        }
        self._losses, self._ids, self._started_s, self._waiting_s = [], [], time.monotonic(), 0.0
        self.has_steps = False
        return speed

    def mean_since_save(self) -> float | None:
        """This worker's mean loss since the last call, which a checkpoint makes; None without a step."""
        mean = _mean(self._unsaved_losses)
        self._unsaved_losses = []
        return mean


def _mean(losses: Sequence[torch.Tensor]) -> float | None:
    return float(torch.stack(list(losses)).mean()) if losses else None


def gather(mine: T) -> list[T]:
    """The values of all workers, by rank."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return [mine]
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, mine)
    return parts


def merge_reports(start: TrainingState, reports: Sequence[WorkerReport], step: int) -> RunReport:
    """Add the reports of all workers to the state that the run started from.

    Args:
        start: the state when the workers started.
        reports: by rank.
        step: steps done.
    """
    counts_by_epoch = {epoch: Counter(counts) for epoch, counts in start.shown_counts.items()}
    requested_p = dict(start.requested_p)
    skipped = Tally()
    skipped.merge(start.skipped.counts, start.skipped.names)
    for report in reports:
        for epoch, counts in report.shown_counts.items():
            counts_by_epoch.setdefault(epoch, Counter()).update(counts)
        for epoch, requested in report.requested_p.items():
            requested_p[epoch] = requested_p.get(epoch, 0.0) + requested
        skipped.merge(report.skipped.counts, report.skipped.names)
    losses = [report.loss for report in reports if report.loss is not None]
    state = TrainingState(
        step=step,
        samples=sum(counts.total() for counts in counts_by_epoch.values()),
        position=start.position,
        shown_counts={epoch: dict(counts) for epoch, counts in sorted(counts_by_epoch.items())},
        requested_p=dict(sorted(requested_p.items())),
        skipped=skipped,
        skipped_batches=start.skipped_batches + reports[0].skipped_batches,
    )
    return RunReport(
        state=state,
        loss=sum(losses) / len(losses) if losses else None,
        non_finite=_first_non_finite([report.non_finite for report in reports if report.non_finite is not None]),
        is_save_due=reports[0].is_save_due,
    )


def _first_non_finite(steps: Sequence[NonFinite]) -> NonFinite | None:
    """The earliest step, with the ids of all workers that report it."""
    if not steps:
        return None
    first = min(step for step, _ in steps)
    return NonFinite(first, [sample_id for step, ids in steps if step == first for sample_id in ids])
