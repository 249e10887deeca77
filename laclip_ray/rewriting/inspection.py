"""What is in rewrite sets: which sets an experiment reads, counts by reason, and samples of what the gate did.

Guarantees: samples are a function of the seed and the ids; counts cover every committed shard.
Not covered: changes in shards that no sample is shown from (`laclip rewrites export` compares every shard).
"""

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from laclip_ray.config import Experiment
from laclip_ray.data.records import NO_CAPTION, Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting import store, tables
from laclip_ray.rewriting.gate import Rejection
from laclip_ray.rewriting.picture_gate import UNLIKE_PICTURE
from laclip_ray.rewriting.sets import SetSelection, readable_sets
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.store import Committed, RewriteSet

RETRYABLE = (*(reason.value for reason in Rejection), UNLIKE_PICTURE, *tables.FAILED_REQUESTS)
"""The reasons that another attempt, or other settings, can do away with."""

ACCEPTED = "accepted"
"""Stands beside the reasons where samples are chosen."""

_SHARDS_READ = 8
"""Of each set, to show samples from; and one more for each reason that none of them has."""


@dataclass(frozen=True)
class Shown:
    """A draw that is shown."""

    rewrite_set: str
    reason: str
    """`ACCEPTED`, or why it is refused."""
    id: str
    caption: str
    text: str | None
    """None where there is no draw."""


@dataclass(frozen=True)
class Inspection:
    """What rewrite sets hold."""

    statistics: dict[str, Statistics]
    """By set, over all committed shards."""
    shards: dict[str, int]
    """By set, how many are committed."""
    shown: list[Shown]
    shards_read: int
    """Shards times sets that the samples were chosen from."""
    changed: dict[str, int] = field(default_factory=dict)
    """`set/shard`, of those read, whose rows are no longer those that were rewritten, and how many of the rows that
    there are now have no rewrites for that."""
    notes: list[str] = field(default_factory=list)


def check_reasons(reasons: Collection[str], known: Collection[str]) -> None:
    """Raise UserError unless all reasons are known."""
    if unknown := [reason for reason in reasons if reason not in known]:
        raise UserError(f"--reason: unknown {', '.join(unknown)}; known are {', '.join(known)}")


def rows_changed(samples: Sequence[Sample], committed: Committed) -> bool:
    """Whether the samples of a shard are other ones, or in another order, than those that were rewritten."""
    inputs = store.digest_inputs((each.id for each in samples), (each.caption_hash for each in samples))
    return inputs != committed.origin.inputs


def inspect_rewrites(
    experiment: Experiment,
    reasons: Collection[str] = (),
    names: Collection[str] = (),
    samples: int = 10,
    seed: int = 0,
) -> Inspection:
    """Count what is in rewrite sets, and choose samples of what the gate accepted and refused.

    Args:
        experiment: the configuration.
        reasons: show only draws refused for one of them, or `ACCEPTED` ones. Empty: all.
        names: only these sets. Empty: all that training would read.
        samples: how many to show of each reason, all sets together.
        seed: decides which.

    Raises:
        UserError: see `readable_sets`; or a reason is unknown.
    """
    sets = readable_sets(SetSelection.of(experiment), names)
    committed = {each.name: each.describe(each.committed_revisions()) for each in sets}
    statistics = {name: _total(shards.values()) for name, shards in committed.items()}
    found_reasons = {reason for counts in statistics.values() for reason in counts.rejected}
    check_reasons(reasons, list(dict.fromkeys([ACCEPTED, *RETRYABLE, *sorted(NO_CAPTION), *sorted(found_reasons)])))
    wanted = set(reasons) or {ACCEPTED, *found_reasons}

    data, notes = _data_shards(experiment)
    buckets: dict[str, list[tuple[int, Shown]]] = {reason: [] for reason in sorted(wanted, key=_accepted_first)}
    changed: dict[str, int] = {}
    shards_read = 0
    for each in sets:
        for shard_name in _choose_shards(committed[each.name], wanted, seed, each.name):
            shards_read += 1
            known = committed[each.name][shard_name]
            keys = _add_samples(buckets, each, shard_name, known.revision, samples, seed)
            if data is not None:
                missing = _changed_rows(data.get(shard_name), known, keys, experiment)
                if missing is not None:
                    changed[f"{each.name}/{shard_name}"] = missing
    return Inspection(
        statistics,
        {name: len(shards) for name, shards in committed.items()},
        [shown for chosen in buckets.values() for _, shown in chosen],
        shards_read,
        changed,
        notes,
    )


def _accepted_first(reason: str) -> tuple[bool, str]:
    return reason != ACCEPTED, reason


def _total(parts: Collection[Committed]) -> Statistics:
    total = Statistics()
    for part in parts:
        total.add(part.statistics)
    return total


def _data_shards(experiment: Experiment) -> tuple[dict[str, Shard] | None, list[str]]:
    try:
        return {shard.name: shard for shard in list_shards(experiment.data)}, []
    except UserError as error:  # sets can be looked at where their data is not
        return None, [f"whether rows have changed was not checked: {error}"]


def _choose_shards(committed: Mapping[str, Committed], wanted: Collection[str], seed: int, name: str) -> list[str]:
    def has(shard: str, reason: str) -> bool:
        counts = committed[shard].statistics
        return bool(counts.accepted if reason == ACCEPTED else counts.rejected[reason])

    order = sorted(committed, key=lambda shard: hash64("shards", seed, name, shard))
    order = [shard for shard in order if any(has(shard, reason) for reason in wanted)]
    chosen = order[:_SHARDS_READ]
    for reason in sorted(wanted):
        if not any(has(shard, reason) for shard in chosen):
            chosen += [shard for shard in order if has(shard, reason)][:1]
    return chosen


def _add_samples(
    buckets: dict[str, list[tuple[int, Shown]]], each: RewriteSet, shard: str, revision: int, samples: int, seed: int
) -> set[tuple[str, str]]:
    """Add a shard's draws to those with the smallest hashes; returns the shard's (id, caption hash)."""
    table = each.read(shard, revision)
    names = ("id", "caption_hash", "draw", "attempt", "caption", "text", "reason")
    keys = set()
    for sample_id, caption_hash, draw, attempt, caption, text, reason in zip(
        *(table.column(name).to_pylist() for name in names), strict=True
    ):
        keys.add((sample_id, caption_hash))
        bucket = buckets.get(reason or ACCEPTED)
        if bucket is not None:
            rank = hash64("samples", seed, each.name, shard, sample_id, draw, attempt)
            bucket.append((rank, Shown(each.name, reason or ACCEPTED, sample_id, caption, text)))
    for reason, bucket in buckets.items():
        buckets[reason] = heapq.nsmallest(samples, bucket, key=lambda ranked: ranked[0])
    return keys


def _changed_rows(
    shard: Shard | None, known: Committed, keys: Collection[tuple[str, str]], experiment: Experiment
) -> int | None:
    """How many rows have no rewrites because they changed; None if the shard is as it was rewritten."""
    if shard is None:
        return 0
    now = list(read_samples(shard, experiment.data, with_images=False))
    if not rows_changed(now, known):
        return None
    return sum((sample.id, sample.caption_hash) not in keys for sample in now)
