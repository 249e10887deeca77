"""Finish a training run: export the model and write the summary."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.data.text_choice import text_shares
from laclip_ray.errors import IncompleteError
from laclip_ray.models.files import CONFIG_FILE, STATE_FILE
from laclip_ray.training.checkpoint import TrainingState, export_checkpoint, newest_checkpoint, read_state
from laclip_ray.training.loop import LoopInput
from laclip_ray.training.paths import RunPaths

logger = logging.getLogger(__name__)

NOTHING_USABLE = "nothing_usable_in_shard"
"""Reason to skip a sample: in that epoch its shard had no usable row, so no row could report the skipped ones."""


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended."""

    summary: dict[str, Any]
    """The content of `summary.json`."""
    export: str
    """A directory that open_clip loads (`local-dir:`): the export, or the newest checkpoint of a run that pauses."""
    was_finished: bool = False
    """Whether an earlier call had finished the run, so this one did nothing."""


def finished_result(paths: RunPaths) -> TrainingResult | None:
    """The result of a finished run; None if the run is unfinished.

    Raises:
        UserError: the summary is damaged.
    """
    if storage.exists(paths.summary) and storage.exists(storage.join(paths.export, CONFIG_FILE)):
        remedy = "Remove it, and the same command writes it again."
        summary = storage.read_state(paths.summary, "the summary of this training run", remedy, dict)
        return TrainingResult(summary, paths.export, was_finished=True)
    return None


def finish(inputs: LoopInput, schedule: Schedule, rows: Mapping[str, int]) -> TrainingResult:
    """Export the model of the newest checkpoint, then write the summary. A run that pauses gets neither.

    Args:
        inputs: of the workers, with the final lineage.
        schedule: of the run.
        rows: usable rows by shard.

    Raises:
        IncompleteError: no step was made.
    """
    paths = inputs.paths
    newest = newest_checkpoint(paths.output)
    assert newest is not None, "a training run that ended well has a checkpoint"
    state = TrainingState.from_json(read_state(newest))
    if not state.step:
        raise IncompleteError(
            "no step was made: fewer usable images than one batch. Look at the images in "
            f"{inputs.experiment.data.path}, or lower train.batch_size"
        )
    _update_lineage(newest, inputs.lineage)
    if inputs.last_step is not None:
        return TrainingResult(_summarise(inputs, state, newest, export=newest), newest)
    _count_unread(state, schedule, rows, inputs.experiment.train.batch_size)
    summary = _summarise(inputs, state, newest, export=paths.export)
    export_checkpoint(newest, paths.export)
    storage.write_json(paths.summary, summary)
    return TrainingResult(summary, paths.export)


def _summarise(inputs: LoopInput, state: TrainingState, checkpoint: str, export: str) -> dict[str, Any]:
    """The content of `summary.json`."""
    epochs, counts = inputs.experiment.train.epochs, state.shown_counts
    return {
        "steps": state.step,
        "samples": state.samples,
        "epochs": epochs,
        "samples_per_epoch": inputs.samples_per_epoch,
        **text_shares(counts, inputs.text, state.requested_p),
        "by_epoch": {epoch: text_shares({epoch: counts[epoch]}, inputs.text, state.requested_p) for epoch in counts},
        "skipped": dict(state.skipped.counts),
        "skipped_batches": state.skipped_batches,
        "skipped_names": state.skipped.names,
        "not_trained_on": inputs.samples_per_epoch * epochs - state.samples,
        "checkpoint": checkpoint,
        "export": export,
        "lineage": inputs.lineage,
    }


def _update_lineage(checkpoint: str, lineage: Mapping[str, Any]) -> None:
    """Correct the rewrite sets in a checkpoint's lineage: rewriting beside training has committed more since."""
    content = read_state(checkpoint)
    if content["lineage"]["rewrite_sets"] != lineage["rewrite_sets"]:
        content["lineage"]["rewrite_sets"] = lineage["rewrite_sets"]
        storage.write_json(storage.join(checkpoint, STATE_FILE), content)


def _count_unread(state: TrainingState, schedule: Schedule, rows: Mapping[str, int], batch_size: int) -> None:
    """Count the samples of shards that had no usable row as skipped, and warn."""
    unread = unread_samples(state.position, schedule, rows, batch_size)
    if not unread:
        return
    state.skipped.merge({NOTHING_USABLE: unread.total()}, {NOTHING_USABLE: sorted(unread)})
    logger.warning(
        "%d samples of %d shards were not trained on, because nothing in their shards was usable then: %s",
        unread.total(), len(unread), ", ".join(state.skipped.names[NOTHING_USABLE]),
    )  # fmt: skip


def unread_samples(position: Position, schedule: Schedule, rows: Mapping[str, int], batch_size: int) -> Counter[str]:
    """The samples of schedule entries that delivered no row by the end of the run, by shard.

    Empty if they are fewer than a batch: they may belong to the last batch, which was incomplete and dropped.
    """
    names, unread = list(rows), Counter[str]()
    remaining = position.remaining(schedule)
    for index in (remaining[item] for item in range(len(remaining))):
        name = names[schedule.entry(index).shard]
        if index not in position.rows and rows[name]:
            unread[name] += rows[name]
    return unread if unread.total() >= batch_size else Counter()
