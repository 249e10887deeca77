"""The rows of each shard: counted when a run begins, which gives it its number of steps, and compared when it resumes.

Guarantees: a run resumes only over the rows that it began with, because its position names rows by their numbers. A
shard file is counted again only if it looks replaced. If the dataset index gave its rows, a replaced file is refused.

Not covered: images. Their bytes are not compared.
"""

import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.held_out import is_held_out
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE
from laclip_ray.data.records import IMAGE_MISSING, NO_CAPTION, Sample, Shard
from laclip_ray.data.shards import read_or_report
from laclip_ray.errors import UserError
from laclip_ray.rewriting.storing.committed import digest_samples
from laclip_ray.tally import first_names

logger = logging.getLogger(__name__)

_SHARDS_AT_ONCE = 8
"""Shards that one task reads at the same time. Counting mostly waits for storage."""
_MAX_SHARDS_PER_TASK = 64
"""If a task is lost, Ray repeats all of its shards."""
_UNUSABLE = frozenset({*NO_CAPTION, IMAGE_MISSING, IMAGE_TOO_LARGE})
"""Problems of rows that training skips, known without the images."""
_FIRST_RANGE = ".000000000"
"""Earlier versions added this to the name of a table's first range if there were more ranges."""


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one shard."""

    usable: int
    """Rows with a caption and an image member that are not held out; from the dataset index, all rows."""
    digest: str | None = None
    """Of the ids and captions of all rows, in order. None: from the dataset index, or recorded by an earlier version.
    """
    source: str | None = None
    """The identity of the shard's file (`storage.identity`). None: recorded by an earlier version."""

    @property
    def is_of_index(self) -> bool:
        """Whether the dataset index gave the number, without a look at rows."""
        return self.digest is None and self.source is not None

    def is_equal(self, other: "ShardRows") -> bool:
        """Whether two shards have the same rows, if both are known."""
        digests = {self.digest, other.digest} - {None}
        return self.usable == other.usable and len(digests) < 2


def usable_rows(rows: Mapping[str, ShardRows]) -> dict[str, int]:
    """The number of usable rows by shard."""
    return {name: shard.usable for name, shard in rows.items()}


def write_rows(url: str, rows: Mapping[str, ShardRows]) -> None:
    """Record the rows of all shards, in the order of the shards."""
    storage.write_json(url, {name: asdict(shard) for name, shard in rows.items()})


def read_rows(url: str, shard_names: Iterable[str]) -> dict[str, ShardRows] | None:
    """The recorded rows of all shards; None if there is no record.

    Args:
        url: the record.
        shard_names: the present names of the shards. A shard that an earlier version named otherwise gets this name.

    Raises:
        UserError: the record is damaged.
    """
    if not storage.exists(url):
        return None
    remedy = "Remove it, and the same command counts the rows again."
    recorded = storage.read_state(url, "the record of the shards' rows", remedy, _parse)
    present = {*shard_names}

    def present_name(name: str) -> str:
        plain = name.removesuffix(_FIRST_RANGE)
        return plain if name not in present and plain in present else name

    return {present_name(name): rows for name, rows in recorded.items()}


def _parse(content: Mapping[str, Any]) -> dict[str, ShardRows]:
    return {
        # Earlier versions recorded only the number.
        name: ShardRows(rows) if isinstance(rows, int) else ShardRows(**rows)
        for name, rows in content.items()
    }


def check_names(recorded: Iterable[str], present: Iterable[str], owner: str) -> None:
    """Refuse other shards than the ones that a run began with.

    Args:
        recorded: names of the run's shards.
        present: names of the data's shards.
        owner: names the run, for the message: `the training run in out/train`.

    Raises:
        UserError: with the first names.
    """
    recorded, present = {*recorded}, {*present}
    kinds = (("missing", recorded - present), ("new", present - recorded))
    if differences := [f"{kind}: {first_names(sorted(names))}" for kind, names in kinds if names]:
        raise UserError(
            f"data.path: the shards are not those that {owner} began with ({'; '.join(differences)}), so its position "
            "would mean other samples. Restore them, or choose another output"
        )


def find_rows(
    url: str, data: DataConfig, shards: Sequence[Shard], owner: str, known: Mapping[str, ShardRows] | None = None
) -> dict[str, ShardRows]:
    """The rows of all shards: as recorded if the run has begun, as known to the caller, or counted.

    Args:
        url: the record.
        data: how to read the shards.
        shards: all shards.
        owner: as in `check_names`.
        known: the rows, if the caller has them.

    Raises:
        UserError: the run began with other shards or rows.
    """
    names = [shard.name for shard in shards]
    recorded = read_rows(url, names)
    if recorded is None:
        return dict(known) if known is not None else _first_count(data, shards)
    check_names(recorded, names, owner)
    return unchanged_rows(recorded, data, shards, owner)


def _first_count(data: DataConfig, shards: Sequence[Shard]) -> dict[str, ShardRows]:
    """The rows of a new run's shards: from the dataset index if it counts them, else by reading the shards."""
    listed: dict[str, ShardRows] = {}
    if data.captions == "first" and not data.held_out:  # else a row may be several samples, or none
        for shard in shards:
            if shard.listed_rows is not None:
                listed[shard.name] = ShardRows(shard.listed_rows, None, shard.file_identity)
    if listed:
        logger.info(
            "the rows of %d of %d shards are those of the dataset index, and include rows without a usable caption or "
            "image", len(listed), len(shards),
        )  # fmt: skip
    unlisted = [shard for shard in shards if shard.name not in listed]
    counted = {**listed, **(count_rows(data, unlisted) if unlisted else {})}
    return {shard.name: counted[shard.name] for shard in shards}


def unchanged_rows(
    recorded: Mapping[str, ShardRows], data: DataConfig, shards: Sequence[Shard], owner: str
) -> dict[str, ShardRows]:
    """Compare the rows of all shards with their record; counts the rows of files that look replaced.

    Args:
        recorded: the record, with the names of `shards`.
        data: how to read the shards.
        shards: all shards.
        owner: as in `check_names`.

    Returns:
        The record, with the present files.

    Raises:
        UserError: shards have other rows than recorded.
    """
    suspects = [shard for shard in shards if recorded[shard.name].source != shard.file_identity]
    if not suspects:
        return dict(recorded)
    if unread := [shard.name for shard in suspects if recorded[shard.name].is_of_index]:
        raise UserError(
            f"data.path: {len(unread)} of {len(shards)} shard files were replaced since {owner} began "
            f"({first_names(unread)}), and it took their rows from the dataset index, so their ids and captions cannot "
            "be compared. Restore the files, or choose another output"
        )
    counted = count_rows(data, suspects)
    if changed := [name for name, rows in counted.items() if not recorded[name].is_equal(rows)]:
        raise UserError(
            f"data.path: {len(changed)} of {len(shards)} shards have other rows than when {owner} began "
            f"({first_names(changed)}), so its position would mean other samples. Restore the files, or choose another "
            "output"
        )
    if replaced := [name for name in counted if recorded[name].source is not None]:
        logger.warning(
            "%d shard files are not the ones that %s began with, but have the same ids and captions: %s. Training "
            "continues; the images were not compared",
            len(replaced), owner, first_names(replaced),
        )  # fmt: skip
    return {**recorded, **counted}


def count_rows(data: DataConfig, shards: Sequence[Shard]) -> dict[str, ShardRows]:
    """Count the rows of each shard, in tasks of the connected Ray."""
    import ray

    # SPREAD keeps the tasks out of a Tune trial's placement group.
    @ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")
    def count(chunk: Sequence[Shard]) -> list[ShardRows]:
        with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
            return list(pool.map(lambda shard: count_shard(data, shard), chunk))

    # One task per CPU, not per shard: a new worker process takes seconds to start.
    cpus = max(1.0, ray.cluster_resources().get("CPU", 1.0))
    size = min(_MAX_SHARDS_PER_TASK, math.ceil(len(shards) / cpus))
    chunks = [shards[start : start + size] for start in range(0, len(shards), size)]
    counts = [rows for chunk in ray.get([count.remote(chunk) for chunk in chunks]) for rows in chunk]
    return {shard.name: rows for shard, rows in zip(shards, counts, strict=True)}


def count_shard(data: DataConfig, shard: Shard) -> ShardRows:
    """Count the rows of one shard."""
    samples = list(read_or_report(shard, data, with_images=False))
    return ShardRows(sum(_is_usable(sample, data) for sample in samples), digest_samples(samples), shard.file_identity)


def count_up_to(most: int, data: DataConfig, shards: Sequence[Shard]) -> int:
    """Count usable rows in this process, until there are `most`. Reads no more shards than it needs."""
    samples = (sample for shard in shards for sample in read_or_report(shard, data, with_images=False))
    usable = (sample for sample in samples if _is_usable(sample, data))
    return sum(1 for _ in itertools.islice(usable, most))


def _is_usable(sample: Sample, data: DataConfig) -> bool:
    return _UNUSABLE.isdisjoint(sample.problems) and not is_held_out(sample, data)
