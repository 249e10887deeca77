"""The training stream: from a position in the schedule to rows that are ready for a batch.

    schedule entries -> read shard, choose text, decode and crop, tokenise (tasks) -> rows

One Ray Data stream serves the whole run, so nothing is executed again at an epoch's end, the tasks know the epoch,
and resuming is starting from another position.

Guarantees: a row says which (schedule index, row) it is, so that workers know what they have consumed. A row that
cannot be used is skipped; its number, id and reason travel with a neighbouring row of the same entry, so that
skips are counted exactly once with what is trained on.

Not covered: a schedule entry of which no row at all is usable delivers nothing, so it is read (in vain) at every
resume.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from laclip_ray.config import DataConfig, StreamConfig
from laclip_ray.data.augment import choose_text
from laclip_ray.data.images import ImageError, ImageSpec, decode_and_crop
from laclip_ray.data.schedule import Position, Remaining, Schedule, row_order
from laclip_ray.data.shards import IMAGE_MISSING, NO_CAPTION, Sample, Shard, read_samples
from laclip_ray.data.tokens import TokenizerSpec, load_tokenizer

IMAGE_UNREADABLE = "image_unreadable"
"""A reason to skip a row: its bytes are not a whole image."""

_WINDOW_ROWS = 2_048
"""Rows of a shard that are held (encoded) and permuted at a time."""

Batch = dict[str, np.ndarray]
"""Columns of rows: image uint8 [N, H, W, 3], tokens int64 [N, L], schedule_index int64 [N], row int32 [N],
row_count int32 [N] (-1 where not known), text_source int8 [N], skipped str [N] (JSON; mostly empty)."""


class RewriteLookup(Protocol):
    """Where accepted rewrites come from."""

    def accepted(self, shard_name: str) -> Mapping[tuple[str, str], Sequence[str]] | None:
        """Accepted rewrites of a shard's samples by (id, caption hash); None if the shard is not rewritten."""


@dataclass(frozen=True)
class StreamSpec:
    """All that the stream's tasks need, the same for every run from every position."""

    data: DataConfig
    stream: StreamConfig
    shards: tuple[Shard, ...]
    schedule: Schedule
    rewrites: RewriteLookup | None
    """None: every text is the caption (p = 0)."""
    p: float
    seed: int
    image: ImageSpec
    tokenizer: TokenizerSpec


@dataclass(frozen=True)
class ReadEntries:
    """Task: places in the remaining schedule in, rows out."""

    spec: StreamSpec
    remaining: Remaining
    consumed: dict[int, set[int]]
    """Rows of begun entries that are not to be read again."""

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[Batch]:
        for place in batch["id"].tolist():
            index = self.remaining[place]
            yield from read_entry(self.spec, index, self.consumed.get(index, set()))


@dataclass
class _Row:
    """A usable row, and what was skipped beside it."""

    sample: Sample
    image: np.ndarray
    text: str
    source: int
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    row_count: int = -1


def read_entry(spec: StreamSpec, index: int, consumed: set[int]) -> Iterator[Batch]:
    """The rows of one schedule entry, without those already consumed, in blocks of `stream.rows_per_block`."""
    block: list[_Row] = []
    for row in _rows_with_skips(spec, index, consumed):
        block.append(row)
        if len(block) == spec.stream.rows_per_block:
            yield _to_batch(spec, index, block)
            block = []
    if block:
        yield _to_batch(spec, index, block)


def _rows_with_skips(spec: StreamSpec, index: int, consumed: set[int]) -> Iterator[_Row]:
    """Usable rows; skipped ones are attached to the row before them, or to the first."""
    held: _Row | None = None
    skipped: list[tuple[int, str, str]] = []
    row_count = 0
    for item in _decoded(spec, index, consumed):
        if isinstance(item, int):
            row_count = item
        elif isinstance(item, tuple):
            skipped.append(item)
        else:
            if held is not None:
                held.skipped.extend(skipped)
                skipped = []
                yield held
            held = item
    if held is not None:
        held.skipped.extend(skipped)
        held.row_count = row_count
        yield held


def _decoded(spec: StreamSpec, index: int, consumed: set[int]) -> Iterator[_Row | tuple[int, str, str] | int]:
    """Usable rows, (row, id, reason) of skipped ones, and at the end the number of the shard's rows."""
    entry = spec.schedule.entry(index)
    shard = spec.shards[entry.shard]
    accepted = spec.rewrites.accepted(shard.name) if spec.rewrites is not None else None
    row_count = 0
    for number, window in enumerate(_windows(read_samples(shard, spec.data, with_images=True))):
        row_count += len(window)
        for place in row_order(len(window), spec.seed, entry.epoch, f"{shard.name}#{number}"):
            sample = window[place]
            if sample.row in consumed:
                continue
            if unusable := NO_CAPTION.intersection(sample.problems):
                yield sample.row, sample.id, min(unusable)
                continue
            if sample.image is None:
                yield sample.row, sample.id, IMAGE_MISSING
                continue
            try:
                image = decode_and_crop(
                    sample.image, spec.image, spec.stream.crop_scale, spec.seed, entry.epoch, sample.id
                )
            except ImageError:
                yield sample.row, sample.id, IMAGE_UNREADABLE
                continue
            rewrites = None if accepted is None else accepted.get((sample.id, sample.caption_hash))
            choice = choose_text(sample.caption, rewrites, spec.p, spec.seed, entry.epoch, sample.id)
            yield _Row(sample, image, choice.text, int(choice.source))
    yield row_count


def _windows(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    window: list[Sample] = []
    for sample in samples:
        window.append(sample)
        if len(window) == _WINDOW_ROWS:
            yield window
            window = []
    if window:
        yield window


def _to_batch(spec: StreamSpec, index: int, rows: list[_Row]) -> Batch:
    tokens = load_tokenizer(spec.tokenizer)([row.text for row in rows])
    return {
        "image": np.stack([row.image for row in rows]),
        "tokens": tokens.numpy(),
        "schedule_index": np.full(len(rows), index, np.int64),
        "row": np.array([row.sample.row for row in rows], np.int32),
        "row_count": np.array([row.row_count for row in rows], np.int32),
        "text_source": np.array([row.source for row in rows], np.int8),
        "skipped": np.array([json.dumps(row.skipped) if row.skipped else "" for row in rows], object),
    }


def build_stream(spec: StreamSpec, position: Position) -> Any:
    """The Ray Data dataset of everything that is left of the schedule."""
    import ray

    remaining = position.remaining(spec.schedule)
    entries = len(remaining)
    # A block an entry: each becomes a task, in the schedule's order.
    dataset = ray.data.range(entries, override_num_blocks=max(1, entries))
    read: Any = ReadEntries(spec, remaining, position.rows)
    dataset = dataset.map_batches(read, batch_size=1, batch_format="numpy", num_cpus=1)
    dataset.context.execution_options.preserve_order = spec.stream.order == "exact"
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    return dataset


@dataclass
class Consumption:
    """What a worker has taken from the stream since it started."""

    position: Position
    sources: Counter[int] = field(default_factory=Counter)
    """Rows by `TextSource`."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped rows by reason."""
    skipped_names: dict[str, list[str]] = field(default_factory=dict)
    """The ids of the first few, by reason."""

    def add(self, batch: Mapping[str, Any]) -> None:
        """Record that a batch has been trained on."""
        self.sources.update(np.asarray(batch["text_source"]).tolist())
        columns = (np.asarray(batch[name]).tolist() for name in ("schedule_index", "row", "row_count", "skipped"))
        for index, row, row_count, skipped_json in zip(*columns, strict=True):
            rows = [row]
            for skipped_row, sample_id, reason in json.loads(skipped_json) if skipped_json else ():
                rows.append(skipped_row)
                self.skipped[reason] += 1
                names = self.skipped_names.setdefault(reason, [])
                if len(names) < _NAMES_KEPT:
                    names.append(sample_id)
            self.position.consume(index, rows, row_count if row_count >= 0 else None)


_NAMES_KEPT = 20
