"""The training stream: from a position in the schedule to rows that are ready for a batch.

    schedule entries -> read shard, choose text, decode and crop, tokenise (tasks) -> rows

One Ray Data stream serves the whole run, so nothing is executed again at an epoch's end, the tasks know the epoch,
and resuming is starting from another position.

Guarantees: a row says which (schedule index, row) it is, so that workers know what they have consumed. A row that
cannot be used is skipped; its number, id and reason travel with a neighbouring row of the same entry, so that
skips are counted exactly once with what is trained on.

Not covered: a schedule entry of which no row at all is usable delivers nothing, so it is read (in vain) at every
resume; its samples are counted when training ends.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from laclip_ray import cluster
from laclip_ray.config import DataConfig, StreamConfig
from laclip_ray.data.images import ImageError, ImageSpec, decode_and_crop, load_resizer
from laclip_ray.data.records import IMAGE_MISSING, NO_CAPTION, Sample, Shard
from laclip_ray.data.reuse import ReusedArrays
from laclip_ray.data.schedule import Lanes, Position, Remaining, Schedule, row_order
from laclip_ray.data.shards import read_samples
from laclip_ray.data.text_choice import Rewrites, TextChoice, TextPolicy
from laclip_ray.data.tokens import TokenizerSpec, load_clip_tokenizer

IMAGE_UNREADABLE = "image_unreadable"
"""A reason to skip a row: its bytes are not a whole image."""

_WINDOW_ROWS = 2_048
_WINDOW_BYTES = 128 * 2**20
"""Rows of a shard, and bytes of their encoded images, that are held and permuted at a time."""

_MAX_TASKS = 4_096
"""Of one run's stream in `fast` order, about."""
_MAX_LANE = 64
"""Entries that a task reads at most: a node that is lost has its tasks done again from their beginning."""

_WAITING_TASKS = 4
_WAITING_CPUS = 0.01
"""A task that waits for text uses nothing, and must not keep rewriting's own tasks from their CPUs."""

Batch = dict[str, np.ndarray]
"""Columns of rows: image uint8 [N, H, W, 3], tokens int64 [N, S, L] of S texts an image, text_count and text_sampled
int16 [N] (see `TextChoice`), shown_text int8 [N], id str [N], schedule_index int64 [N], row int32 [N], row_count int32
[N] (-1 where not known), skipped str [N] (JSON; mostly empty)."""


SkippedRow = tuple[int, str, str]
"""The number of a row in its shard, its id, and the reason why it is not used."""


class RewriteLookup(Protocol):
    """Where accepted rewrites come from."""

    def rewrites(self, shard_name: str) -> Mapping[tuple[str, str], Rewrites] | None:
        """Accepted rewrites of a shard's samples by (id, caption hash); None if the shard is not rewritten."""


class TextSupply(Protocol):
    """Rewriting that goes on beside training, as the stream and the workers see it; travels to them by pickle."""

    @property
    def holds_back(self) -> bool:
        """Whether a shard is read only when its rewrites are there."""

    def wait(self, shard_names: Sequence[str]) -> None:
        """Return when the rewrites of all these shards are committed, or will not be by this run."""

    def note(self, event: str) -> None:
        """Put an event on the run's timeline."""

    def begins(self, index: int) -> None:
        """Reading begins, or begins again, at entry `index` of the schedule."""

    def reading(self, index: int) -> None:
        """Entry `index` of the schedule is about to be read."""

    def state(self, epoch: float) -> Mapping[str, float]:
        """How far rewriting is, for a line of metrics of a run that has trained for `epoch` epochs."""


@dataclass(frozen=True)
class StreamSpec:
    """All that the stream's tasks need, the same for every run from every position."""

    data: DataConfig
    stream: StreamConfig
    shards: tuple[Shard, ...]
    schedule: Schedule
    rewrites: RewriteLookup | None
    """None: every text is the caption (p = 0)."""
    text: TextPolicy
    seed: int
    image: ImageSpec
    tokenizer: TokenizerSpec
    dealt_rows: int
    """Rows that a worker is dealt at a time in `exact` order; a whole number of times in a worker's batch."""


@dataclass(frozen=True)
class ReadEntries:
    """Task: numbers of lanes of the remaining schedule in, rows out."""

    spec: StreamSpec
    remaining: Remaining
    lanes: Lanes
    consumed: dict[int, set[int]]
    """Rows of begun entries that are not to be read again."""
    supply: TextSupply | None = None

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[Batch]:
        for lane in batch["id"].tolist():
            for place in self.lanes[lane]:
                index = self.remaining[place]
                if self.supply is not None:
                    self.supply.reading(index)
                yield from read_entry(self.spec, index, self.consumed.get(index, set()))


@dataclass(frozen=True)
class ByReference:
    """Task: what a task of which this has Ray's reference does.

    Ray writes a function of less than 100 KB into each of its tasks, and keeps them: 60 KB of each in the process that
    starts them, however long they are done (Ray 2.60; 15,000 tasks of 400 shards: 0.9 GiB).
    """

    task: Any

    def __call__(self, batch: Any) -> Any:
        import ray

        return ray.get(self.task)(batch)


@dataclass(frozen=True)
class WaitForText:
    """Task: numbers of lanes in, the same out once the rewrites of their shards are there."""

    spec: StreamSpec
    remaining: Remaining
    lanes: Lanes
    supply: TextSupply

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        schedule, shards = self.spec.schedule, self.spec.shards
        entries = (schedule.entry(self.remaining[place]) for lane in batch["id"].tolist() for place in self.lanes[lane])
        self.supply.wait(sorted({shards[entry.shard].name for entry in entries}))
        return batch


_images = ReusedArrays()
"""Of the blocks that this process makes one after another."""


class _Block:
    """Usable rows of one entry, and what was skipped beside them; the pixels where they will be in the batch."""

    def __init__(self, spec: StreamSpec) -> None:
        size = spec.image.size_px
        self._spec = spec
        self._images = _images.take((spec.stream.rows_per_block, size, size, 3), np.dtype(np.uint8))
        self._samples: list[Sample] = []
        self._choices: list[TextChoice] = []
        self._skipped: dict[int, list[SkippedRow]] = {}
        """By place in the block."""

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another row."""
        return len(self) == len(self._images)

    def add(self, sample: Sample, image: np.ndarray, choice: TextChoice) -> None:
        """Add a row."""
        self._images[len(self)] = image
        self._samples.append(sample)
        self._choices.append(choice)

    def skip(self, skipped: list[SkippedRow]) -> None:
        """Say with the last row what was skipped."""
        self._skipped.setdefault(len(self) - 1, []).extend(skipped)

    def batch(self, index: int, row_count: int) -> Batch:
        """The columns of entry `index`; `row_count` of the shard where this is the last block, -1 else."""
        texts = [text for choice in self._choices for text in choice.texts]
        tokens = load_clip_tokenizer(self._spec.tokenizer)(texts).numpy()
        skipped = [json.dumps(self._skipped[place]) if place in self._skipped else "" for place in range(len(self))]
        return {
            "image": self._images[: len(self)],
            "tokens": tokens.reshape(len(self), self._spec.text.slots, -1),
            "text_count": np.array([choice.distinct for choice in self._choices], np.int16),
            "text_sampled": np.array([choice.sampled for choice in self._choices], np.int16),
            "id": np.array([sample.id for sample in self._samples], object),
            "schedule_index": np.full(len(self), index, np.int64),
            "row": np.array([sample.row for sample in self._samples], np.int32),
            "row_count": np.array([-1] * (len(self) - 1) + [row_count], np.int32),
            "shown_text": np.array([choice.shown for choice in self._choices], np.int8),
            "skipped": np.array(skipped, object),
        }


def read_entry(spec: StreamSpec, index: int, consumed: set[int]) -> Iterator[Batch]:
    """The rows of one schedule entry, without those already consumed, in blocks of `stream.rows_per_block`.

    What is skipped is said with the row before it, or with the first.
    """
    entry = spec.schedule.entry(index)
    shard = spec.shards[entry.shard]
    accepted = spec.rewrites.rewrites(shard.name) if spec.rewrites is not None else None
    block = _Block(spec)
    skipped_before: list[SkippedRow] = []
    row_count = 0
    for number, window in enumerate(_windows(read_samples(shard, spec.data, with_images=True))):
        row_count += len(window)
        for place in row_order(len(window), spec.seed, entry.epoch, f"{shard.name}#{number}"):
            sample = window[place]
            if sample.row in consumed:
                continue
            image = _pixels_or_reason(spec, entry.epoch, sample)
            if isinstance(image, str):
                skipped = (sample.row, sample.id, image)
                if block:
                    block.skip([skipped])
                else:
                    skipped_before.append(skipped)
                continue
            if block.is_full:
                yield block.batch(index, -1)
                block = _Block(spec)
            rewrites = None if accepted is None else accepted.get((sample.id, sample.caption_hash))
            block.add(sample, image, spec.text.choose(sample.caption, rewrites, spec.seed, entry.epoch, sample.id))
            if skipped_before:
                block.skip(skipped_before)
                skipped_before = []
    if block:
        yield block.batch(index, row_count)


def _pixels_or_reason(spec: StreamSpec, epoch: int, sample: Sample) -> np.ndarray | str:
    """The cropped image of a sample, or why it cannot be used."""
    if unusable := NO_CAPTION.intersection(sample.problems):
        return min(unusable)
    if sample.image is None:
        return IMAGE_MISSING
    try:
        return decode_and_crop(sample.image, spec.image, spec.stream.crop_scale, spec.seed, epoch, sample.id)
    except ImageError:
        return IMAGE_UNREADABLE


def _windows(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Samples in lists, each emptied when the next is asked for: else there would be two at a time in memory."""
    window: list[Sample] = []
    size = 0
    for sample in samples:
        window.append(sample)
        size += len(sample.image or b"")
        if len(window) == _WINDOW_ROWS or size >= _WINDOW_BYTES:
            yield window
            window.clear()
            size = 0
    if window:
        yield window


def build_stream(spec: StreamSpec, position: Position, supply: TextSupply | None = None) -> Any:
    """The Ray Data dataset of everything that is left of the schedule; with a supply, as that has the text for it."""
    import ray

    from laclip_ray.data.executor_throttle import limit_overhead

    remaining = position.remaining(spec.schedule)
    is_exact = spec.stream.order == "exact"
    waits_for = supply if supply is not None and supply.holds_back else None
    # Ray Data makes all blocks of its input before the first task: of a schedule of a million entries, few. In exact
    # order a lane delivers only when those before it are done, so that long ones would be read one after another.
    length = 1 if is_exact else max(1, min(_MAX_LANE, -(-len(remaining) // _MAX_TASKS)))
    width = _reading_tasks() if length > 1 else 1
    # What waits for its text goes on by the shard.
    lanes = Lanes(len(remaining), length, width, remaining.count_below(spec.schedule.shard_count) if waits_for else 0)
    dataset = ray.data.range(len(lanes), override_num_blocks=max(1, len(lanes)))
    if waits_for is not None:
        # In the schedule's order, which is that of rewriting, so that a task which is done again gives the same.
        wait: Any = ByReference(ray.put(WaitForText(spec, remaining, lanes, waits_for)))
        few = ray.data.TaskPoolStrategy(size=_WAITING_TASKS)
        dataset = dataset.map_batches(wait, batch_size=1, batch_format="numpy", num_cpus=_WAITING_CPUS, compute=few)
    read: Any = ByReference(ray.put(ReadEntries(spec, remaining, lanes, position.rows, supply)))
    tasks = ray.data.TaskPoolStrategy(size=cluster.tasks_at_once())
    dataset = dataset.map_batches(read, batch_size=1, batch_format="numpy", num_cpus=1, compute=tasks)
    if is_exact:
        # Dealt in turn in pieces of one size, the workers' batches are together a run of rows in the stream's order,
        # and what is left after any step is the rest of that order.
        dataset = dataset.repartition(target_num_rows_per_block=spec.dealt_rows, strict=True)
    else:
        # What a task yields at a time becomes a block of its own, and is not kept until there are 128 MiB of it.
        dataset.context.target_max_block_size = int(0.8 * spec.stream.rows_per_block * _row_bytes(spec))
    dataset.context.execution_options.preserve_order = is_exact
    limit_overhead(dataset.context)
    return dataset


def warm_up(spec: StreamSpec) -> None:
    """Have the first reading processes load torch while the workers start, which takes seconds on the same cores.

    To be called where `build_stream` is: Ray gives tasks only processes of their own environment, which is that of the
    process which starts them. On one machine only; on several, Ray says where a task will be only when it is there.
    """
    import ray

    @ray.remote(num_cpus=0)
    def load(tokenizer: TokenizerSpec) -> None:
        load_resizer()
        load_clip_tokenizer(tokenizer)

    free_cpus = ray.available_resources().get("CPU", 0.0)
    for _ in range(_processes_to_warm(len(cluster.alive_nodes()), _reading_tasks(), free_cpus)):
        load.remote(spec.tokenizer)


def _processes_to_warm(nodes: int, reading_tasks: int, free_cpus: float) -> int:
    return min(_MOST_WARMED, reading_tasks, int(free_cpus)) if nodes == 1 else 0


_MOST_WARMED = 4
"""The first blocks come from these; where reading is the slower half, Ray starts more."""


def _row_bytes(spec: StreamSpec) -> int:
    """About what a row takes in a block, in bytes."""
    return 3 * spec.image.size_px**2 + 8 * spec.text.slots * (spec.tokenizer.context_length or 77) + 64


def read_ahead_bytes(spec: StreamSpec, rows: int) -> int:
    """The object store's memory in which about so many rows wait for the workers, beside what tasks have in hand."""
    return (rows + _BLOCKS_IN_HAND * _reading_tasks() * spec.stream.rows_per_block) * _row_bytes(spec)


_BLOCKS_IN_HAND = 4
"""Of each task; with less room Ray Data lets tasks begin one by one, or not at all beside one that waits for text."""


def _reading_tasks() -> int:
    """Shards that are read at once, as far as can be told now: a cluster may grow."""
    import ray

    return cluster.tasks_at_once() or max(1, int(ray.cluster_resources().get("CPU", 1)))


@dataclass
class Consumption:
    """What a worker has taken from the stream since it started."""

    position: Position
    shard_count: int
    """Shards of the schedule, which tell an entry's epoch."""
    shown_counts: dict[int, Counter[int]] = field(default_factory=dict)
    """Rows by epoch and `ShownText`."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped rows by reason."""
    skipped_names: dict[str, list[str]] = field(default_factory=dict)
    """The ids of the first few, by reason."""

    def add(self, batch: Mapping[str, Any], is_trained: bool = True) -> None:
        """Record that a batch has been trained on, or taken and left out."""
        epochs = np.asarray(batch["schedule_index"]) // self.shard_count
        for epoch in np.unique(epochs).tolist() if is_trained else ():
            shown = np.asarray(batch["shown_text"])[epochs == epoch].tolist()
            self.shown_counts.setdefault(epoch, Counter()).update(shown)
        columns = (np.asarray(batch[name]).tolist() for name in ("schedule_index", "row", "row_count", "skipped"))
        for index, row, row_count, skipped_json in zip(*columns, strict=True):
            rows = [row]
            for skipped_row, sample_id, reason in json.loads(skipped_json) if skipped_json else ():
                rows.append(skipped_row)
                self.skipped[reason] += 1
                names = self.skipped_names.setdefault(reason, [])
                if len(names) < NAMES_KEPT:
                    names.append(sample_id)
            self.position.consume(index, rows, row_count if row_count >= 0 else None)


NAMES_KEPT = 20
