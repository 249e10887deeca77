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
from functools import cached_property
from typing import Any

from laclip_ray import cluster
from laclip_ray.config import MeaningGateConfig, RewriteConfig
from laclip_ray.models.hub import ENCODER_SETTING
from laclip_ray.rewriting.judging.meaning import MeaningScorer, MeaningScores, Pair
from laclip_ray.rewriting.recipe import meaning_scorers
from laclip_ray.rewriting.scoring.meaning_batches import Waiting, score_batch
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate

BATCHES_IN_FLIGHT = 2
"""Of one process at one encoder: one is scored while the next one travels."""
_CPUS = 1.0
"""Logical CPUs of an encoder."""


def load_scorer(config: MeaningGateConfig) -> MeaningScorer:
    """Load the encoder into this process.

    Raises:
        UserError: it cannot be loaded.
    """
    from laclip_ray.models.sentence_encoder import SentenceEncoder

    # Without a GPU of its own, it must not take the memory of one that an engine uses.
    device = None if config.gpus_per_actor else "cpu"
    encoder = SentenceEncoder(config.model, config.revision, config.batch_size, ENCODER_SETTING, device)
    return MeaningScorer(encoder.encode)


class LocalEncoders:
    """An encoder in this process, loaded for its first pair."""

    def __init__(self, config: MeaningGateConfig) -> None:
        """Load no model yet."""
        self._config = config

    @cached_property
    def _scorer(self) -> MeaningScorer:
        return load_scorer(self._config)

    async def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair, computed in a thread."""
        return await asyncio.to_thread(self.score_now, pairs)

    def score_now(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair."""
        return self._scorer.score(pairs)


def local_meaning_gate(config: MeaningGateConfig | None) -> MeaningGate | None:
    """The meaning gate with its encoder in this process; None if it is off."""
    return MeaningGate(config, meaning_scorers(config), LocalEncoders(config)) if config else None


class MeaningActor:
    """Ray actor that holds an encoder."""

    def __init__(self, config: MeaningGateConfig) -> None:
        """Load no model yet: judging again with other thresholds needs none."""
        self._encoders = LocalEncoders(config)

    def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair."""
        return self._encoders.score_now(pairs)


@dataclass
class MeaningPool:
    """Scores pairs on the actors. Tasks and actors get a copy, which shares the actors."""

    actors: Sequence[Any]
    """Handles of `MeaningActor`."""
    batch_size: int
    """Pairs in a batch, at most, unless one request has more."""
    _waiting: list[Waiting] = field(default_factory=list, init=False, repr=False)
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
        """Send all waiting requests to one encoder."""
        await asyncio.sleep(0)  # requests of the same moment go together
        actor = self.actors[place % len(self.actors)]
        try:
            while self._waiting:
                await score_batch(self._take(), actor.score.remote)
        finally:
            del self._senders[place]

    def _take(self) -> list[Waiting]:
        """The oldest waiting requests, up to a batch."""
        count = pairs = 0
        for request, _ in self._waiting:
            pairs += len(request)
            if count and pairs > self.batch_size:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch


def encoder_group(rewrite: RewriteConfig) -> cluster.ResourceGroup:
    """The encoders that rewriting holds."""
    meaning = rewrite.gate.meaning
    if meaning is None:
        return cluster.ResourceGroup("sentence encoders", 0, _CPUS)
    return cluster.ResourceGroup(
        "sentence encoders", meaning.actors or rewrite.engine.actors.min, _CPUS, meaning.gpus_per_actor
    )


def start_meaning_gate(rewrite: RewriteConfig) -> MeaningGate | None:
    """Start the encoders of the meaning gate; None if it is off.

    An encoder loads its model for its first pair. The actors end when no process holds their handles any more.
    """
    meaning = rewrite.gate.meaning
    if meaning is None:
        return None
    import ray

    group = encoder_group(rewrite)
    actor = ray.remote(MeaningActor).options(
        num_cpus=group.cpus, num_gpus=group.gpus, max_restarts=-1, max_task_retries=-1
    )
    pool = MeaningPool([actor.remote(meaning) for _ in range(group.processes)], meaning.batch_size)
    return MeaningGate(meaning, meaning_scorers(meaning), pool)
