"""The messages between rewriting and training: rewritten shards, training's position, and a timeline of events.

The coordinator is an actor on the driver's node and ends with the driver. The next start builds a new one from the
committed rewrites.
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
"""The row that a shard enters the rewriting pipeline with (`stages.shard_row`)."""

_MAX_WAITING_CALLS = 1_000
"""Calls that may wait in the actor at the same time. Each task that waits for rewrites or for its turn holds one."""


class Coordinator:
    """The state of one job's rewriting. Runs as an asynchronous Ray actor, or in any event loop."""

    def __init__(
        self, missing: Mapping[str, int], shards: int, start: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with the work left.

        Args:
            missing: by shard, the number of its uncommitted prompt sets.
            shards: number of shards in the dataset.
            start: the schedule entry that training reads first.
            clock: returns seconds.
        """
        self._clock = clock
        self._started_s = clock()
        self._shards = shards
        self._shards_to_rewrite = len(missing)
        self._missing = dict(missing)
        """By shard, unsettled prompt sets."""
        self._given_up: set[str] = set()
        self._accepted = 0
        self._has_ended = False
        self._timeline: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._items: dict[str, Item] = {}
        self._shard_of_ticket: dict[int, str] = {}
        self._in_flight: set[str] = set()
        self._priority: ShardPriority | None = None
        self._rewritten_in_flight = 0
        """Taken shards that have been settled."""
        self._rewriting_rate = Rate()
        self._read_below = start
        """Training reads, or has read, every entry below this index."""
        self._reading_rate = Rate()

    async def offer(self, items: Mapping[str, Item], schedule: Schedule, names: Sequence[str]) -> None:
        """Set the shards that can be taken. This replaces earlier offers and their tickets.

        Args:
            items: by shard name.
            schedule: of the whole run.
            names: of all shards, by their number in the schedule.
        """
        self._items = dict(items)
        self._shard_of_ticket.clear()
        self._in_flight.clear()
        self._priority = ShardPriority(schedule, names, items)
        self._priority.restart_at(self._read_below)

    async def take(self, ticket: int, most: int) -> Item:
        """The item of the shard that training needs next. A repeated ticket gets the same item.

        Args:
            ticket: any number.
            most: block while this many shards are in flight: taken and not settled.

        Raises:
            RuntimeError: rewriting has ended.
        """
        assert self._priority is not None, "items are offered first"
        async with self._changed:
            await self._changed.wait_for(
                lambda: ticket in self._shard_of_ticket or len(self._in_flight) < most or self._has_ended
            )
            if ticket not in self._shard_of_ticket:
                if self._has_ended:
                    raise RuntimeError("rewriting has ended")
                shard = self._priority.take(self._entries_until_rewritten())
                self._shard_of_ticket[ticket] = shard
                self._in_flight.add(shard)
        return self._items[self._shard_of_ticket[ticket]]

    async def give_back(self, shard: str, item: Item) -> None:
        """Put a taken shard back, with the item of its remaining work."""
        assert self._priority is not None, "items are offered first"
        async with self._changed:
            self._items[shard] = item
            self._priority.give_back(shard)
            self._in_flight.discard(shard)
            self._changed.notify_all()

    async def record_start(self, index: int) -> None:
        """Training's stream starts, or restarts, at schedule entry `index`."""
        self._read_below = index
        self._reading_rate = Rate()
        if self._priority is not None:
            self._priority.restart_at(index)

    async def record_read(self, index: int) -> None:
        """Training's stream is about to read schedule entry `index`."""
        self._read_below = max(self._read_below, index + 1)
        self._reading_rate.add(self._read_below, self._clock())
        if self._priority is not None:
            self._priority.advance_past(index)

    async def record_settled(self, shard: str, accepted: int | None) -> None:
        """One prompt set of a shard needs no more work in this run.

        Args:
            shard: its name.
            accepted: accepted rewrites, if the prompt set is committed; None if it is given up.
        """
        self._accepted += accepted or 0
        if accepted is None:
            self._given_up.add(shard)
        remaining = self._missing.get(shard, 1) - 1
        if remaining > 0:
            self._missing[shard] = remaining
            return
        if self._missing.pop(shard, None) is None:
            return
        if shard in self._in_flight:
            self._in_flight.remove(shard)
            self._rewritten_in_flight += 1
            self._rewriting_rate.add(self._rewritten_in_flight, self._clock())
        settled = self._shards_to_rewrite - len(self._missing)
        step = max(1, self._shards_to_rewrite // 10)
        if settled == 1 or settled % step == 0 or not self._missing:
            rewritten = self._shards_to_rewrite - self._shards_without_rewrites()
            self._add_event(f"{rewritten} of {self._shards_to_rewrite} shards rewritten")
        async with self._changed:
            self._changed.notify_all()

    async def end_rewriting(self) -> None:
        """This run rewrites no more shards."""
        self._has_ended = True
        self._add_event("rewriting has ended")
        async with self._changed:
            self._changed.notify_all()

    async def wait_for_rewrites(self, shards: Sequence[str]) -> None:
        """Block until each shard is settled for all prompt sets, or rewriting has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_ended or not any(shard in self._missing for shard in shards))

    async def record_event(self, event: str) -> None:
        """Put an event on the timeline."""
        self._add_event(event)

    async def progress(self, epoch: float) -> dict[str, float]:
        """See `TextSupply.progress`."""
        elapsed_s = self._clock() - self._started_s
        rewritten = self._shards - self._shards_without_rewrites()
        return {
            "rewritten_shards": rewritten,
            "shards_to_rewrite": self._shards,
            "rewrites_per_s": self._accepted / elapsed_s if not self._has_ended else 0.0,
            "lag_shards": max(0, int(min(1.0, epoch) * self._shards) - rewritten),
        }

    async def timeline(self) -> list[dict[str, Any]]:
        """All events, each with the seconds since the start and the shards rewritten by then."""
        return self._timeline

    def _entries_until_rewritten(self) -> int:
        """Entries that training reads until a shard taken now is rewritten, if both halves keep their recent rates."""
        now_s = self._clock()
        shards_per_s = self._rewriting_rate.per_s(now_s)
        wait_s = (len(self._in_flight) + 1) / shards_per_s if shards_per_s else 0.0
        return math.ceil(wait_s * self._reading_rate.per_s(now_s))

    def _add_event(self, event: str) -> None:
        seconds = round(self._clock() - self._started_s, 3)
        rewritten = self._shards - self._shards_without_rewrites()
        self._timeline.append({"s": seconds, "event": event, "rewritten_shards": rewritten})

    def _shards_without_rewrites(self) -> int:
        """Shards that lack the rewrites of a prompt set, whether or not these may still come."""
        return len(self._missing.keys() | self._given_up)


@dataclass(frozen=True)
class CoordinatorSupply:
    """A coordinator's actor as training's `TextSupply`."""

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
        # A blocking stream reads in the order of rewriting, which therefore need not follow it.
        if not self.is_blocking:
            self.actor.record_read.remote(index)

    def progress(self, epoch: float) -> Mapping[str, float]:
        """See `TextSupply.progress`."""
        import ray

        progress: dict[str, float] = ray.get(self.actor.progress.remote(epoch))
        return progress


@dataclass(frozen=True)
class CoordinatorQueue:
    """A coordinator's actor as rewriting's `ShardQueue`."""

    actor: Any
    schedule: Schedule
    names: tuple[str, ...]
    most: int
    """Shards in flight at the same time. The earlier a shard is taken, the less is known about training's
    needs."""

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


def start_coordinator(missing: Mapping[str, int], shards: int, start: int) -> Any:
    """Start a coordinator's actor on this node. Takes the arguments of `Coordinator`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Coordinator).options(
        num_cpus=0, max_concurrency=_MAX_WAITING_CALLS, scheduling_strategy=here
    )
    return actor.remote(missing, shards, start)
