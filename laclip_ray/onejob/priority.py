"""Which shard to rewrite next, when training reads the shards in the order of its schedule.

With `follow`, training does not wait, and needs a shard that it has passed only in the next epoch. A slower rewriter
therefore does best with the next shard that it can finish before training reads it. If an epoch takes E hours and
rewriting R, E / R of the shards are in time in the first epoch already. In the order of the first epoch alone, all
would be late.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from laclip_ray.data.schedule import Schedule
from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.training.checkpoint import read_position


class ShardPriority:
    """The untaken shards, and which one the schedule reads next."""

    def __init__(self, schedule: Schedule, names: Sequence[str], shards: Iterable[str]) -> None:
        """Start at the beginning of the schedule.

        Args:
            schedule: of the whole run.
            names: of all shards, by their number in the schedule.
            shards: names of the shards to take. Shards that the schedule does not read again come last, in this order.
        """
        self._schedule = schedule
        self._names = names
        self._untaken = dict.fromkeys(shards)
        self._next = 0
        """The next entry that training reads."""

    def restart_at(self, index: int) -> None:
        """Reading starts, or restarts, at schedule entry `index`."""
        self._next = index

    def advance_past(self, index: int) -> None:
        """Schedule entry `index` is being read."""
        self._next = max(self._next, index + 1)

    def take(self, ahead: int = 0) -> str:
        """Take the shard that training reads next.

        Args:
            ahead: entries that training reads before the shard is rewritten. Shards read within them are late, and
                taken only if no other shard is left, the last one first.

        Raises:
            LookupError: all shards are taken.
        """
        if not self._untaken:
            raise LookupError("no shard is left")
        end = len(self._schedule)
        first = min(self._next + ahead, end)
        for index in itertools.chain(range(first, end), range(first - 1, self._next - 1, -1)):
            name = self._names[self._schedule.entry(index).shard]
            if name in self._untaken:
                break
        else:
            name = next(iter(self._untaken))
        del self._untaken[name]
        return name

    def give_back(self, shard: str) -> None:
        """Put a taken shard back."""
        self._untaken[shard] = None


class Rate:
    """The recent growth of a number, per second."""

    _KEPT = 64
    """Newest values that count."""

    def __init__(self) -> None:
        """Start without values; the rate is unknown until there are two."""
        self._values: deque[tuple[float, int]] = deque(maxlen=self._KEPT)

    def add(self, number: int, now_s: float) -> None:
        """Add the number's present value."""
        self._values.append((now_s, number))

    def per_s(self, now_s: float) -> float:
        """The growth per second until now; 0 if unknown."""
        if len(self._values) < 2:
            return 0.0
        (first_s, first), (_, last) = self._values[0], self._values[-1]
        return (last - first) / (now_s - first_s) if now_s > first_s else 0.0


def schedule_of(backlog: Backlog) -> Schedule:
    """The schedule of the training run that reads the backlog's rewrites."""
    experiment = backlog.experiment
    return Schedule(len(backlog.shards), experiment.train.epochs, experiment.seed)


def sort_by_priority(backlog: Backlog) -> None:
    """Sort the backlog in the order of the rest of the schedule."""
    schedule = schedule_of(backlog)
    names = list(backlog.shards)
    unfinished = {unit.shard for unit in backlog.units}
    rank: dict[str, int] = {}
    remaining = read_position(backlog.experiment.train_output).remaining(schedule)
    for index in (remaining[item] for item in range(len(remaining))):
        if len(rank) == len(unfinished):
            break
        name = names[schedule.entry(index).shard]
        if name in unfinished:
            rank.setdefault(name, len(rank))
    for units in (backlog.to_draw, backlog.to_judge, backlog.to_compare):
        units.sort(key=lambda unit: rank.get(unit.shard, len(rank)))
