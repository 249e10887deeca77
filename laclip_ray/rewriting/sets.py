"""The rewrite sets that training, inspection and export read."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.data.text_choice import Rewrites
from laclip_ray.errors import UserError
from laclip_ray.rewriting.prompts import load_prompt_set
from laclip_ray.rewriting.recipe import fingerprint_of, gate_fingerprint
from laclip_ray.rewriting.store import RewriteSet


@dataclass(frozen=True)
class RewriteSets:
    """The rewrite sets that a training run reads, in order."""

    sets: tuple[RewriteSet, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    """How often a rewrite is of which set, by the set's name, not 0; empty: every rewrite is as likely as any other."""
    max_rewrites: int | None = None
    """The most that are read of a sample."""
    still_made: int = 0
    """Rewrites a sample that each set will have, where they are being made while they are read."""

    def rewrites(self, shard_name: str) -> dict[tuple[str, str], Rewrites] | None:
        """Accepted rewrites by (id, caption hash), all sets joined; None if no set has the shard."""
        found = [(each.name, part) for each in self.sets if (part := each.accepted(shard_name)) is not None]
        if not found:
            return None
        joined: dict[tuple[str, str], list[tuple[str, list[str]]]] = {}
        for name, part in found:
            for key, texts in part.items():
                joined.setdefault(key, []).append((name, texts))
        return {key: self._rewrites(parts) for key, parts in joined.items()}

    def _rewrites(self, parts: Sequence[tuple[str, list[str]]]) -> Rewrites:
        """Rewrites of a sample by set's name; those of one set share its weight."""
        texts = [text for _, some in parts for text in some][: self.max_rewrites]
        if not self.weights:
            return Rewrites(texts)
        names = [name for name, some in parts for _ in some][: self.max_rewrites]
        sizes = Counter(names)
        return Rewrites(texts, [self.weights.get(name, 1.0) / sizes[name] for name in names])

    def most_rewrites(self) -> int:
        """M: how many rewrites a sample has at most."""
        most = sum(
            max(
                [
                    self.still_made,
                    *(origin.rewrites_per_set for origin in each.origins(each.drawn_revisions()).values()),
                ]
            )
            for each in self.sets
        )
        return most if self.max_rewrites is None else min(most, self.max_rewrites)

    def revisions(self) -> dict[str, int | None]:
        """The newest revision that is read of each set, by location."""
        return {each.location: each.newest_revision for each in self.sets}

    def pinned_at(self, revisions: Mapping[str, int | None]) -> "RewriteSets":
        """These sets at the revisions that `revisions` gave before; one of which it has none stays as it is."""

        def revision_of(each: RewriteSet) -> int | None:
            known = revisions.get(each.location)  # None too of a set that was being made then
            return each.newest_revision if known is None else known

        pinned = tuple(RewriteSet(each.location, each.gate, revision_of(each)) for each in self.sets)
        return replace(self, sets=pinned)

    def lineage(self) -> list[dict[str, Any]]:
        """Each set by its recipe's fingerprint and a digest of the shards that are committed now."""
        return [_lineage(each) for each in self.sets]


def _lineage(each: RewriteSet) -> dict[str, Any]:
    recipe = storage.read_json(storage.join(each.location, "recipe.json"))
    committed = each.describe(each.committed_revisions())
    return {
        "location": each.location,
        "fingerprint": recipe["fingerprint"],
        "gate": each.gate,
        "newest_revision": each.newest_revision,
        "committed_shards": len(committed),
        "committed_digest": fingerprint_of({shard: known.digest for shard, known in committed.items()}),
    }


def check_weights(experiment: Experiment) -> None:
    """Refuse weights of rewrite sets that are not read, whether the sets exist yet or not.

    Raises:
        UserError: there is no such set, or every set has 0.
    """
    weights = experiment.text.weights
    names = [storage.name_of(location) for location in _locations(experiment)]
    if unknown := weights.keys() - set(names):
        raise UserError(f"text.weights: there is no rewrite set {min(unknown)!r}; the sets are {', '.join(names)}")
    if not any(weights.get(name, 1.0) for name in names):
        raise UserError(
            "text.weights: every rewrite set has 0, so that no rewrite is ever shown; set text.p=0 for that"
        )


def _locations(experiment: Experiment) -> list[str]:
    return experiment.text.rewrites or [
        storage.join(experiment.rewrite_output, load_prompt_set(name).name) for name in experiment.rewrite.prompt_sets
    ]


def configured_sets(experiment: Experiment) -> RewriteSets:
    """The rewrite sets that `text.rewrites` names, else those that rewriting with this experiment makes.

    Revisions that are made later are not read.
    """
    gate = gate_fingerprint(experiment.rewrite.gate)
    sets = tuple(RewriteSet(location, gate).pinned() for location in _locations(experiment))
    return RewriteSets(sets, experiment.text.weights, experiment.text.max_rewrites)


def committed_sets(experiment: Experiment, grow: bool = False) -> RewriteSets:
    """The rewrite sets that training reads.

    Args:
        experiment: the configuration.
        grow: whether they are being made while they are read; then the newest revision of each shard is read.

    Raises:
        UserError: a set does not exist, or its draws have no verdicts of this experiment's gate, or the weights are of
            other sets.
    """
    check_weights(experiment)
    sets = configured_sets(experiment)
    sets = replace(sets, sets=tuple(each for each in sets.sets if sets.weights.get(each.name, 1.0)))
    for each in sets.sets:
        if not storage.exists(storage.join(each.location, "recipe.json")):
            raise UserError(
                f"text: rewrites are to be shown, but there is no rewrite set at {each.location}; "
                "run `laclip rewrite` first, name other sets in text.rewrites, or set text.p=0"
            )
        if not grow and not each.committed_revisions() and (unjudged := len(each.drawn_revisions())):
            raise UserError(
                f"{each.location}: {unjudged} shards have rewrites, but no verdicts of this gate; run `laclip rewrite` "
                "with this config to judge them (no engine is needed)"
            )
    if grow:
        live = tuple(RewriteSet(each.location, each.gate) for each in sets.sets)
        return replace(sets, sets=live, still_made=experiment.rewrite.rewrites_per_set)
    return sets


def readable_sets(experiment: Experiment, names: Collection[str] = ()) -> tuple[RewriteSet, ...]:
    """The rewrite sets that training with this experiment would read, as they are now.

    Args:
        experiment: the configuration.
        names: only these of them.

    Raises:
        UserError: a set does not exist, has no verdicts of this experiment's gate, or shares its name with another.
    """
    sets = configured_sets(experiment).sets
    known = [each.name for each in sets]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no rewrite set {', '.join(unknown)} here; there is {', '.join(known)}")
    if repeated := sorted({name for name in known if known.count(name) > 1}):
        raise UserError(f"text.rewrites: more than one set is named {', '.join(repeated)}")
    found = tuple(each for each in sets if not names or each.name in names)
    for each in found:
        if not storage.exists(storage.join(each.location, "recipe.json")):
            raise UserError(
                f"there is no rewrite set at {each.location}; run `laclip rewrite` or `laclip rewrites import` first, "
                "or name other sets in text.rewrites"
            )
        if not each.committed_revisions() and (unjudged := len(each.drawn_revisions())):
            raise UserError(
                f"{each.location}: {unjudged} shards have rewrites, but no verdicts of this gate; run `laclip rewrite` "
                "(or for an imported set `laclip rewrites import`) with this config to judge them"
            )
    return found
