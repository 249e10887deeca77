"""A pool of sentence encoders: Ray actors that score pairs for the engines' actors and for commits.

    engine actors, commit tasks -> MeaningPool -> MeaningActor (one encoder each)

A request of a shard waits while all encoders are busy, and goes out with the other waiting requests of its process as
one batch. So batches grow with the load.

Guarantees: a lost encoder is replaced by Ray, and its batches are scored again. Scores do not depend on the batches (up
to the encoder's rounding).

Not covered: encoders on nodes that are full; Ray lets requests wait.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.config import MeaningGateConfig
from laclip_ray.rewriting.meaning import MeaningScorer, MeaningScores, Pair

BATCHES_IN_FLIGHT = 2
"""Of one process at one encoder: one is scored while the next one travels."""
_SETTING = "rewrite.gate.meaning"


def load_scorer(config: MeaningGateConfig) -> MeaningScorer:
    """Load the encoder into this process.

    Raises:
        UserError: it cannot be loaded.
    """
    from laclip_ray.models.sentence_encoder import SentenceEncoder

    encoder = SentenceEncoder(config.model, config.revision, config.batch_size, _SETTING)
    return MeaningScorer(encoder.encode)


class MeaningActor:
    """Ray actor that holds an encoder."""

    def __init__(self, config: MeaningGateConfig) -> None:
        """Load the encoder."""
        self._scorer = load_scorer(config)

    def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair."""
        return self._scorer.score(pairs)


@dataclass
class MeaningPool:
    """Scores pairs on the actors. Tasks and actors get a copy, which shares the actors."""

    actors: Sequence[Any]
    """Handles of `MeaningActor`."""
    batch_size: int
    """Pairs in a batch, at most, unless one request has more."""
    _waiting: list[tuple[Sequence[Pair], "asyncio.Future[list[MeaningScores]]"]] = field(
        default_factory=list, init=False, repr=False
    )
    _senders: dict[int, "asyncio.Task[None]"] = field(default_factory=dict, init=False, repr=False)
    """By place in the pool, what sends batches there now."""

    async def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair. Many calls may be in flight."""
        if not pairs:
            return []
        future: asyncio.Future[list[MeaningScores]] = asyncio.get_running_loop().create_future()
        self._waiting.append((pairs, future))
        for place in range(len(self.actors) * BATCHES_IN_FLIGHT):
            if place not in self._senders:
                self._senders[place] = asyncio.create_task(self._send(place))
                break
        return await future

    def score_now(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair; blocks."""
        import ray

        places = itertools.cycle(self.actors)
        batches = [pairs[start : start + self.batch_size] for start in range(0, len(pairs), self.batch_size)]
        futures = [next(places).score.remote(batch) for batch in batches]
        return [scores for batch in ray.get(futures) for scores in batch]

    async def _send(self, place: int) -> None:
        """Send waiting requests to one encoder until there are none."""
        await asyncio.sleep(0)  # requests of the same moment go together
        actor = self.actors[place % len(self.actors)]
        try:
            while self._waiting:
                await self._send_batch(actor, self._take())
        finally:
            del self._senders[place]

    def _take(self) -> list[tuple[Sequence[Pair], "asyncio.Future[list[MeaningScores]]"]]:
        """The oldest waiting requests, up to a batch."""
        count = pairs = 0
        for request, _ in self._waiting:
            pairs += len(request)
            if count and pairs > self.batch_size:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _send_batch(
        self, actor: Any, batch: Sequence[tuple[Sequence[Pair], "asyncio.Future[list[MeaningScores]]"]]
    ) -> None:
        try:
            scores = await actor.score.remote([pair for pairs, _ in batch for pair in pairs])
        except Exception as error:  # noqa: BLE001 - each request gets it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        start = 0
        for pairs, future in batch:
            if not future.done():  # a cancelled request
                future.set_result(scores[start : start + len(pairs)])
            start += len(pairs)


def start_pool(config: MeaningGateConfig, processes: int, cpus: float) -> MeaningPool:
    """Start encoders. The pool's actors end when no process holds a handle of them any more.

    Args:
        config: the gate.
        processes: number of encoders.
        cpus: logical CPUs of each.
    """
    import ray

    actor = ray.remote(MeaningActor).options(
        num_cpus=cpus, num_gpus=config.gpus_per_actor, max_restarts=-1, max_task_retries=-1
    )
    return MeaningPool([actor.remote(config) for _ in range(processes)], config.batch_size)
