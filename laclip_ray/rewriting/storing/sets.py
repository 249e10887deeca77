"""The rewrite sets that training, inspection and export read.

`SetSelection` holds the sets that an experiment names, whether they exist or not. `configured_sets` opens them at their
current revisions, `committed_sets` checks them for training, and `readable_sets` for inspection and export.

Guarantees: a run reads the revisions that existed when it opened the sets, so its rewrites do not change while it runs.
The exception is `grow`: training beside rewriting reads the newest revision of each shard.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, RefusedShare
from laclip_ray.data.text_choice import Rewrites, SampleKey, ShardRewrites, renamed_samples
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.redaction import redact
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from laclip_ray.rewriting.recipe import fingerprint_of, gate_fingerprint
from laclip_ray.rewriting.storing.committed import Committed, CommittedTable
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE, read_recipe
from laclip_ray.rewriting.storing.slots import Slots, merge_accepted, merge_slots
from laclip_ray.rewriting.storing.store import RewriteSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetSelection:
    """Which rewrite sets an experiment reads, and how."""

    locations: tuple[str, ...]
    """Directories or URLs, in order."""
    gate: str
    """The fingerprint of the gate whose verdicts count."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Relative weight of each set, by the name of its directory; unlisted sets have weight 1."""
    max_rewrites: int | None = None
    """Upper bound on the rewrites read per sample, all sets together. None: no bound."""
    rewrites_per_set: int = 1
    """Rewrites per sample that rewriting makes in each set."""
    scores: tuple[str, ...] = ()
    """The stored scores that decide which texts are shown."""
    refused: RefusedShare = "others"
    """Where the share of a refused rewrite goes."""

    @classmethod
    def of(cls, experiment: Experiment) -> "SetSelection":
        """The sets that `text.rewrites` names, else the sets that rewriting with this experiment writes.

        Raises:
            UserError: a prompt set of `rewrite.prompt_sets` cannot be read.
        """
        text, rewrite = experiment.text, experiment.rewrite
        locations = text.rewrites or [
            storage.join(experiment.rewrite_output, load_prompt_set(name).name) for name in rewrite.prompt_sets
        ]
        gate = gate_fingerprint(rewrite.gate, experiment.model.name)
        scores = tuple(dict.fromkeys(text.scores.values()))
        return cls(
            *(tuple(locations), gate, text.weights, text.max_rewrites, rewrite.rewrites_per_set, scores, text.refused)
        )

    @property
    def names(self) -> list[str]:
        """The names of the sets' directories, in order."""
        return [storage.name_of(location) for location in self.locations]

    def weight(self, name: str) -> float:
        """The weight of a set, by its name."""
        return self.weights.get(name, 1.0)


@dataclass(frozen=True)
class RewriteSets:
    """The rewrite sets that a training run reads, in order."""

    sets: tuple[RewriteSet, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    """Relative weight of each set, by its name; unlisted sets have weight 1. Empty: all rewrites are equally likely."""
    max_rewrites: int | None = None
    """Upper bound on the rewrites read per sample. None: no bound."""
    expected_rewrites: int = 0
    """Rewrites per sample that each set will have, if rewriting still runs; else 0."""
    scores: tuple[str, ...] = ()
    """The stored scores to read with each rewrite."""
    refused: RefusedShare = "others"
    """Where the share of a refused rewrite goes."""
    counts: tuple[int, ...] | None = None
    """Of each set, the most rewrites that a sample can have (`counted`). None: not known yet."""

    def rewrites(self, shard_name: str) -> ShardRewrites | None:
        """The accepted rewrites of a shard, from all sets.

        Returns:
            Rewrites by (id, caption hash); None if no set has committed the shard.
        """
        joined: dict[SampleKey, dict[int, Slots]] = {}
        is_committed = False
        for number, rewrite_set in enumerate(self.sets):
            slots = _slots(rewrite_set, shard_name, self.scores)
            if slots is None:
                continue
            # Sets made with other settings may know a sample by another id.
            renamed = renamed_samples([*slots], [*joined]) if is_committed else {}
            is_committed = True
            for key, of_sample in slots.items():
                joined.setdefault(renamed.get(key, key), {})[number] = of_sample
        if not is_committed:
            return None
        merge = self._merger()
        return ShardRewrites({key: merge(of_sets) for key, of_sets in joined.items()})

    def _merger(self) -> Callable[[Mapping[int, Slots]], Rewrites]:
        """Merges a sample's slots, given by the number of the set, into its rewrites."""
        weights = [self.weights.get(rewrite_set.name, 1.0) for rewrite_set in self.sets] if self.weights else None
        if self.refused == "others":
            return partial(merge_accepted, weights=weights, scores=self.scores, limit=self.max_rewrites)
        assert self.counts is not None, "the sets' rewrites are counted before any is shown"
        return partial(merge_slots, counts=self.counts, weights=weights, scores=self.scores, limit=self.max_rewrites)

    def counted(self) -> "RewriteSets":
        """These sets with their `counts`; reads the origins of all shards."""
        return replace(self, counts=tuple(self._most_of(rewrite_set) for rewrite_set in self.sets))

    def most_rewrites(self) -> int:
        """M: the largest number of rewrites that a sample can have."""
        counts = self.counted().counts if self.counts is None else self.counts
        most = sum(counts or ())
        return most if self.max_rewrites is None else min(most, self.max_rewrites)

    def _most_of(self, rewrite_set: RewriteSet) -> int:
        listed = rewrite_set.listed()
        committed = rewrite_set.committed(listed)
        described = committed.files()
        others = {shard: revision for shard, revision in listed.drawn.items() if (shard, revision) not in described}
        counts = (origin.rewrites_per_set for origin in rewrite_set.origins(others).values())
        most: int = max(chain([self.expected_rewrites], committed.rows.column("rewrites_per_set"), counts))
        return most

    def revisions(self) -> dict[str, int | None]:
        """The newest revision read from each set, by its redacted location; None: rewriting still adds to the set."""
        return {redact(rewrite_set.location): rewrite_set.newest_revision for rewrite_set in self.sets}

    def pinned_at(self, revisions: Mapping[str, int | None]) -> "RewriteSets":
        """These sets, pinned at revisions that `revisions()` returned before.

        Args:
            revisions: by location. A set that has no entry, or None, keeps its own revision.
        """

        def revision_of(rewrite_set: RewriteSet) -> int | None:
            earlier = revisions.get(redact(rewrite_set.location))
            return rewrite_set.newest_revision if earlier is None else earlier

        sets = (replace(rewrite_set, newest_revision=revision_of(rewrite_set)) for rewrite_set in self.sets)
        return replace(self, sets=tuple(sets))

    def describe(self) -> list[CommittedTable]:
        """Of each set, the metadata of the shards committed now."""
        return [rewrite_set.committed() for rewrite_set in self.sets]

    def lineage(self, described: Sequence[Mapping[str, Committed]] | None = None) -> list[dict[str, Any]]:
        """One JSON object per set: its recipe's fingerprint, and a digest of its committed shards.

        Args:
            described: from `describe`. None: as the sets are now.
        """
        described = self.describe() if described is None else described
        return [_lineage(rewrite_set, shards) for rewrite_set, shards in zip(self.sets, described, strict=True)]


def _slots(rewrite_set: RewriteSet, shard_name: str, scores: Sequence[str]) -> dict[SampleKey, Slots] | None:
    """The slots of a shard's samples; None if it is not committed, or if a file is damaged."""
    try:
        return rewrite_set.slots(shard_name, scores)
    except UserError as error:
        logger.warning("%s: its samples show captions: %s", shard_name, error)
        return None


def _lineage(rewrite_set: RewriteSet, shards: Mapping[str, Committed]) -> dict[str, Any]:
    fingerprint = read_recipe(rewrite_set.location, lambda content: str(content["fingerprint"]))
    return {
        "location": redact(rewrite_set.location),
        "fingerprint": fingerprint,
        "gate": rewrite_set.gate,
        "newest_revision": rewrite_set.newest_revision,
        "committed_shards": len(shards),
        "committed_digest": fingerprint_of({name: shard.digest for name, shard in shards.items()}),
    }


def check_weights(selection: SetSelection) -> None:
    """Refuse weights that cannot be applied; the sets need not exist yet.

    Raises:
        UserError: a weight names no set of the selection, or every set has weight 0.
    """
    if unknown := selection.weights.keys() - {*selection.names}:
        raise UserError(
            f"text.weights: there is no rewrite set {min(unknown)!r}; the sets are {', '.join(selection.names)}"
            f"{did_you_mean(min(unknown), selection.names)}"
        )
    if not any(selection.weight(name) for name in selection.names):
        raise UserError("text.weights: every rewrite set has weight 0, so no rewrite would be shown; set text.p=0")


def configured_sets(selection: SetSelection) -> RewriteSets:
    """The selected sets at their current revisions: revisions written later are not read."""
    sets = tuple(RewriteSet(location, selection.gate).pinned() for location in selection.locations)
    return RewriteSets(
        sets, selection.weights, selection.max_rewrites, scores=selection.scores, refused=selection.refused
    )


def committed_sets(selection: SetSelection, grow: bool = False) -> RewriteSets:
    """The rewrite sets that training reads; sets of weight 0 are left out.

    Args:
        selection: which sets.
        grow: whether rewriting still adds to the sets. Then the newest revision of each shard is read.

    Raises:
        UserError: a set does not exist, its draws have no verdicts of this gate, or the weights cannot be applied.
    """
    check_weights(selection)
    configured = configured_sets(selection)
    sets = tuple(rewrite_set for rewrite_set in configured.sets if selection.weight(rewrite_set.name))
    for rewrite_set in sets:
        _check_exists(rewrite_set)
        if not grow:
            _check_judged(rewrite_set)
    if grow:
        growing = tuple(replace(rewrite_set, newest_revision=None) for rewrite_set in sets)
        return replace(configured, sets=growing, expected_rewrites=selection.rewrites_per_set)
    return replace(configured, sets=sets)


def readable_sets(selection: SetSelection, names: Collection[str] = ()) -> tuple[RewriteSet, ...]:
    """The selected sets at their current revisions, for inspection and export.

    Args:
        selection: which sets.
        names: only the sets with these names. Empty: all.

    Raises:
        UserError: a set does not exist, has no verdicts of this gate, or shares its name with another.
    """
    sets = configured_sets(selection).sets
    if unknown := [name for name in names if name not in selection.names]:
        raise UserError(
            f"there is no rewrite set {', '.join(unknown)} here; the sets are {', '.join(selection.names)}"
            f"{did_you_mean(unknown[0], selection.names)}"
        )
    if repeated := sorted(name for name, count in Counter(selection.names).items() if count > 1):
        raise UserError(f"text.rewrites: more than one set is named {', '.join(repeated)}")
    chosen = tuple(rewrite_set for rewrite_set in sets if not names or rewrite_set.name in names)
    for rewrite_set in chosen:
        _check_exists(rewrite_set)
        _check_judged(rewrite_set)
    return chosen


def describe_sets(sets: Iterable[RewriteSet]) -> dict[str, CommittedTable]:
    """The metadata of all committed shards, by set and shard."""
    return {rewrite_set.name: rewrite_set.committed() for rewrite_set in sets}


def _check_exists(rewrite_set: RewriteSet) -> None:
    if not storage.exists(storage.join(rewrite_set.location, RECIPE_FILE)):
        raise UserError(
            f"text: there is no rewrite set at {rewrite_set.location}; run `laclip rewrite` or `laclip rewrites "
            "import` first, or name other sets in text.rewrites (to train on captions alone, set text.p=0)"
        )


def _check_judged(rewrite_set: RewriteSet) -> None:
    if not rewrite_set.committed_revisions() and (unjudged := len(rewrite_set.drawn_revisions())):
        raise UserError(
            f"{rewrite_set.location}: {unjudged} shards have rewrites, but no verdicts of this gate; run "
            "`laclip rewrite` with this config to judge them (for an imported set `laclip rewrites import`; neither "
            "needs an engine)"
        )
