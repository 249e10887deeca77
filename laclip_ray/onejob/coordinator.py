"""What the two halves of a job tell one another: which shards have their text, how far reading is, what happened when.

The board is an actor on the driver's node. It lives and dies with the driver: the next start makes another one from
what is committed.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray.data.schedule import Schedule
from laclip_ray.onejob.priority import Rate, ShardPriority

Item = Mapping[str, str]
"""What rewriting begins a shard with."""


class Coordinator:
    """The state of one job's rewriting. Its methods run as an asynchronous Ray actor, or anywhere else."""

    def __init__(
        self, missing: Mapping[str, int], shards: int, begin: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with what is left to do.

        Args:
            missing: by shard, its prompt sets that are not committed.
            shards: of the whole dataset.
            begin: the entry of the schedule that training reads first.
            clock: seconds.
        """
        self._clock = clock
        self._missing = dict(missing)
        self._given_up: set[str] = set()
        self._shards = shards
        self._to_rewrite = len(missing)
        self._accepted = 0
        self._started_s = clock()
        self._has_ended = False
        self._timeline: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._items: dict[str, Item] = {}
        self._taken: dict[int, str] = {}
        self._under_way: set[str] = set()
        self._need: ShardPriority | None = None
        self._rewritten = 0
        """Shards that were taken and are settled."""
        self._settled = Rate()
        self._read_below = begin
        self._read = Rate()

    async def offer(self, items: Mapping[str, Item], schedule: Schedule, names: Sequence[str]) -> None:
        """What can be taken: an item a shard. `names` are those of the schedule's shards, by their numbers.

        Whatever was offered before is forgotten, with its tickets.
        """
        self._items = dict(items)
        self._taken.clear()
        self._under_way.clear()
        self._need = ShardPriority(schedule, names, items)
        self._need.begin(self._read_below)

    async def take(self, ticket: int, most: int) -> Item:
        """The item of the shard that training needs next; the same one each time that a ticket is shown.

        Args:
            ticket: any number.
            most: waits while so many are taken and not settled.

        Raises:
            RuntimeError: rewriting has ended.
        """
        assert self._need is not None, "items are offered first"
        async with self._changed:
            await self._changed.wait_for(
                lambda: ticket in self._taken or len(self._under_way) < most or self._has_ended
            )
            if ticket not in self._taken:
                if self._has_ended:
                    raise RuntimeError("rewriting has ended")
                shard = self._need.take(self._ahead())
                self._taken[ticket] = shard
                self._under_way.add(shard)
        return self._items[self._taken[ticket]]

    def _ahead(self) -> int:
        """Entries that are read until a shard which is taken now is ready: at a steady rate when those before it are,
        and it."""
        now_s = self._clock()
        settled_per_s = self._settled.per_s(now_s)
        wait_s = (len(self._under_way) + 1) / settled_per_s if settled_per_s else 0.0
        return math.ceil(wait_s * self._read.per_s(now_s))

    async def record_start(self, index: int) -> None:
        """Training's stream begins, or begins again, at entry `index` of the schedule."""
        self._read_below = index
        self._read = Rate()
        if self._need is not None:
            self._need.begin(index)

    async def record_read(self, index: int) -> None:
        """Training's stream begins to read entry `index` of the schedule."""
        self._read_below = max(self._read_below, index + 1)
        self._read.note(self._read_below, self._clock())
        if self._need is not None:
            self._need.reach(index)

    async def give_back(self, shard: str, item: Item) -> None:
        """A shard that was taken is not being worked on: it is to be taken once more, with what is left of it."""
        assert self._need is not None, "items are offered first"
        async with self._changed:
            self._items[shard] = item
            self._need.give_back(shard)
            self._under_way.discard(shard)
            self._changed.notify_all()

    async def record_settled(self, shard: str, accepted: int | None) -> None:
        """One prompt set of a shard is committed, or (None) given up."""
        self._accepted += accepted or 0
        if accepted is None:
            self._given_up.add(shard)
        left = self._missing.get(shard, 1) - 1
        if left > 0:
            self._missing[shard] = left
            return
        if self._missing.pop(shard, None) is None:
            return
        if shard in self._under_way:
            self._under_way.remove(shard)
            self._rewritten += 1
            self._settled.note(self._rewritten, self._clock())
        done, step = self._to_rewrite - len(self._missing), max(1, self._to_rewrite // 10)
        if done == 1 or done % step == 0 or not self._missing:
            self._note(f"{self._to_rewrite - self._without_text()} of {self._to_rewrite} shards rewritten")
        async with self._changed:
            self._changed.notify_all()

    async def end_rewriting(self) -> None:
        """Nothing more is rewritten by this run."""
        self._has_ended = True
        self._note("rewriting has ended")
        async with self._changed:
            self._changed.notify_all()

    async def wait_for_rewrites(self, shards: Sequence[str]) -> None:
        """Return when all of these shards have their text, or will not get it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_ended or not any(shard in self._missing for shard in shards))

    async def record_event(self, event: str) -> None:
        """Put an event on the timeline."""
        self._note(event)

    async def progress(self, epoch: float) -> dict[str, float]:
        """See `TextSupply.progress`."""
        elapsed_s = self._clock() - self._started_s
        rewritten = self._shards - self._without_text()
        return {
            "rewritten_shards": rewritten,
            "shards_to_rewrite": self._shards,
            "rewrites_per_s": self._accepted / elapsed_s if not self._has_ended else 0.0,
            "lag_shards": max(0, int(min(1.0, epoch) * self._shards) - rewritten),
        }

    async def timeline(self) -> list[dict[str, Any]]:
        """What happened, with the seconds since the board was made and the shards rewritten by then."""
        return self._timeline

    def _note(self, event: str) -> None:
        seconds = round(self._clock() - self._started_s, 3)
        rewritten = self._shards - self._without_text()
        self._timeline.append({"s": seconds, "event": event, "rewritten_shards": rewritten})

    def _without_text(self) -> int:
        """Shards that lack the text of a prompt set, which may still come or not."""
        return len(self._missing.keys() | self._given_up)


@dataclass(frozen=True)
class CoordinatorSupply:
    """A board's actor as a `TextSupply`."""

    actor: Any
    is_blocking: bool

    def wait_for_rewrites(self, shard_names: Sequence[str]) -> None:
        """See `TextSupply.wait_for_rewrites`."""
        import ray

        ray.get(self.actor.wait_for_rewrites.remote(list(shard_names)))

    def record_event(self, event: str) -> None:
        """See `TextSupply.record_event`."""
        self.actor.record_event.remote(event)

    def record_start(self, index: int) -> None:
        """See `TextSupply.record_start`."""
        self.actor.record_start.remote(index)

    def record_read(self, index: int) -> None:
        """See `TextSupply.record_read`."""
        if not self.is_blocking:
            self.actor.record_read.remote(index)

    def progress(self, epoch: float) -> Mapping[str, float]:
        """See `TextSupply.progress`."""
        import ray

        found: dict[str, float] = ray.get(self.actor.progress.remote(epoch))
        return found


@dataclass(frozen=True)
class CoordinatorQueue:
    """A board's actor as rewriting's `ShardQueue`."""

    actor: Any
    schedule: Schedule
    names: tuple[str, ...]
    most: int
    """Shards that are taken at a time: the sooner a shard is taken, the less is known of what training will need."""

    def offer(self, items: Mapping[str, Item]) -> None:
        """See `ShardQueue.offer`."""
        import ray

        ray.get(self.actor.offer.remote(dict(items), self.schedule, self.names))

    def take(self, ticket: int) -> Item:
        """See `ShardQueue.take`."""
        import ray

        item: Item = ray.get(self.actor.take.remote(ticket, self.most))
        return item

    def give_back(self, shard: str, item: Item) -> None:
        """See `ShardQueue.give_back`."""
        self.actor.give_back.remote(shard, dict(item))


def start_coordinator(missing: Mapping[str, int], shards: int, begin: int) -> Any:
    """A board's actor, on this node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Each task that waits holds a call.
    actor: Any = ray.remote(Coordinator).options(num_cpus=0, max_concurrency=1_000, scheduling_strategy=here)
    return actor.remote(missing, shards, begin)
