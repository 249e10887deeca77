"""Consumption of the stream by one training worker: rows of the schedule, texts shown, and skipped rows."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from laclip_ray.data.schedule import Position
from laclip_ray.tally import Tally


@dataclass
class Consumption:
    """The rows that a worker has consumed since it started."""

    position: Position
    """Rows consumed, by schedule entry."""
    shard_count: int
    """Shards in the schedule. Entry `index` belongs to epoch `index // shard_count`."""
    shown_counts: dict[int, Counter[int]] = field(default_factory=dict)
    """Trained rows by epoch and `ShownText`."""
    requested_p: dict[int, float] = field(default_factory=dict)
    """By epoch, the sum of the trained rows' p."""
    skipped: Tally = field(default_factory=Tally)
    """Skipped rows by reason, with the first sample ids of each reason."""

    def add(self, batch: Mapping[str, Any], is_trained: bool = True) -> None:
        """Record a batch.

        Args:
            batch: columns of `entries.Batch`.
            is_trained: False if training dropped the batch (a non-finite loss). Its rows are consumed, but the texts
                they showed are not counted.
        """
        epochs = np.asarray(batch["schedule_index"]) // self.shard_count
        for epoch in np.unique(epochs).tolist() if is_trained else ():
            rows_of_epoch = epochs == epoch
            shown = np.asarray(batch["shown_text"])[rows_of_epoch].tolist()
            self.shown_counts.setdefault(epoch, Counter()).update(shown)
            requested = float(np.asarray(batch["requested_p"])[rows_of_epoch].sum(dtype=np.float64))
            self.requested_p[epoch] = self.requested_p.get(epoch, 0.0) + requested
        columns = (np.asarray(batch[name]).tolist() for name in ("schedule_index", "row", "row_count", "skipped"))
        for index, row, row_count, skipped_json in zip(*columns, strict=True):
            rows = [row]
            for skipped_row, sample_id, reason in json.loads(skipped_json) if skipped_json else ():
                rows.append(skipped_row)
                self.skipped.add(reason, sample_id)
            self.position.consume(index, rows, row_count if row_count >= 0 else None)
