"""The schedule of a training run, and the position: which shard is read when, and which rows are consumed.

The schedule is the ordered list of (epoch, shard) of the whole run. It is never stored: entry `index` is a pure
function of (seed, index), so a schedule of millions of entries takes no memory, and resuming means slicing it. The
position is the set of consumed rows in compact form: finished entries, and row numbers of unfinished ones.

Guarantees: every epoch holds every shard once. The schedule does not depend on the number of workers.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from laclip_ray.randomness import permutation


@dataclass(frozen=True)
class Entry:
    """One shard in one epoch."""

    index: int
    """Its position in the schedule, from 0."""
    epoch: int
    """From 0."""
    shard: int
    """Number of the shard in the sorted list of shards."""


@dataclass(frozen=True)
class Schedule:
    """The order of `shard_count` shards in each of `epochs` epochs."""

    shard_count: int
    epochs: int
    seed: int

    def __len__(self) -> int:
        return self.shard_count * self.epochs

    def entry(self, index: int) -> Entry:
        """The entry at `index`, from 0 to `len(self) - 1`."""
        epoch, number = divmod(index, self.shard_count)
        return Entry(index, epoch, _shard_order(self.shard_count, self.seed, epoch)[number])


@lru_cache(maxsize=4)
def _shard_order(shard_count: int, seed: int, epoch: int) -> "array[int]":
    return array("i", permutation(shard_count, "shard_order", seed, epoch))  # 4 bytes a shard, not 40


def row_order(row_count: int, seed: int, epoch: int, shard_name: str) -> list[int]:
    """The order of the rows of a shard, or of one window of it, in an epoch."""
    return permutation(row_count, "row_order", seed, epoch, shard_name)


@dataclass
class Position:
    """The consumed rows of a schedule.

    A row is consumed when a worker has trained on it or has recorded why it skips it. An entry is done when all of its
    rows are consumed. The stream tells the number of an entry's rows with the entry's last row.
    """

    done_below: int = 0
    """Every entry below this index is done."""
    done: set[int] = field(default_factory=set)
    """Done entries above `done_below`."""
    rows: dict[int, set[int]] = field(default_factory=dict)
    """Consumed rows of each entry in progress."""
    row_counts: dict[int, int] = field(default_factory=dict)
    """Number of rows of each entry in progress, if known."""

    def consume(self, index: int, rows: Iterable[int], row_count: int | None = None) -> None:
        """Record consumed rows.

        Args:
            index: the schedule entry.
            rows: the numbers of its consumed rows.
            row_count: how many rows the entry has, if known.
        """
        if self.is_done(index):
            return
        if row_count is not None:
            self.row_counts[index] = row_count
        consumed = self.rows.setdefault(index, set())
        consumed.update(rows)
        if len(consumed) == self.row_counts.get(index):
            self._finish(index)

    def _finish(self, index: int) -> None:
        self.rows.pop(index, None)
        self.row_counts.pop(index, None)
        self.done.add(index)
        while self.done_below in self.done:
            self.done.remove(self.done_below)
            self.done_below += 1

    def merge(self, other: "Position") -> None:
        """Add the rows that another worker of the same run has consumed."""
        for index in [*range(self.done_below, other.done_below), *other.done]:
            if not self.is_done(index):
                self._finish(index)
        for index, rows in other.rows.items():
            self.consume(index, rows, other.row_counts.get(index))

    def is_done(self, index: int) -> bool:
        """Whether all rows of entry `index` are consumed."""
        return index < self.done_below or index in self.done

    def remaining(self, schedule: Schedule) -> "Remaining":
        """The unfinished entries of a schedule."""
        start = max([self.done_below, *(index + 1 for index in (*self.done, *self.rows))])
        unfinished = tuple(index for index in range(self.done_below, start) if index not in self.done)
        return Remaining(unfinished, min(start, len(schedule)), len(schedule))

    def to_json(self) -> dict[str, Any]:
        """A JSON object; sets of numbers are runs [first, last]."""
        return {
            "done_below": self.done_below,
            "done": [list(run) for run in _runs(self.done)],
            "rows": {str(index): [list(run) for run in _runs(rows)] for index, rows in sorted(self.rows.items())},
            "row_counts": {str(index): count for index, count in sorted(self.row_counts.items())},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Position":
        """The inverse of `to_json`."""
        return cls(
            done_below=content["done_below"],
            done=_from_runs(content["done"]),
            rows={int(index): _from_runs(runs) for index, runs in content["rows"].items()},
            row_counts={int(index): count for index, count in content["row_counts"].items()},
        )


@dataclass(frozen=True)
class Remaining:
    """Indexes of the schedule entries still to read, in schedule order: a computed sequence, which takes no memory.

    Workers finish entries out of order. After 0, 1 and 3 of six entries, entries 2, 4 and 5 remain: 2 is a gap, and
    no worker has begun an entry from 4 on.

    >>> list(Remaining(unfinished=(2,), start=4, stop=6))
    [2, 4, 5]
    """

    unfinished: tuple[int, ...]
    """Unfinished entries below `start`."""
    start: int
    """The first entry after all that a worker has begun."""
    stop: int
    """The length of the schedule."""

    def __len__(self) -> int:
        return len(self.unfinished) + self.stop - self.start

    def count_below(self, index: int) -> int:
        """How many of the entries have an index below `index`. They are the first ones of the sequence."""
        gaps = sum(1 for unfinished in self.unfinished if unfinished < index)
        return gaps + max(0, min(index, self.stop) - self.start)

    def __getitem__(self, item: int) -> int:
        if not 0 <= item < len(self):
            raise IndexError(item)  # ends an iteration
        if item < len(self.unfinished):
            return self.unfinished[item]
        return self.start + item - len(self.unfinished)


@dataclass(frozen=True)
class Lanes:
    """Deals a long list of items to few tasks, in a way that parallel tasks together follow the list's order.

    `lanes[task]` is the range of item numbers that a task processes in turn. Tasks come in groups of `width`, which
    run in parallel. A group shares `width * length` consecutive items, and each of its tasks takes every `width`-th.
    Before the groups, the first `singles` items have a task each.

    >>> [list(items) for items in Lanes(count=10, length=3, width=2, singles=1)]
    [[0], [1, 3, 5], [2, 4, 6], [7, 9], [8]]
    """

    count: int
    """Items in the list."""
    length: int
    """Most items of a task."""
    width: int = 1
    """Tasks expected to run in parallel. 1: each task has consecutive items."""
    singles: int = 0
    """At most `count`."""

    def __len__(self) -> int:
        groups, rest = divmod(self.count - self.singles, self.length * self.width)
        return self.singles + groups * self.width + min(self.width, rest)

    def __getitem__(self, task: int) -> range:
        if not 0 <= task < len(self):
            raise IndexError(task)  # ends an iteration
        if task < self.singles:
            return range(task, task + 1)
        group, lane = divmod(task - self.singles, self.width)
        start = self.singles + group * self.length * self.width
        return range(start + lane, min(start + self.length * self.width, self.count), self.width)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive numbers, each as (first, last).

    >>> list(_runs({0, 1, 2, 7}))
    [(0, 2), (7, 7)]
    """
    first = last = None
    for number in sorted(numbers):
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last


def _from_runs(runs: Iterable[Iterable[int]]) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}
