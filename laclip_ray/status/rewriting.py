"""The state of rewriting, from the files below `rewrite.output`.

One listing of each set's verdicts counts the committed shards and gives their times. `progress.json` of the run, or
`summary.json` of the last one that ended, has the counts of rewrites. No shard is opened.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from laclip_ray import storage
from laclip_ray.rewriting.storing.progress_file import FAILURES_KEPT, PROGRESS_FILE, Counts, RewritingProgress
from laclip_ray.status.damage import Damage
from laclip_ray.status.listing import Directory, list_below, list_directory
from laclip_ray.status.owner import Owner, State, read_owner, state_of
from laclip_ray.status.pace import commits_per_s, time_left_s

_SUMMARY_FILE = "summary.json"
_SUMMARY_REMEDY = "Remove it; `laclip rewrite` writes it again"
_RECIPE_FILE = "recipe.json"


@dataclass(frozen=True)
class SetStatus:
    """One rewrite set."""

    name: str
    shards_done: int
    counts: Counts | None
    """Of the shards that the newest record covers. None: no record has them."""

    @property
    def accepted_share(self) -> float | None:
        """Accepted rewrites among all; None: not recorded."""
        return self.counts.accepted / self.counts.slots if self.counts and self.counts.slots else None


@dataclass(frozen=True)
class RewritingStatus:
    """The state of rewriting."""

    location: str
    state: State
    owner: Owner | None
    sets: tuple[SetStatus, ...] = ()
    shards: int | None = None
    """Of the dataset. None: not recorded."""
    failed: int = 0
    """Units (shard x prompt set) that the last run gave up or did not do."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """The reason for each of the first of them, by `prompt set/shard`."""
    newest_commit_age_s: float | None = None
    """None if no run holds the lease."""
    shards_per_hour: float | None = None
    """Of one set, while it runs."""
    left_s: float | None = None

    @property
    def units_done(self) -> int:
        """Committed shards of all sets together."""
        return sum(each.shards_done for each in self.sets)

    @property
    def units(self) -> int | None:
        """Shards to commit in all sets together; None: not recorded."""
        return None if self.shards is None else self.shards * len(self.sets)


def rewriting_status(location: str, damage: Damage) -> RewritingStatus:
    """Look at the rewrites of an output.

    Args:
        location: `rewrite.output`: a directory or URL. It may not exist.
        damage: gets a sentence for each damaged file.
    """
    directory = list_directory(location)
    if directory is None or directory.is_empty:
        return RewritingStatus(location, "never started", None)
    owner = read_owner(location, damage)
    record = _read_record(location, directory, damage)
    if owner is not None and PROGRESS_FILE not in directory.files:  # the summary is of an earlier run
        record = replace(record, failed=0, failures={})
    listed = {name: _committed(storage.join(location, name)) for name in directory.directories}
    names = dict.fromkeys((*(name for name, shards in listed.items() if shards), *record.counts))
    sets = tuple(SetStatus(name, len(listed.get(name, {})), record.counts.get(name)) for name in names)
    is_complete = record.is_complete
    if record.is_missing and _are_imported(location, [each.name for each in sets], damage):
        is_complete = True
    has_begun = bool(sets) or PROGRESS_FILE in directory.files
    status = RewritingStatus(
        *(location, state_of(owner, has_begun, is_complete), owner, sets),
        shards=record.shards,
        failed=record.failed,
        failures=record.failures,
    )
    times_s = [time_s for shards in listed.values() for time_s in shards.values() if time_s is not None]
    return status if owner is None else _with_pace(status, owner, times_s)


def _with_pace(status: RewritingStatus, owner: Owner, times_s: Sequence[float]) -> RewritingStatus:
    """The status with the age of the newest commit, and the rate if its owner runs."""
    age_s = max(0.0, owner.now_s - max(times_s)) if times_s else None
    if not owner.is_alive:
        return replace(status, newest_commit_age_s=age_s)
    per_s = commits_per_s(times_s, owner.now_s, owner.since_s or 0.0)
    return replace(
        status,
        newest_commit_age_s=age_s,
        shards_per_hour=None if per_s is None else 3600 * per_s / max(1, len(status.sets)),
        left_s=None if status.units is None else time_left_s(max(0, status.units - status.units_done), per_s),
    )


@dataclass(frozen=True)
class _Record:
    """The newest record."""

    counts: Mapping[str, Counts] = field(default_factory=dict)
    """By prompt set."""
    shards: int | None = None
    failed: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool | None = None
    """None: the run has not ended, or not by itself."""
    is_missing: bool = False
    """Whether there is no record at all."""


def _read_record(location: str, directory: Directory, damage: Damage) -> _Record:
    """The progress of the run, or else the summary of the last one that ended."""
    if PROGRESS_FILE in directory.files:
        url = storage.join(location, PROGRESS_FILE)
        remedy = "It is written again within a minute while rewriting runs"
        progress = damage.read_json(url, "the progress of rewriting", remedy, RewritingProgress.from_json)
        if progress is not None:
            return _Record(progress.sets, progress.shards, progress.failed, progress.failures)
    if _SUMMARY_FILE in directory.files:
        url = storage.join(location, _SUMMARY_FILE)
        summary = damage.read_json(url, "the summary of rewriting", _SUMMARY_REMEDY, _parse_summary)
        if summary is not None:
            return summary if PROGRESS_FILE not in directory.files else _Record(summary.counts, summary.shards)
    return _Record(is_missing=not {PROGRESS_FILE, _SUMMARY_FILE} & directory.files.keys())


def _parse_summary(content: Mapping[str, Any]) -> _Record:
    missing = {str(name): str(reason) for name, reason in content["missing"].items()}
    return _Record(
        {str(name): _counts_of(statistics) for name, statistics in content["prompt_sets"].items()},
        int(content["shards"]),
        len(missing),
        dict(list(missing.items())[:FAILURES_KEPT]),
        bool(content["complete"]),
    )


def _counts_of(statistics: Mapping[str, Any]) -> Counts:
    accepted = int(statistics["accepted"])
    return Counts(int(statistics["captions"]), accepted, accepted + sum(map(int, statistics["unfilled"].values())))


def _committed(location: str) -> dict[str, float | None]:
    """The committed shards of a set, by the gate that judged last: by shard, the time of its newest verdicts."""
    gates: dict[str, dict[str, tuple[int, float | None]]] = {}
    for file in list_below(storage.join(location, "verdicts")):
        gate, _, below = file.path.partition("/")
        revision, _, shard = below.partition("/")
        if revision.isdigit() and shard.endswith(".parquet"):
            shards = gates.setdefault(gate, {})
            if shards.get(shard, (-1, None))[0] < int(revision):
                shards[shard] = int(revision), file.modified_s
    newest = max(gates.values(), key=_newest_s, default={})
    return {shard: modified_s for shard, (_, modified_s) in newest.items()}


def _newest_s(shards: Mapping[str, tuple[int, float | None]]) -> float:
    return max(modified_s or 0.0 for _, modified_s in shards.values())


def _are_imported(location: str, names: Iterable[str], damage: Damage) -> bool:
    """Whether `laclip rewrites import` made all of these sets. An import writes no summary."""
    remedy = "Restore it from a copy: it says which model wrote these rewrites"
    origins = [
        damage.read_json(
            storage.join(location, name, _RECIPE_FILE),
            "the record of this rewrite set",
            remedy,
            lambda content: "imported_from" in content["recipe"],
        )
        for name in names
    ]
    return bool(origins) and all(origins)
