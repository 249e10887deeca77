"""Replaced shard files: have the captions changed, or only the file?

Guarantees: draws of unchanged captions are kept, and the new file is recorded, so the shard is not compared again. A
shard with changed captions, or an unreadable one, is drawn again.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from laclip_ray.config import DataConfig
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.rewriting import store
from laclip_ray.rewriting.backlog import Backlog
from laclip_ray.rewriting.tables import WorkUnit

logger = logging.getLogger(__name__)

_TASKS_IN_FLIGHT = 256
"""Reading tasks in flight, including those waiting for a CPU."""


def compare_replaced_files(backlog: Backlog, on_settled: Callable[[str, int | None], None]) -> None:
    """Move each unit of `to_compare` to `to_draw` or `to_judge`, or record its new file.

    Args:
        backlog: the work left; Ray must be connected.
        on_settled: see `RunHooks.on_settled`.
    """
    units_of: dict[str, list[WorkUnit]] = {}
    for unit in backlog.to_compare:
        units_of.setdefault(unit.shard, []).append(unit)
    origins = {
        name: rewrite_set.origins({unit.shard: _drawn(unit) for unit in backlog.to_compare if unit.prompt_set == name})
        for name, rewrite_set in backlog.sets.items()
    }
    shards = (backlog.shards[name] for name in units_of)
    for shard, inputs in _digest_shards(shards, backlog.experiment.data):
        for unit in units_of[shard.name]:
            origin = origins[unit.prompt_set][shard.name]
            if inputs != origin.inputs:
                logger.info(
                    "%s/%s: its captions have changed; the changed ones are rewritten", unit.prompt_set, shard.name
                )
                backlog.to_draw.append(unit)
            elif shard.name in backlog.committed[unit.prompt_set]:
                stamped = replace(origin, file_identity=shard.file_identity)
                store.restamp_verdicts(backlog.sets[unit.prompt_set], shard.name, _drawn(unit), stamped)
                on_settled(shard.name, 0)
            else:
                backlog.to_judge.append(WorkUnit(unit.prompt_set, shard.name, _drawn(unit)))
    backlog.to_compare.clear()


def _drawn(unit: WorkUnit) -> int:
    """The revision of the draws to compare with."""
    assert unit.previous is not None, "a compared unit has draws"
    return unit.previous


def _digest_shards(shards: Iterable[Shard], data: DataConfig) -> Iterator[tuple[Shard, str | None]]:
    """Yield each shard with the digest of its captions (None: unreadable) as soon as its task is done."""
    import ray

    digest = ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")(_digest)
    waiting = iter(shards)
    in_flight: dict[Any, Shard] = {}
    while True:
        for shard in itertools.islice(waiting, _TASKS_IN_FLIGHT - len(in_flight)):
            in_flight[digest.remote(shard, data)] = shard
        if not in_flight:
            return
        (done,), _ = ray.wait(list(in_flight))
        yield in_flight.pop(done), ray.get(done)


def _digest(shard: Shard, data: DataConfig) -> str | None:
    try:
        samples = list(read_samples(shard, data, with_images=False))
    except Exception:  # noqa: BLE001 - the shard is read again to be rewritten, and then reports the reason
        return None
    return store.digest_samples(samples)
