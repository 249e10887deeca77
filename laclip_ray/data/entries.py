"""The reading task of the training stream: turns schedule entries into rows for a batch.

    entry -> read its shard, choose texts, decode and crop, tokenise -> rows

Guarantees: each row carries its (schedule index, row number), so a worker knows exactly which rows it has consumed. An
unusable row is skipped. Its number, id and reason travel with a neighbouring row of the same entry, so skipped rows
are counted exactly once, by the worker that trains on the neighbour.

Not covered: an entry without any usable row delivers no row. Every resume reads it again in vain, and its samples
are counted when training ends.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from laclip_ray.config import DataConfig, StreamConfig
from laclip_ray.data.held_out import HELD_OUT, is_held_out
from laclip_ray.data.image_formats import ImageError, ImageLimits, image_problem
from laclip_ray.data.images import ImageSpec, decode_and_crop
from laclip_ray.data.records import NO_CAPTION, Sample, Shard
from laclip_ray.data.schedule import Lanes, Remaining, Schedule, row_order
from laclip_ray.data.shards import read_or_report
from laclip_ray.data.text_choice import RewriteLookup, TextChoice, TextPolicy
from laclip_ray.data.tokens import TokenizerSpec, load_clip_tokenizer

MAX_WINDOW_ROWS = 2_048
MAX_WINDOW_BYTES = 128 * 2**20
"""A task holds and permutes one window of a shard at a time: at most this many rows, and about this many bytes of
encoded images."""

Batch = dict[str, np.ndarray]
"""Rows of the stream, as columns. N rows, S texts per image, L tokens per text, P pixels per side.

| column | dtype | shape | meaning |
| --- | --- | --- | --- |
| `image` | uint8 | [N, P, P, 3] | the cropped, resized image, RGB, not normalised |
| `tokens` | int64 | [N, S, L] | tokens of the image's texts |
| `text_count` | int16 | [N] | how many of the S texts are distinct (`TextChoice.distinct`) |
| `text_sampled` | int16 | [N] | which of the S texts was drawn (`TextChoice.sampled`) |
| `shown_text` | int8 | [N] | why that text was drawn (`ShownText`) |
| `requested_p` | float32 | [N] | the probability of a rewrite that was asked for (`TextChoice.p`) |
| `id` | str | [N] | the sample's id |
| `schedule_index` | int64 | [N] | the schedule entry that the row belongs to |
| `row` | int32 | [N] | the row's number in its shard |
| `row_count` | int32 | [N] | rows of the whole shard, on the entry's last row; -1 on all others |
| `skipped` | str | [N] | skipped rows reported with this row: JSON list of `SkippedRow`; mostly empty |
"""

SkippedRow = tuple[int, str, str]
"""A skipped row: its number in the shard, its sample id, and the reason."""


class TextSupply(Protocol):
    """Rewriting that runs beside training, as the stream and the workers see it. Travels to them by pickle."""

    @property
    def is_blocking(self) -> bool:
        """Whether a task reads a shard only after the shard's rewrites are committed."""

    def wait_for_rewrites(self, shard_names: Sequence[str]) -> None:
        """Block until each shard's rewrites are committed, or this run has given up on them."""

    def record_event(self, event: str) -> None:
        """Put an event on the run's timeline."""

    def record_start(self, index: int) -> None:
        """Report that the stream starts or restarts at schedule entry `index`."""

    def record_read(self, index: int) -> None:
        """Report that a task is about to read schedule entry `index`."""

    def progress(self, epoch: float) -> Mapping[str, float]:
        """The progress of rewriting, as metrics of a run that has trained for `epoch` epochs."""


@dataclass(frozen=True)
class StreamSpec:
    """Everything that the stream's tasks need. A run keeps one spec, wherever it resumes."""

    data: DataConfig
    stream: StreamConfig
    shards: Sequence[Shard]
    schedule: Schedule
    rewrites: RewriteLookup | None
    """None: every image is shown with its caption (p = 0)."""
    text: TextPolicy
    seed: int
    image: ImageSpec
    tokenizer: TokenizerSpec
    dealt_rows: int
    """`exact` order: rows that a worker receives at a time. Divides a worker's batch size."""


@dataclass(frozen=True)
class ReadEntries:
    """Ray Data task: reads the entries of lanes; takes lane numbers (column `id`) and yields rows."""

    spec: StreamSpec
    remaining: Remaining
    lanes: Lanes
    consumed: dict[int, set[int]]
    """Rows to leave out, by schedule entry: consumed before the run resumed."""
    supply: TextSupply | None = None

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[Batch]:
        for lane in batch["id"].tolist():
            for item in self.lanes[lane]:
                index = self.remaining[item]
                if self.supply is not None:
                    self.supply.record_read(index)
                yield from read_entry(self.spec, index, self.consumed.get(index, set()))


@dataclass(frozen=True)
class WaitForText:
    """Ray Data task: takes lane numbers (column `id`) and returns them once the rewrites of their shards are there."""

    spec: StreamSpec
    remaining: Remaining
    lanes: Lanes
    supply: TextSupply

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        schedule, shards = self.spec.schedule, self.spec.shards
        entries = (schedule.entry(self.remaining[item]) for lane in batch["id"].tolist() for item in self.lanes[lane])
        self.supply.wait_for_rewrites(sorted({shards[entry.shard].name for entry in entries}))
        return batch


def read_entry(spec: StreamSpec, index: int, consumed: set[int]) -> Iterator[Batch]:
    """Read one schedule entry, in blocks of `stream.rows_per_block`.

    A skipped row is reported with the row before it, or with the entry's first row.

    Args:
        spec: the stream's spec.
        index: the schedule entry.
        consumed: numbers of the rows to leave out.
    """
    entry = spec.schedule.entry(index)
    shard = spec.shards[entry.shard]
    accepted = spec.rewrites.rewrites(shard.name) if spec.rewrites is not None else None
    block = _BlockBuilder(spec, index)
    row_count = 0
    for number, window in enumerate(_windows(read_or_report(shard, spec.data, with_images=True))):
        row_count += len(window)
        for offset in row_order(len(window), spec.seed, entry.epoch, f"{shard.name}#{number}"):
            sample = window[offset]
            if sample.row in consumed:
                continue
            image = _crop_or_skip_reason(spec, entry.epoch, sample)
            if isinstance(image, str):
                block.skip((sample.row, sample.id, image))
                continue
            if block.is_full:
                yield block.build()
                block = _BlockBuilder(spec, index)
            rewrites = None if accepted is None else accepted.of(sample.id, sample.caption_hash, sample.row)
            choice = spec.text.choose(sample.caption, rewrites, spec.seed, entry.epoch, sample.id)
            block.add(sample, image, choice)
    if block:
        yield block.build(row_count)


class _BlockBuilder:
    """Collects usable rows of one schedule entry, and the rows skipped among them."""

    def __init__(self, spec: StreamSpec, index: int) -> None:
        size_px = spec.image.size_px
        self._spec = spec
        self._index = index
        # Each image is copied once, to its final place in the block.
        self._images = np.empty((spec.stream.rows_per_block, size_px, size_px, 3), np.uint8)
        self._samples: list[Sample] = []
        self._choices: list[TextChoice] = []
        self._skipped: dict[int, list[SkippedRow]] = {}
        """By the block's row that reports them."""

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def is_full(self) -> bool:
        """Whether the block has no room for another row."""
        return len(self) == len(self._images)

    def add(self, sample: Sample, image: np.ndarray, choice: TextChoice) -> None:
        """Add a usable row; `image` is uint8 [P, P, 3]."""
        self._images[len(self)] = image
        self._samples.append(sample)
        self._choices.append(choice)

    def skip(self, skipped: SkippedRow) -> None:
        """Report a skipped row with the block's last row; in an empty block, with the first row to come."""
        self._skipped.setdefault(max(len(self) - 1, 0), []).append(skipped)

    def build(self, row_count: int = -1) -> Batch:
        """The block's columns; the shard's `row_count` if this is the entry's last block."""
        texts = [text for choice in self._choices for text in choice.texts]
        tokens = load_clip_tokenizer(self._spec.tokenizer)(texts).numpy()
        skipped = [json.dumps(self._skipped[row]) if row in self._skipped else "" for row in range(len(self))]
        return {
            "image": self._images[: len(self)],
            "tokens": tokens.reshape(len(self), self._spec.text.slots, -1),
            "text_count": np.array([choice.distinct for choice in self._choices], np.int16),
            "text_sampled": np.array([choice.sampled for choice in self._choices], np.int16),
            "id": np.array([sample.id for sample in self._samples], object),
            "schedule_index": np.full(len(self), self._index, np.int64),
            "row": np.array([sample.row for sample in self._samples], np.int32),
            "row_count": np.array([-1] * (len(self) - 1) + [row_count], np.int32),
            "shown_text": np.array([choice.shown for choice in self._choices], np.int8),
            "requested_p": np.array([choice.p for choice in self._choices], np.float32),
            "skipped": np.array(skipped, object),
        }


def _crop_or_skip_reason(spec: StreamSpec, epoch: int, sample: Sample) -> np.ndarray | str:
    """The cropped image of a sample, uint8 [P, P, 3], or the reason to skip the sample."""
    if is_held_out(sample, spec.data):
        return HELD_OUT
    if unusable := NO_CAPTION.intersection(sample.problems):
        return min(unusable)
    if sample.image is None:
        return image_problem(sample)
    limits, exif, scale = ImageLimits.of(spec.data), spec.data.exif, spec.stream.crop_scale
    try:
        return decode_and_crop(sample.image, spec.image, scale, spec.seed, epoch, sample.id, limits, exif)
    except ImageError as error:
        return error.reason


def _windows(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Samples in windows. A window is cleared when the next one is requested, so only one is in memory."""
    window: list[Sample] = []
    size_bytes = 0
    for sample in samples:
        window.append(sample)
        size_bytes += len(sample.image or b"")
        if len(window) == MAX_WINDOW_ROWS or size_bytes >= MAX_WINDOW_BYTES:
            yield window
            window.clear()
            size_bytes = 0
    if window:
        yield window
