"""Which shard is to be rewritten next, where training does not wait for it.

What training has passed is needed again only in the next epoch, so rewriting that is slower than training does best by
what is read next and can still be done by then. Where an epoch takes E hours and rewriting R, E / R of the shards are
in time already in the first epoch; in the order of the first epoch alone, none would be.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from laclip_ray.data.schedule import Schedule


class ShardPriority:
    """The shards that nobody has taken yet, in the order in which the schedule reads them from wherever it is."""

    def __init__(self, schedule: Schedule, names: Sequence[str], shards: Iterable[str]) -> None:
        """Begin with all of them.

        Args:
            schedule: of the whole run.
            names: of the schedule's shards, by their numbers.
            shards: what is to be taken; those that the schedule does not read again go in this order.
        """
        self._schedule = schedule
        self._names = names
        self._left = dict.fromkeys(shards)
        self._next = 0

    def begin(self, index: int) -> None:
        """Reading begins, or begins again, at entry `index` of the schedule."""
        self._next = index

    def reach(self, index: int) -> None:
        """Entry `index` of the schedule is being read."""
        self._next = max(self._next, index + 1)

    def take(self, ahead: int = 0) -> str:
        """The shard that is read soonest among those that are at least `ahead` entries away; else the one read last.

        Raises:
            LookupError: none is left.
        """
        if not self._left:
            raise LookupError("no shard is left")
        end = len(self._schedule)
        first = min(self._next + ahead, end)
        for index in itertools.chain(range(first, end), range(first - 1, self._next - 1, -1)):
            name = self._names[self._schedule.entry(index).shard]
            if name in self._left:
                break
        else:
            name = next(iter(self._left))
        del self._left[name]
        return name

    def give_back(self, shard: str) -> None:
        """A shard that was taken is to be taken once more."""
        self._left[shard] = None


class Rate:
    """How fast a number has grown of late."""

    _KEPT = 64

    def __init__(self) -> None:
        """Nothing is known before two notes."""
        self._noted: deque[tuple[float, int]] = deque(maxlen=self._KEPT)

    def note(self, number: int, now_s: float) -> None:
        """The number is that large now."""
        self._noted.append((now_s, number))

    def per_s(self, now_s: float) -> float:
        """Its growth a second until now; 0 where that is not known."""
        if len(self._noted) < 2:
            return 0.0
        (first_s, first), (_, last) = self._noted[0], self._noted[-1]
        return (last - first) / (now_s - first_s) if now_s > first_s else 0.0
