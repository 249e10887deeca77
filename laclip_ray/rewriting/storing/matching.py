"""Do rewrite sets belong to the data that is read now?

A set knows the samples that it was made for. After a change of the files, or of the settings that they are read with,
its rewrites may not be found.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from laclip_ray.config import DataConfig
from laclip_ray.data.reading import describe_differences, differences, reading_of
from laclip_ray.data.records import NO_CAPTION, Sample, Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.errors import UserError
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.rewriting.storing.store import RewriteSet, of_shards
from laclip_ray.tally import first_names

logger = logging.getLogger(__name__)

_ROWS_LOOKED_AT = 1_000
"""Rows of a shard that are looked up before training."""


def is_made_of(committed: Committed, shard: Shard, data: DataConfig) -> bool:
    """Whether draws were surely made from this file, read with these settings."""
    origin = committed.origin
    if origin.file_identity != shard.file_identity or origin.reading is None:
        return False
    return not differences(origin.reading, reading_of(shard, data))


def is_of(rewrite_set: RewriteSet, committed: Committed, shard_name: str, samples: Sequence[Sample]) -> bool:
    """Whether draws were made for these captions in this order, under these ids or others."""
    if committed.is_of(samples):
        return True
    stored = rewrite_set.samples(shard_name, committed.revision)
    return [caption_hash for _, caption_hash in stored] == [sample.caption_hash for sample in samples]


def explain(committed: Committed, shard: Shard, data: DataConfig) -> str:
    """Why a set's rewrites may not be found in a shard."""
    reading = committed.origin.reading
    settings = describe_differences(reading, reading_of(shard, data)) if reading is not None else ""
    return settings or "its file was replaced"


def check_joins(
    rewrites: RewriteSets, described: Sequence[Mapping[str, Committed]], shards: Sequence[Shard], data: DataConfig
) -> None:
    """Refuse rewrite sets that training would find no rewrites in. Reads at most one shard of the data for each set.

    Args:
        rewrites: the sets that training reads.
        described: of each set, the metadata of its committed shards, by the names in storage.
        shards: all shards of the data.
        data: how they are read.

    Raises:
        UserError: no set has rewrites of any shard, or a set has none that would be found.
    """
    by_name = {shard.name: shard for shard in shards}
    found = [of_present_shards(of_set, by_name) for of_set in described]
    if not any(found):
        others = sorted({name for of_set in described for name in of_set})
        where = ", ".join(rewrite_set.location for rewrite_set in rewrites.sets)
        have = f"has rewrites only of other shards: {first_names(others)}" if others else "has no rewrites yet"
        raise UserError(
            f"text: {where} {have}; the data's shards are {first_names(by_name)}. Run `laclip rewrite` with this "
            "config, name the right sets in text.rewrites, or train on captions alone with text.p=0"
        )
    if uncovered := [name for name in by_name if not any(name in committed for committed in found)]:
        logger.warning(
            "%d of %d shards have no rewrites (%s); their samples show captions, counted as not_rewritten",
            len(uncovered), len(shards), first_names(uncovered),
        )  # fmt: skip
    for rewrite_set, committed in zip(rewrites.sets, found, strict=True):
        doubtful = [name for name, shard in committed.items() if not is_made_of(shard, by_name[name], data)]
        if doubtful:
            are_all = len(doubtful) == len(committed)
            _look_up(rewrite_set, committed[doubtful[0]], by_name[doubtful[0]], data, are_all)
        if cut := [name for name in doubtful if _is_cut_otherwise(committed[name], by_name[name], data)]:
            logger.warning(
                "%s: %d shards have other rows of their files than when they were rewritten (%s: %s). Rows without "
                "rewrites show captions, counted as not_rewritten; `laclip rewrite` with this config rewrites them",
                rewrite_set.location, len(cut), cut[0], explain(committed[cut[0]], by_name[cut[0]], data),
            )  # fmt: skip


def _is_cut_otherwise(committed: Committed, shard: Shard, data: DataConfig) -> bool:
    reading = committed.origin.reading
    return reading is not None and "rows" in differences(reading, reading_of(shard, data))


def of_present_shards(described: Mapping[str, Committed], shard_names: Iterable[str]) -> dict[str, Committed]:
    """The metadata of committed shards by their present names, from metadata by the names in storage."""
    names = of_shards({name: number for number, name in enumerate(described)}, shard_names)
    stored = list(described.values())
    return {name: stored[number] for name, number in names.items()}


def _look_up(rewrite_set: RewriteSet, committed: Committed, shard: Shard, data: DataConfig, are_all: bool) -> None:
    """Look for the rewrites of a shard's first rows; refuse or warn if there are none."""
    accepted = RewriteSets((rewrite_set,)).rewrites(shard.name)
    samples = list(islice(read_samples(shard, data, with_images=False), _ROWS_LOOKED_AT))
    usable = [sample for sample in samples if not NO_CAPTION.intersection(sample.problems)]
    if accepted is None or not usable:
        return
    if any(accepted.of(sample.id, sample.caption_hash, sample.row) is not None for sample in usable):
        return
    problem = (
        f"{rewrite_set.location}: none of the first {len(usable):,} captions of {shard.name} has rewrites there; since "
        f"it was rewritten, {explain(committed, shard, data)}"
    )
    if not are_all:
        logger.warning("%s. Its samples show captions (counted as not_rewritten)", problem)
        return
    raise UserError(
        f"text: {problem}. Set this back, or run `laclip rewrite` with this config, which rewrites the new captions "
        "(for imported texts `laclip rewrites import`)"
    )
