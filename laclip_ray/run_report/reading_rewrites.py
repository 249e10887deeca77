"""Read the rewrites of a run for its report.

Guarantees: bounded work for a run of any size. Statistics come from the metadata of at most `_SHARDS_COUNTED` shards
of a set, or from its summary; samples, vocabulary and scores from the first rows of `_SHARDS_READ` shards. Damaged
files are named, and the rest is read.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.data.sample_pictures import ROWS, PlacedKey
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.reporting.gallery import ACCEPTED, Rewrite, RewrittenSample
from laclip_ray.rewriting.shown_draws import Caption, Draw, add_draws, choose, choose_shards
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE, read_recipe
from laclip_ray.rewriting.storing.score_columns import score_ranges
from laclip_ray.rewriting.storing.shard_files import shard_of_path
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import LOG_PROBABILITY, SCORES
from laclip_ray.run_report.facts import RewritingFacts, SetFacts
from laclip_ray.run_report.pictures import pictures_of_run
from laclip_ray.run_report.vocabulary import Vocabulary
from laclip_ray.status.damage import Damage
from laclip_ray.status.listing import list_below

_SHARDS_READ = 6
_SHARDS_COUNTED = 256
_UNREADABLE = (UserError, OSError, KeyError, ValueError)
"""What readers of damaged files raise."""
_REFUSED = "refused"


def read_rewriting(
    locations: Sequence[str],
    gate: str | None,
    experiment: Mapping[str, Any],
    captions: int,
    seed: int,
    damage: Damage,
) -> RewritingFacts | None:
    """Read rewrite sets; None if no shard is committed.

    Args:
        locations: of the sets, with different names.
        gate: the fingerprint of the gate whose verdicts count; without such verdicts, the newest gate's count.
        experiment: the run's config as JSON; empty: not known, so there are no pictures.
        captions: how many to show.
        seed: decides which.
        damage: gets a sentence for each damaged file.
    """
    committed = _committed_of(locations, gate)
    if not committed:
        return None
    sets = [_set_facts(each, damage) for each in committed]
    every_shard = {shard for each in committed for shard in each.shards}
    reading = _read_draws(committed, every_shard, seed, damage)
    shown = choose([*reading.captions.values()], captions, seed)
    pictures, notes = pictures_of_run(experiment, [caption.key for caption in shown], len(every_shard))
    summary = damage.read_json(
        storage.join(locations[0].rstrip("/").rpartition("/")[0], "summary.json"),
        "the summary of rewriting",
        "`laclip rewrite` writes it again",
        dict,
    )
    return RewritingFacts(
        sets,
        [_sample(caption, pictures) for caption in shown],
        reading.shards,
        reading.vocabulary(),
        reading.scores,
        {name: score_ranges(tables) for name, tables in reading.tables.items()},
        summary or {},
        notes,
    )


def read_samples_of(
    locations: Sequence[str],
    gate: str,
    experiment: Mapping[str, Any],
    reasons: Collection[str],
    captions: int,
    seed: int,
    damage: Damage,
) -> tuple[list[RewrittenSample], list[str]]:
    """Samples of rewrite sets for a gallery alone, and notes on missing pictures; other arguments as above.

    Args:
        locations: of the sets.
        gate: as above.
        experiment: as above.
        reasons: show only draws refused for one of these, or `ACCEPTED` ones. Empty: all.
        captions: as above.
        seed: as above.
        damage: as above.
    """
    committed = _committed_of(locations, gate)
    every_shard = {shard for each in committed for shard in each.shards}
    found = [*_read_draws(committed, every_shard, seed, damage).captions.values()]
    if reasons:
        for caption in found:
            caption.draws = [draw for draw in caption.draws if (draw.reason or ACCEPTED) in reasons]
        found = [caption for caption in found if caption.draws]
    shown = choose(found, captions, seed)
    pictures, notes = pictures_of_run(experiment, [caption.key for caption in shown], len(every_shard))
    return [_sample(caption, pictures) for caption in shown], notes


@dataclass(frozen=True)
class _CommittedSet:
    """The committed shards of a set, by one gate."""

    rewrite_set: RewriteSet
    shards: Mapping[str, int]
    """The newest revision of each."""


def _committed_of(locations: Sequence[str], gate: str | None) -> list[_CommittedSet]:
    """The sets that have committed shards."""
    found = []
    for location in locations:
        chosen, shards = _committed(location, gate)
        if shards:
            found.append(_CommittedSet(RewriteSet(location, chosen), shards))
    return found


def _read_draws(committed: Sequence[_CommittedSet], shards: Collection[str], seed: int, damage: Damage) -> "_Reading":
    """The draws of a few shards of every set."""
    chosen = choose_shards(shards, _SHARDS_READ, seed)
    reading = _Reading(damage)
    for each in committed:
        for shard in chosen:
            if (revision := each.shards.get(shard)) is not None:
                reading.read(each.rewrite_set, shard, revision)
    return reading


def _committed(location: str, wanted: str | None) -> tuple[str, dict[str, int]]:
    """The wanted gate, or else the one that judged last, and the newest revision of each shard; by one listing."""
    newest_s: dict[str, float] = {}
    shards: dict[str, dict[str, int]] = {}
    for file in list_below(storage.join(location, "verdicts")):
        gate, _, below = file.path.partition("/")
        revision, _, path = below.partition("/")
        if revision.isdigit() and path.endswith(".parquet"):
            of_gate = shards.setdefault(gate, {})
            name = shard_of_path(path.removesuffix(".parquet"))
            of_gate[name] = max(int(revision), of_gate.get(name, 0))
            newest_s[gate] = max(newest_s.get(gate, 0.0), file.modified_s or 0.0)
    if not shards:
        return "", {}
    gate = wanted if wanted in shards else max(newest_s, key=lambda name: (newest_s[name], name))
    return gate, shards[gate]


def _set_facts(committed: _CommittedSet, damage: Damage) -> SetFacts:
    rewrite_set, shards = committed.rewrite_set, committed.shards
    url, counted = rewrite_set.location, shards
    statistics: Statistics | None = None
    if len(shards) > _SHARDS_COUNTED:
        statistics = damage.read_json(
            storage.join(url, "summary.json"), "the summary of this set", "remove it", Statistics.from_json
        )
        chosen = sorted(shards, key=lambda shard: hash64("counted", shard))[:_SHARDS_COUNTED]
        counted = shards if statistics is not None else {shard: shards[shard] for shard in chosen}
    if statistics is None:
        statistics = Statistics()
        for described in _described(rewrite_set, counted, damage):
            statistics.add(described.statistics)
    recipe: dict[str, Any] = {}
    if storage.exists(storage.join(url, RECIPE_FILE)):
        try:
            recipe = read_recipe(url, dict)
        except UserError as error:
            damage.found.append(str(error))
    return SetFacts(rewrite_set.name, url, rewrite_set.gate, len(shards), statistics, len(counted), recipe)


def _described(rewrite_set: RewriteSet, shards: Mapping[str, int], damage: Damage) -> list[Committed]:
    """The metadata of shards; those whose files are damaged are named and left out."""
    try:
        return [*rewrite_set.describe(shards).values()]
    except _UNREADABLE:
        found: list[Committed] = []
        for shard, revision in shards.items():
            try:
                found += rewrite_set.describe({shard: revision}).values()
            except _UNREADABLE as error:
                damage.found.append(_damaged(rewrite_set.location, shard, error))
        return found


def _damaged(location: str, shard: str, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{location}: the rewrites of shard {shard} cannot be read ({error}). `laclip rewrite` makes them again"


class _Reading:
    """The draws of the chosen shards."""

    def __init__(self, damage: Damage) -> None:
        self.captions: dict[PlacedKey, Caption] = {}
        self.scores: dict[str, dict[str, list[float]]] = {}
        self.tables: dict[str, list[pa.Table]] = {}
        self.shards = 0
        self._texts: dict[str, list[str]] = {}
        self._damage = damage

    def read(self, rewrite_set: RewriteSet, shard: str, revision: int) -> None:
        """Read the first draws of a shard."""
        try:
            table = rewrite_set.read(shard, revision)
        except _UNREADABLE as error:
            self._damage.found.append(_damaged(rewrite_set.location, shard, error))
            return
        self.shards += 1
        name = rewrite_set.name
        self.tables.setdefault(name, []).append(table.select(["reason", *SCORES, LOG_PROBABILITY]))
        for draw in add_draws(self.captions, table, shard, name, ROWS):
            if not draw.text:
                continue
            if draw.reason is None:
                self._texts.setdefault(name, []).append(draw.text)
            group = ACCEPTED if draw.reason is None else _REFUSED
            for score, value in draw.scores.items():
                self.scores.setdefault(score, {}).setdefault(group, []).append(value)

    def vocabulary(self) -> dict[str, Vocabulary]:
        """Of the captions, and by set of its accepted rewrites."""
        captions = [caption.text for caption in self.captions.values() if caption.text]
        found = {"captions": Vocabulary.of(captions)} if captions else {}
        return {**found, **{name: Vocabulary.of(texts) for name, texts in self._texts.items()}}


def _sample(caption: Caption, pictures: Mapping[PlacedKey, bytes]) -> RewrittenSample:
    several = {draw.prompt_set for draw in caption.draws if draw.slot}
    rewrites = [
        Rewrite(draw.prompt_set, draw.text or "", draw.reason, _facts(draw, draw.prompt_set in several))
        for draw in caption.draws
    ]
    return RewrittenSample(caption.key[1], pictures.get(caption.key), caption.text, tuple(rewrites))


def _facts(draw: Draw, is_one_of_several: bool) -> tuple[str, ...]:
    facts = [f"rewrite {draw.slot + 1}"] if is_one_of_several else []
    facts += ["drawn again"] if draw.attempt else []
    shown = {LOG_PROBABILITY: "log p", "caption_picture": "caption to picture"}
    return (*facts, *(f"{shown.get(name, name)} {value:.2f}" for name, value in draw.scores.items()))
