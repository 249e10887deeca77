"""The schedule of a training run: which shard is read when, and what of it has been consumed.

The schedule is the ordered list of (epoch, shard) of the whole run. It is never stored: entry `index` is a pure
function of (seed, index), so a run of millions of entries costs nothing to hold and resuming is slicing it. The
position is the set of rows consumed, kept compact: entries that are done, and runs of rows of those that are not.

Guarantees: every epoch holds every shard once; nothing depends on the number of workers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from laclip_ray.randomness import permutation


@dataclass(frozen=True)
class Entry:
    """One shard in one epoch."""

    index: int
    """Its place in the schedule."""
    epoch: int
    """From 0."""
    shard: int
    """The shard's number in the sorted list of shards."""


@dataclass(frozen=True)
class Schedule:
    """The order in which `shard_count` shards are read over `epochs` epochs."""

    shard_count: int
    epochs: int
    seed: int

    def __len__(self) -> int:
        return self.shard_count * self.epochs

    def entry(self, index: int) -> Entry:
        """The entry at `index`, from 0 to `len(self) - 1`."""
        epoch, place = divmod(index, self.shard_count)
        return Entry(index, epoch, _shard_order(self.shard_count, self.seed, epoch)[place])


@lru_cache(maxsize=4)
def _shard_order(shard_count: int, seed: int, epoch: int) -> list[int]:
    return permutation(shard_count, "shard_order", seed, epoch)


def row_order(row_count: int, seed: int, epoch: int, shard_name: str) -> list[int]:
    """The order in which the rows of a shard (or of one window of it) are read in an epoch."""
    return permutation(row_count, "row_order", seed, epoch, shard_name)


@dataclass
class Position:
    """What of a schedule has been consumed, exact to the row.

    An entry is done when all of its rows are consumed: rows that were trained on and rows that were skipped for a
    recorded reason. The number of an entry's rows is known once its last row has been seen.
    """

    done_below: int = 0
    """Every entry below this index is done."""
    done: set[int] = field(default_factory=set)
    """Further entries that are done, all at or above `done_below`."""
    rows: dict[int, set[int]] = field(default_factory=dict)
    """Entries that have been begun: the rows consumed."""
    row_counts: dict[int, int] = field(default_factory=dict)
    """Entries that have been begun: how many rows they have, where known."""

    def consume(self, index: int, rows: Iterable[int], row_count: int | None = None) -> None:
        """Record that `rows` of entry `index` are consumed; `row_count` once the number of its rows is known."""
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
        """Add what `other` (another worker of the same run) has consumed."""
        for index in [*range(self.done_below, other.done_below), *other.done]:
            if not self.is_done(index):
                self._finish(index)
        for index, rows in other.rows.items():
            self.consume(index, rows, other.row_counts.get(index))

    def is_done(self, index: int) -> bool:
        """Whether nothing of entry `index` is left."""
        return index < self.done_below or index in self.done

    def remaining(self, schedule: Schedule) -> "Remaining":
        """The entries that are not done, as a sequence that is computed, not stored."""
        start = max([self.done_below, *(index + 1 for index in (*self.done, *self.rows))])
        begun = tuple(index for index in range(self.done_below, start) if index not in self.done)
        return Remaining(begun, min(start, len(schedule)), len(schedule))

    def to_json(self) -> dict[str, Any]:
        """A JSON object; rows as runs [first, last]."""
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
    """The indexes of the entries still to read, in the schedule's order."""

    begun: tuple[int, ...]
    """Those among or before entries that have been begun."""
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.begun) + self.stop - self.start

    def count_below(self, index: int) -> int:
        """How many of the entries have a smaller index; they come first."""
        return sum(1 for each in self.begun if each < index) + max(0, min(index, self.stop) - self.start)

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < len(self):
            raise IndexError(place)  # ends an iteration
        return self.begun[place] if place < len(self.begun) else self.start + place - len(self.begun)


@dataclass(frozen=True)
class Lanes:
    """Places in a long list, dealt to few tasks, so that tasks that run side by side stay near the list's order.

    The first `singles` tasks have a place each. After them tasks come in groups of `width`; of the `width * length`
    places of its group a task has every `width`-th one.
    """

    places: int
    """The list's length."""
    length: int
    """The most places a task has."""
    width: int = 1
    """Tasks that are expected to run at once; 1: a task's places stand together, and all are in the list's order."""
    singles: int = 0
    """At most `places`."""

    def __len__(self) -> int:
        groups, rest = divmod(self.places - self.singles, self.length * self.width)
        return self.singles + groups * self.width + min(self.width, rest)

    def __getitem__(self, task: int) -> range:
        if task < self.singles:
            return range(task, task + 1)
        group, lane = divmod(task - self.singles, self.width)
        start = self.singles + group * self.length * self.width
        return range(start + lane, min(start + self.length * self.width, self.places), self.width)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
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
