"""The batches of one worker: their size, their rows in order, and a thread that makes them ahead of time."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

from laclip_ray.config import StreamConfig, StreamOrder, TrainConfig
from laclip_ray.data.shuffle import shuffled
from laclip_ray.randomness import generator

_SHARE_MULTIPLE = 32
"""In exact order, an uneven share of the global batch is a multiple of this, if it is that large."""


def worker_batch_size(train: TrainConfig, world_size: int, order: StreamOrder) -> int:
    """A worker's share of the global batch, rounded down.

    In exact order, a share of 32 or more that does not divide the global batch is also rounded down to a multiple of
    32. The shares of several world sizes then have a common divisor (see `StreamSpec.dealt_rows`).
    """
    share, rest = divmod(train.batch_size, world_size)
    if order == "exact" and rest and share >= _SHARE_MULTIPLE:
        return share - share % _SHARE_MULTIPLE
    return share


def prefetched_batches(shard: Any, stream: StreamConfig, seed: int, batch_size: int) -> Iterator[dict[str, Any]]:
    """The worker's batches, each of exactly `batch_size` rows. An incomplete last batch is dropped.

    Args:
        shard: the worker's shard of the dataset, from Ray Train.
        stream: the stream's settings.
        seed: the experiment's seed.
        batch_size: rows per batch.
    """
    is_shuffled = stream.order == "fast" and stream.shuffle_buffer_rows > 0
    batches: Iterator[dict[str, Any]] = iter(
        shard.iter_batches(
            batch_size=None if is_shuffled else batch_size,  # None: blocks, as they arrive
            batch_format="numpy",
            prefetch_batches=stream.prefetch_batches,
            drop_last=not is_shuffled,
        )
    )
    if not is_shuffled:
        return batches
    return shuffled(batches, batch_size, stream.shuffle_buffer_rows, generator("local_shuffle", seed))


def made_ahead(batches: Iterator[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """The same batches, made by a thread that starts at once and runs up to `count` batches ahead.

    An error in the thread is raised when the batch that it prevented is requested.
    """
    ready: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue(count)

    def make() -> None:
        try:
            for batch in batches:
                ready.put(batch)
        except Exception as error:  # noqa: BLE001 - raised again in the consumer
            ready.put(error)
        else:
            ready.put(None)

    threading.Thread(target=make, daemon=True, name="batches").start()

    def take() -> Iterator[dict[str, Any]]:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    return take()
