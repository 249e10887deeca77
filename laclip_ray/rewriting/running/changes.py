"""Shards of a replaced file, or read with other settings: have the captions changed?

Guarantees: draws of unchanged captions are kept, also under other ids, and the new file and settings are recorded, so
the shard is not compared again. A shard with changed captions, or an unreadable one, is drawn again.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from laclip_ray.config import DataConfig
from laclip_ray.data.reading import describe_differences, reading_of
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.endings.causes import is_loss
from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.committed import digest_inputs, digest_samples
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import Origin, WorkUnit

logger = logging.getLogger(__name__)

_TASKS_IN_FLIGHT = 256
"""Reading tasks in flight, including those waiting for a CPU."""


def compare_replaced_files(backlog: Backlog, on_settled: Callable[[str, int | None], None]) -> None:
    """Move each unit of `to_compare` to `to_draw` or `to_judge`, or record its new file.

    Args:
        backlog: the work left; Ray must be connected.
        on_settled: see `RunHooks.on_settled`.
    """
    data = backlog.experiment.data
    units_of: dict[str, list[WorkUnit]] = {}
    for unit in backlog.to_compare:
        units_of.setdefault(unit.shard, []).append(unit)
    origins = {
        name: rewrite_set.origins({unit.shard: _drawn(unit) for unit in backlog.to_compare if unit.prompt_set == name})
        for name, rewrite_set in backlog.sets.items()
    }
    shards = (backlog.shards[name] for name in units_of)
    for shard, samples in _read_shards(shards, data):
        for unit in units_of[shard.name]:
            rewrite_set = backlog.sets[unit.prompt_set]
            if samples is None or not _are_drawn(rewrite_set, unit, samples, origins[unit.prompt_set][shard.name]):
                logger.info(
                    "%s/%s: its captions have changed%s; the changed ones are rewritten",
                    unit.prompt_set, shard.name, _why(origins[unit.prompt_set][shard.name], shard, data),
                )  # fmt: skip
                backlog.to_draw.append(unit)
            elif shard.name in backlog.committed[unit.prompt_set]:
                origin = replace(
                    backlog.committed[unit.prompt_set][shard.name].origin,
                    file_identity=shard.file_identity,
                    reading=reading_of(shard, data),
                    inputs=samples.digest,
                )
                store.restamp_verdicts(rewrite_set, shard.name, _drawn(unit), origin)
                on_settled(shard.name, 0)
            else:
                backlog.to_judge.append(WorkUnit(unit.prompt_set, shard.name, _drawn(unit)))
    backlog.to_compare.clear()


def _why(origin: Origin, shard: Shard, data: DataConfig) -> str:
    """The settings that changed, in parentheses; empty if only the file did."""
    changes = describe_differences(origin.reading, reading_of(shard, data)) if origin.reading is not None else ""
    return f" ({changes})" if changes else ""


@dataclass(frozen=True)
class _Samples:
    """The samples of a shard, in order."""

    digest: str
    """Of ids and captions (`digest_samples`)."""
    caption_digest: str
    """Of captions only."""


def _are_drawn(rewrite_set: RewriteSet, unit: WorkUnit, samples: _Samples, origin: Origin) -> bool:
    """Whether a unit's draws were made for these captions in this order, under these ids or others."""
    if samples.digest == origin.inputs:
        return True
    drawn = rewrite_set.samples(unit.shard, _drawn(unit))
    return samples.caption_digest == _digest_captions(caption_hash for _, caption_hash in drawn)


def _digest_captions(caption_hashes: Iterable[str]) -> str:
    return digest_inputs((), caption_hashes)


def _drawn(unit: WorkUnit) -> int:
    """The revision of the draws to compare with."""
    assert unit.previous is not None, "a compared unit has draws"
    return unit.previous


def _read_shards(shards: Iterable[Shard], data: DataConfig) -> Iterator[tuple[Shard, _Samples | None]]:
    """Yield each shard with its samples (None: unreadable) as soon as its task is done."""
    import ray

    read = ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")(_read)
    waiting = iter(shards)
    in_flight: dict[Any, Shard] = {}
    while True:
        for shard in itertools.islice(waiting, _TASKS_IN_FLIGHT - len(in_flight)):
            in_flight[read.remote(shard, data)] = shard
        if not in_flight:
            return
        (done,), _ = ray.wait(list(in_flight))
        try:
            samples = ray.get(done)
        except ray.exceptions.RayError as error:
            if not is_loss(error):
                raise
            samples = None  # reading it killed its process, again and again
        yield in_flight.pop(done), samples


def _read(shard: Shard, data: DataConfig) -> _Samples | None:
    try:
        samples = list(read_samples(shard, data, with_images=False))
    except Exception:  # noqa: BLE001 - the shard is read again to be rewritten, and then reports the reason
        return None
    return _Samples(digest_samples(samples), _digest_captions(sample.caption_hash for sample in samples))
