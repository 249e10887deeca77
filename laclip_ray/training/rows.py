"""Count the usable rows of each shard, which gives a run its number of steps."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from laclip_ray.config import DataConfig
from laclip_ray.data.records import IMAGE_MISSING, NO_CAPTION, Shard
from laclip_ray.data.shards import read_samples

_SHARDS_AT_ONCE = 8
"""Shards that one task reads at the same time. Counting mostly waits for storage."""
_MAX_SHARDS_PER_TASK = 64
"""If a task is lost, Ray repeats all of its shards."""


def count_rows(data: DataConfig, shards: Sequence[Shard]) -> dict[str, int]:
    """Count the rows with a caption and an image member, by shard, in tasks of the connected Ray."""
    import ray

    # SPREAD keeps the tasks out of a Tune trial's placement group.
    @ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")
    def count(chunk: Sequence[Shard]) -> list[int]:
        with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
            return list(pool.map(lambda shard: _count_shard(data, shard), chunk))

    # One task per CPU, not per shard: a new worker process takes seconds to start.
    cpus = max(1.0, ray.cluster_resources().get("CPU", 1.0))
    size = min(_MAX_SHARDS_PER_TASK, math.ceil(len(shards) / cpus))
    chunks = [shards[start : start + size] for start in range(0, len(shards), size)]
    counts = [number for chunk in ray.get([count.remote(chunk) for chunk in chunks]) for number in chunk]
    return {shard.name: number for shard, number in zip(shards, counts, strict=True)}


def _count_shard(data: DataConfig, shard: Shard) -> int:
    unusable = {*NO_CAPTION, IMAGE_MISSING}
    samples = read_samples(shard, data, with_images=False)
    return sum(1 for sample in samples if not unusable & {*sample.problems})
