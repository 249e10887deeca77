"""Batches of scores: requests that wait for a busy sentence encoder go to it together.

Guarantees: every request gets its own scores, or the error of its batch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from laclip_ray.rewriting.judging.meaning import MeaningScores, Pair
from laclip_ray.rewriting.scoring.meaning_verdicts import ScoresPairs

Waiting = tuple[Sequence[Pair], "asyncio.Future[list[MeaningScores]]"]
"""A request, and what its caller waits for."""


async def score_batch(batch: Sequence[Waiting], score: Callable[[list[Pair]], Awaitable[list[MeaningScores]]]) -> None:
    """Score the pairs of several requests with one call of `score`, and answer each request."""
    try:
        scores = await score([pair for pairs, _ in batch for pair in pairs])
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


class BatchedEncoders:
    """An encoder in this process, for many requests at a time.

    One thread uses it: its tokenizer serves one thread at a time.
    """

    def __init__(self, encoders: ScoresPairs) -> None:
        """Keep the encoder.

        Args:
            encoders: its `score_now` is called in a thread.
        """
        self._encoders = encoders
        self._waiting: list[Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    async def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair. Many calls may be in flight."""
        future: asyncio.Future[list[MeaningScores]] = asyncio.get_running_loop().create_future()
        self._waiting.append((pairs, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await future

    def score_now(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair; blocks."""
        return self._encoders.score_now(pairs)

    async def _send(self) -> None:
        """Score batches until no request waits."""
        await asyncio.sleep(0)  # requests of the same moment go together
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await score_batch(batch, lambda pairs: asyncio.to_thread(self.score_now, pairs))
        finally:
            self._sender = None
