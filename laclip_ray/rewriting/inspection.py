"""Inspection of rewrite sets: counts by reason, and samples of accepted and refused draws.

Guarantees: counts cover every committed shard. Samples are a function of the seed and the ids.

Not covered: changes in shards that no sample is taken from (`laclip rewrites export` compares every shard).
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from laclip_ray.config import DataConfig, Experiment
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.records import NO_CAPTION, Shard
from laclip_ray.data.shard_table import ShardsByName
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.text_choice import renamed_samples
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.randomness import hash64
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.judging.meaning import MEANING_ADDED, MEANING_LOST, UNLIKELY
from laclip_ray.rewriting.scoring.picture_gate import UNLIKE_PICTURE
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.score_columns import ScoreRange, score_ranges
from laclip_ray.rewriting.storing.sets import SetSelection, describe_sets, readable_sets
from laclip_ray.rewriting.storing.statistics import Statistics

RETRYABLE = (
    *(reason.value for reason in Rejection),
    *(MEANING_LOST, MEANING_ADDED, UNLIKELY, UNLIKE_PICTURE, tables.GATE_FAILED, *tables.FAILED_REQUESTS),
)
"""The reasons that another attempt, or other settings, can resolve."""
ACCEPTED = "accepted"
"""Selects accepted draws, where draws are selected by reason."""
_SHARDS_READ = 8
"""Shards of each set that samples are taken from; one more for each reason that no such shard has."""


@dataclass(frozen=True)
class ShownDraw:
    """A draw in an inspection."""

    rewrite_set: str
    reason: str
    """`ACCEPTED`, or why the gate refused it."""
    id: str
    caption: str
    text: str | None
    """None: the caption has no draw."""


@dataclass(frozen=True)
class Inspection:
    """The content of rewrite sets."""

    statistics: dict[str, Statistics]
    """By set, over all committed shards."""
    shards: dict[str, int]
    """By set, the number of committed shards."""
    shown: list[ShownDraw]
    shards_read: int
    """Shards times sets that the samples were taken from."""
    changed: dict[str, int] = field(default_factory=dict)
    """By `set/shard`, of the shards read: the number of new rows without rewrites. Only shards whose rows have changed
    since they were rewritten."""
    notes: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, ScoreRange]] = field(default_factory=dict)
    """By set, the ranges of the scores of accepted draws, of the shards read."""


class _Selection:
    """The draws with the smallest hashes, at most `size` of each reason."""

    def __init__(self, reasons: Collection[str], size: int, seed: int) -> None:
        ordered = sorted(reasons, key=lambda reason: (reason != ACCEPTED, reason))
        self._ranked: dict[str, list[tuple[int, ShownDraw]]] = {reason: [] for reason in ordered}
        self._size = size
        self._seed = seed

    def add(self, rewrite_set: str, shard: str, draws: pa.Table) -> None:
        """Consider the draws of a shard, read with their reasons."""
        columns = [draws.column(name).to_pylist() for name in ("id", "draw", "attempt", "caption", "text", "reason")]
        for sample_id, slot, attempt, caption, text, refusal in zip(*columns, strict=True):
            reason = refusal or ACCEPTED
            if reason in self._ranked:
                rank = hash64("samples", self._seed, rewrite_set, shard, sample_id, slot, attempt)
                self._ranked[reason].append((rank, ShownDraw(rewrite_set, reason, sample_id, caption, text)))
        for reason, ranked in self._ranked.items():
            self._ranked[reason] = heapq.nsmallest(self._size, ranked, key=lambda item: item[0])

    @property
    def draws(self) -> list[ShownDraw]:
        """The selected draws: accepted ones first, then by reason."""
        return [draw for ranked in self._ranked.values() for _, draw in ranked]


def check_reasons(reasons: Collection[str], known: Collection[str]) -> None:
    """Raise UserError unless all reasons are known."""
    if unknown := [reason for reason in reasons if reason not in known]:
        near = did_you_mean(unknown[0], known)
        raise UserError(f"--reason: unknown {', '.join(unknown)}; known are {', '.join(known)}{near}")


def inspect_rewrites(
    experiment: Experiment,
    reasons: Collection[str] = (),
    names: Collection[str] = (),
    samples: int = 10,
    seed: int = 0,
) -> Inspection:
    """Count the rewrites of sets, and select samples of accepted and refused ones.

    Args:
        experiment: the configuration.
        reasons: show only draws refused for one of these reasons, or `ACCEPTED` ones. Empty: all.
        names: only these sets. Empty: all sets that training would read.
        samples: the number of samples of each reason, all sets together.
        seed: decides which samples.

    Raises:
        UserError: see `readable_sets`; or a reason is unknown.
    """
    sets = readable_sets(SetSelection.of(experiment), names)
    committed = describe_sets(sets)
    statistics = {name: _total(shards.values()) for name, shards in committed.items()}
    occurring = {reason for counts in statistics.values() for reason in counts.rejected}
    check_reasons(reasons, list(dict.fromkeys([ACCEPTED, *RETRYABLE, *sorted(NO_CAPTION), *sorted(occurring)])))
    wanted = set(reasons) or {ACCEPTED, *occurring}

    data_shards, notes = _shards_by_name(experiment.data, experiment.output)
    selection = _Selection(wanted, samples, seed)
    changed: dict[str, int] = {}
    shards_read = 0
    scores: dict[str, dict[str, ScoreRange]] = {}
    for rewrite_set in sets:
        shards = committed[rewrite_set.name]
        read: list[pa.Table] = []
        for name in _choose_shards(shards, wanted, seed, rewrite_set.name):
            draws = rewrite_set.read(name, shards[name].revision)
            selection.add(rewrite_set.name, name, draws)
            read.append(draws.select(["reason", *tables.SCORES, tables.LOG_PROBABILITY]))
            shards_read += 1
            if data_shards is not None:
                new_rows = _count_new_rows(data_shards.get(name), experiment.data, shards[name], draws)
                if new_rows is not None:
                    changed[f"{rewrite_set.name}/{name}"] = new_rows
        scores[rewrite_set.name] = score_ranges(read)
    sizes = {name: len(shards) for name, shards in committed.items()}
    return Inspection(statistics, sizes, selection.draws, shards_read, changed, notes, scores)


def _total(shards: Iterable[Committed]) -> Statistics:
    total = Statistics()
    for shard in shards:
        total.add(shard.statistics)
    return total


def _shards_by_name(data: DataConfig, output: str) -> tuple[ShardsByName | None, list[str]]:
    """The data's shards, or None and a note: sets can be inspected without their data."""
    try:
        return ShardsByName(list_shards(data, index=beside(output))), []
    except UserError as error:
        return None, [f"whether rows have changed was not checked: {error}"]


def _choose_shards(committed: Mapping[str, Committed], wanted: Collection[str], seed: int, name: str) -> list[str]:
    """The shards of a set, by name, that samples are taken from."""

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


def _count_new_rows(shard: Shard | None, data: DataConfig, committed: Committed, draws: pa.Table) -> int | None:
    """Rows of the data without draws, because they are new. None: no row changed; 0 if the data has no such shard."""
    if shard is None:
        return 0
    samples = list(read_samples(shard, data, with_images=False))
    if committed.is_of(samples):
        return None
    stored = list(dict.fromkeys(zip(draws["id"].to_pylist(), draws["caption_hash"].to_pylist(), strict=True)))
    present = [(sample.id, sample.caption_hash) for sample in samples]
    renamed = renamed_samples(stored, present)
    if len(renamed) == len(stored) == len(present):
        return None  # only the ids have changed, with the settings
    known = {renamed.get(key, key) for key in stored}
    return sum(key not in known for key in present)
