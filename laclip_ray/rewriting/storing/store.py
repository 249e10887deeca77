"""One rewrite set in storage: its files, how a shard is committed, and how it is read.

A rewrite set holds what one recipe wrote for a dataset, in a directory of its own:

    recipe.json                                      everything that decides the model's texts, and its fingerprint
    draws/REVISION/SHARD.parquet                     every draw of a shard, in the shard's order (`DRAWS_SCHEMA`)
    verdicts/GATE_FINGERPRINT/REVISION/SHARD.parquet the gate's verdict on each draw (`VERDICTS_SCHEMA`)
    attempts/                                        shards that an engine is generating (`attempts`)
    verdicts/GATE_FINGERPRINT/register.parquet       the metadata of committed shards in one file (`register`)
    summary.json                                     counts over all committed shards

`SHARD` is the shard's name, which is a path; parts that are too long for a file are cut (`shard_files`).
A shard's first draws are revision 0. More rewrites, a retry or changed input write a newer revision with all draws of
the shard, old and new. Older revisions stay, for runs that read them.

Guarantees: the verdicts are written last and commit the shard. Each file appears whole. Draws are never replaced
(`create_draws`), except in stores without conditional puts, by two runs at once. A directory with another recipe is
refused. Each caption of a committed shard has at least one row: a draw, or the reason why it has no draw. Lookups join
by (shard, id, caption hash), or by the row in place of the id, so an edited caption finds no rewrites.

Not covered: removing old revisions.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray import storage
from laclip_ray.creation import create_bytes
from laclip_ray.data.text_choice import SampleKey
from laclip_ray.errors import UserError
from laclip_ray.rewriting.storing import register
from laclip_ray.rewriting.storing.committed import Committed, CommittedTable, Listed, StoredFile
from laclip_ray.rewriting.storing.recipe_file import claim
from laclip_ray.rewriting.storing.score_columns import bytes_of_scores, count_scored, merged_scores, score_columns
from laclip_ray.rewriting.storing.shard_files import path_of_shard, shard_of_path
from laclip_ray.rewriting.storing.shard_reading import read_columns, read_each, read_file, stored_names
from laclip_ray.rewriting.storing.slots import Slots, column_values, slots_of_samples
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import (
    DRAWS_SCHEMA,
    LOG_PROBABILITY,
    SCORES,
    VERDICTS_SCHEMA,
    Origin,
    with_columns_of,
)

_ORIGIN_KEY = b"laclip_ray.origin"
_STATISTICS_KEY = b"laclip_ray.statistics"
_DIGEST_KEY = b"laclip_ray.digest"
_SCORERS_KEY = b"laclip_ray.scorers"
"""A JSON object: by score, the fingerprint of what computed it."""


@dataclass(frozen=True)
class RewriteSet:
    """One rewrite set in storage, with the verdicts of one gate."""

    location: str
    """A directory or URL."""
    gate: str
    """The gate's fingerprint."""
    newest_revision: int | None = None
    """Ignore revisions after this one. None: read all."""

    @property
    def name(self) -> str:
        """The prompt set's name."""
        return storage.name_of(self.location)

    def draws_url(self, shard_name: str, revision: int) -> str:
        """The file of a shard's draws."""
        return storage.join(self.location, "draws", str(revision), f"{path_of_shard(shard_name)}.parquet")

    def verdicts_url(self, shard_name: str, revision: int) -> str:
        """The file of this gate's verdicts on a shard's draws."""
        return storage.join(self.location, "verdicts", self.gate, str(revision), f"{path_of_shard(shard_name)}.parquet")

    def drawn_revisions(self) -> dict[str, int]:
        """The newest revision of each shard that has draws."""
        return dict(sorted(self._files("draws")))

    def committed_revisions(self) -> dict[str, int]:
        """The newest revision of each shard that has draws and this gate's verdicts on them."""
        return dict(self.listed().committed)

    def listed(self) -> Listed:
        """The files that the set has now."""
        with ThreadPoolExecutor(2) as pool:  # one listing waits for the store while the other is parsed
            draws, verdicts = pool.map(lambda parts: self._files(*parts), (("draws",), ("verdicts", self.gate)))
        committed = {
            name: revision
            for name, revision in sorted(verdicts)
            if any((stored, revision) in draws for stored in stored_names(name))
        }
        identities = {file: identity for file, identity in verdicts.items() if identity}
        return Listed(dict(sorted(draws)), committed, identities)

    def verdict_identities(self) -> dict[StoredFile, str]:
        """The identity of every file of this gate's verdicts; empty if its store tells no changes."""
        return self._files("verdicts", self.gate)

    def _files(self, *parts: str) -> dict[StoredFile, str]:
        """Every Parquet file below a directory of revisions, with its identity; empty if its store tells no changes."""
        files = {}
        for path, entry in storage.iterate_entries(storage.join(self.location, *parts)):
            revision, _, name = path.partition("/")
            if not (name.endswith(".parquet") and revision.isdigit()):
                continue
            if self.newest_revision is None or int(revision) <= self.newest_revision:
                files[shard_of_path(name.removesuffix(".parquet")), int(revision)] = storage.known_identity(entry)
        return files

    @property
    def register_url(self) -> str:
        """The register of this gate's committed shards."""
        return storage.join(self.location, "verdicts", self.gate, register.FILE_NAME)

    def committed(self, listed: Listed | None = None, wanted: Mapping[str, int] | None = None) -> CommittedTable:
        """The metadata of committed shards, from the register where it is up to date, else from the shards' files.

        Args:
            listed: from `listed`. None: list now.
            wanted: the revision of each shard to describe, by name. None: all that are committed.
        """
        listed = self.listed() if listed is None else listed
        wanted = listed.committed if wanted is None else wanted
        rows = register.read_register(self.register_url, listed.identities, wanted)
        known = set(rows.column("shard"))
        others = {name: revision for name, revision in wanted.items() if name not in known}
        return CommittedTable.of(self.describe(others), rows)

    def save_register(self, committed: CommittedTable, listed: Listed) -> None:
        """Write the register, unless it has all of these shards.

        Args:
            committed: by shard.
            listed: the files that `committed` was read from.
        """
        files = committed.files() & listed.identities.keys()
        if files - register.registered_files(self.register_url, listed.identities):
            register.write_register(self.register_url, committed.rows, listed.identities)

    def pinned(self) -> "RewriteSet":
        """This set with the revisions that exist now; later ones are ignored."""
        directory = storage.join(self.location, "draws")
        revisions = [int(name) for name in storage.list_directories(directory) if name.isdigit()]
        return replace(self, newest_revision=max(revisions, default=0))

    def committed_revision(self, shard_name: str) -> int | None:
        """The revision that readers of a shard get; None if the shard is not committed."""
        if self.newest_revision is None:
            return self.pinned().committed_revision(shard_name)
        for revision in range(self.newest_revision, -1, -1):
            if any(storage.exists(self.verdicts_url(name, revision)) for name in stored_names(shard_name)):
                return revision
        return None

    def read(self, shard_name: str, revision: int) -> pa.Table:
        """The draws of a committed shard with the columns `reason` (null: accepted) and `SCORES`.

        Raises:
            UserError: the verdicts belong to other draws, or a file is damaged.
        """
        draws = self.read_draws(shard_name, revision)
        verdicts = read_file(self.verdicts_url, shard_name, revision, storage.read_parquet)
        if not _belong_together(draws, verdicts):
            raise UserError(
                f"{self.verdicts_url(shard_name, revision)} belongs to other draws than those in storage: two runs "
                "wrote this shard at once. Remove the file and run `laclip rewrite` again"
            )
        verdicts = with_columns_of(verdicts, VERDICTS_SCHEMA)
        for name in ("reason", *SCORES):
            draws = draws.append_column(VERDICTS_SCHEMA.field(name), verdicts.column(name))
        return draws

    def read_draws(self, shard_name: str, revision: int) -> pa.Table:
        """The draws of a shard.

        Raises:
            UserError: the file is damaged.
            FileNotFoundError: the shard has no draws of this revision.
        """
        draws = read_file(self.draws_url, shard_name, revision, storage.read_parquet)
        return with_columns_of(draws, DRAWS_SCHEMA)

    def stored_scores(
        self, shard_name: str, revision: int, scorers: Mapping[str, str]
    ) -> Mapping[str, pa.Array] | None:
        """The scores of a shard's draws that the same scorers computed for any gate of this set.

        A gate with other thresholds reuses them, and so needs no model.

        Args:
            shard_name: the shard.
            revision: the revision of its draws.
            scorers: by score, the fingerprint of what computes it, as given to `commit_verdicts`.

        Returns:
            For each score in `scorers`, a value for each draw, in the draws' order; null: no gate has scored the draw.
            None: no gate has stored any of these scores.

        Raises:
            FileNotFoundError: the shard has no draws of this revision.
        """
        draws_id = self.origin(shard_name, revision).draws_id

        def read(url: str) -> pa.Table | None:
            metadata = storage.read_parquet_metadata(url)
            stored = json.loads(metadata.get(_SCORERS_KEY, b"{}"))
            names = [name for name, fingerprint in scorers.items() if stored.get(name) == fingerprint]
            if not names or Origin.from_json(metadata[_ORIGIN_KEY]).draws_id != draws_id:
                return None
            return storage.read_parquet(url, names)

        parts = []
        for gate in storage.list_directories(storage.join(self.location, "verdicts")):
            # A damaged file of another gate is as good as a missing one: the scores can be computed again.
            with contextlib.suppress(FileNotFoundError, UserError):
                parts.append(read_file(replace(self, gate=gate).verdicts_url, shard_name, revision, read))
        return merged_scores((part for part in parts if part is not None), scorers)

    def accepted(self, shard_name: str) -> dict[SampleKey, list[str]] | None:
        """The accepted rewrites of a shard's samples.

        Returns:
            Texts in the order of their slots, by (id, caption hash) in the shard's order; a sample without an accepted
            rewrite has an empty list. None if the shard is not committed.

        Raises:
            UserError: a file is damaged.
        """
        slots = self.slots(shard_name)
        if slots is None:
            return None
        return {
            key: [rewrite.text for rewrite in of_sample.values() if rewrite is not None]
            for key, of_sample in slots.items()
        }

    def slots(self, shard_name: str, scores: Sequence[str] = ()) -> dict[SampleKey, Slots] | None:
        """The slots of a shard's samples, each with its accepted rewrite.

        Args:
            shard_name: the shard.
            scores: names of the scores to read.

        Returns:
            By (id, caption hash), in the shard's order. None if the shard is not committed.

        Raises:
            UserError: a file is damaged.
        """
        if self.newest_revision is None:
            return self.pinned().slots(shard_name, scores)
        columns = ["id", "caption_hash", "draw", "reason", *scores]
        for revision in range(self.newest_revision, -1, -1):
            try:
                verdicts = read_file(self.verdicts_url, shard_name, revision, read_columns(columns))
            except FileNotFoundError:
                continue
            draws = read_file(self.draws_url, shard_name, revision, read_columns(["text", *scores]))
            return slots_of_samples(verdicts, draws, scores) if _belong_together(draws, verdicts) else None
        return None

    def samples(self, shard_name: str, revision: int) -> list[SampleKey]:
        """(id, caption hash) of the samples that a shard's draws were made for, in the shard's order."""
        draws = read_file(self.draws_url, shard_name, revision, read_columns(["id", "caption_hash"]))
        return list(dict.fromkeys(zip(column_values(draws, "id"), column_values(draws, "caption_hash"), strict=True)))

    def describe(self, revisions: Mapping[str, int]) -> dict[str, Committed]:
        """Read the metadata of committed shards.

        Args:
            revisions: the revision of each shard, by name.
        """
        return read_each(revisions, self._describe)

    def _describe(self, shard_name: str, revision: int) -> Committed:
        def read(url: str) -> Committed:
            metadata = storage.read_parquet_metadata(url)
            return Committed(
                revision,
                Origin.from_json(metadata[_ORIGIN_KEY]),
                Statistics.from_json(json.loads(metadata[_STATISTICS_KEY])),
                metadata[_DIGEST_KEY].decode(),
            )

        return read_file(self.verdicts_url, shard_name, revision, read)

    def origin(self, shard_name: str, revision: int) -> Origin:
        """The input that a shard's draws were made from."""

        def read(url: str) -> Origin:
            return Origin.from_json(storage.read_parquet_metadata(url)[_ORIGIN_KEY])

        return read_file(self.draws_url, shard_name, revision, read)

    def origins(self, revisions: Mapping[str, int]) -> dict[str, Origin]:
        """The input that the draws of shards were made from.

        Args:
            revisions: the revision of each shard, by name.
        """
        return read_each(revisions, self.origin)


def of_shards(revisions: Mapping[str, int], shard_names: Iterable[str]) -> dict[str, int]:
    """The revisions of shards by their present names, from revisions by the names in storage."""
    found = {}
    for name in shard_names:
        newest = max((revisions[stored] for stored in stored_names(name) if stored in revisions), default=None)
        if newest is not None:
            found[name] = newest
    return found


def _belong_together(draws: pa.Table, verdicts: pa.Table) -> bool:
    return _origin_in(draws).draws_id == _origin_in(verdicts).draws_id


def open_for_writing(location: str, recipe: Mapping[str, Any], gate: str, setting: str) -> RewriteSet:
    """Claim a directory for a recipe, or recognise that it holds this recipe already.

    Args:
        location: a directory or URL.
        recipe: from `build_recipe`.
        gate: the fingerprint of the gate whose verdicts are written.
        setting: the config key of `location`, for messages.

    Raises:
        UserError: the directory holds another recipe's rewrites, or other files.
    """
    claim(location, recipe, setting)
    return RewriteSet(location, gate)


def write_draws(rewrite_set: RewriteSet, shard_name: str, revision: int, draws: pa.Table, origin: Origin) -> None:
    """Write a shard's draws; `commit_verdicts` commits the shard afterwards.

    Args:
        rewrite_set: the set to write to.
        shard_name: the shard.
        revision: the revision to write.
        draws: rows of `DRAWS_SCHEMA`, perhaps with more columns, in the order of sample, slot, attempt.
        origin: the input that the draws were made from.
    """
    storage.write_parquet(rewrite_set.draws_url(shard_name, revision), _draws_table(draws, origin))


def create_draws(rewrite_set: RewriteSet, shard_name: str, revision: int, draws: pa.Table, origin: Origin) -> bool:
    """Write a shard's draws as `write_draws` does, unless there are draws of this revision.

    Of several writers, one succeeds.

    Returns:
        Whether they were written. Draws in storage may be of this call, if the store's first answer was lost.
    """
    content = storage.parquet_bytes(_draws_table(draws, origin))
    return create_bytes(rewrite_set.draws_url(shard_name, revision), content)


def _draws_table(draws: pa.Table, origin: Origin) -> pa.Table:
    table = draws.select(DRAWS_SCHEMA.names).cast(DRAWS_SCHEMA)
    return table.replace_schema_metadata({_ORIGIN_KEY: origin.to_json().encode()})


def _origin_in(table: pa.Table) -> Origin:
    """The origin that a table of a shard's draws or verdicts was written with."""
    return Origin.from_json(table.schema.metadata[_ORIGIN_KEY])


def commit_verdicts(
    rewrite_set: RewriteSet,
    shard_name: str,
    revision: int,
    draws: pa.Table,
    reasons: pa.Array,
    origin: Origin,
    scores: Mapping[str, pa.Array] | None = None,
    scorers: Mapping[str, str] | None = None,
) -> Statistics:
    """Commit a shard: write the gate's verdicts and scores of its draws.

    Args:
        rewrite_set: the set to write to.
        shard_name: the shard.
        revision: the revision of the draws.
        draws: the shard's draws, as written.
        reasons: why the gate refused each draw, in the same order; null: accepted.
        origin: the origin that the draws were written with.
        scores: by name (of `SCORES`), the score of each draw, in the same order; null: not scored.
        scorers: by score, the fingerprint of what computed it: the model and everything else that decides the values.
            `stored_scores` finds the scores by it.

    Returns:
        The shard's counts, which are in the file's metadata too.
    """
    draws = with_columns_of(draws, DRAWS_SCHEMA)
    columns = score_columns(scores, draws.num_rows)
    statistics = Statistics.of(draws, reasons)
    statistics.scored.update(count_scored(draws, reasons, columns))
    statistics.engine_s, statistics.gpu_s = origin.engine_s, origin.gpu_s
    table = pa.table(
        [
            *(draws.column(name) for name in ("id", "caption_hash", "draw", "attempt")),
            reasons,
            *(columns[name] for name in SCORES),
        ],
        schema=VERDICTS_SCHEMA.with_metadata(
            {
                _ORIGIN_KEY: origin.to_json().encode(),
                _STATISTICS_KEY: json.dumps(statistics.to_json()).encode(),
                _DIGEST_KEY: _digest(draws, reasons, columns).encode(),
                _SCORERS_KEY: json.dumps(dict(scorers or {}), sort_keys=True).encode(),
            }
        ),
    )
    storage.write_parquet(rewrite_set.verdicts_url(shard_name, revision), table)
    return statistics


def restamp_verdicts(rewrite_set: RewriteSet, shard_name: str, revision: int, origin: Origin) -> None:
    """Record another origin for a committed shard whose content is the same."""

    def restamp(url: str) -> None:
        verdicts = storage.read_parquet(url)
        metadata = {**verdicts.schema.metadata, _ORIGIN_KEY: origin.to_json().encode()}
        storage.write_parquet(url, verdicts.replace_schema_metadata(metadata))

    read_file(rewrite_set.verdicts_url, shard_name, revision, restamp)


def _digest(draws: pa.Table, reasons: pa.Array, scores: Mapping[str, pa.Array]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for column in (draws.column("id"), draws.column("caption_hash"), draws.column("text"), reasons):
        digest.update("\0".join(pc.fill_null(column, "").to_pylist()).encode())
        digest.update(b"\1")
    digest.update(bytes_of_scores({LOG_PROBABILITY: draws.column(LOG_PROBABILITY), **scores}))
    return digest.hexdigest()
