"""Rewrite sets in storage: what is in them, how a shard is committed, and how training reads them.

A rewrite set is what one recipe wrote for a dataset, in a directory of its own:

    recipe.json                                      all that decides what the model writes, and its fingerprint
    draws/REVISION/SHARD.parquet                     every draw of a shard, in the shard's order
    verdicts/GATE_FINGERPRINT/REVISION/SHARD.parquet the gate's answer to each of them
    attempts/                                        shards that are being generated (`ledger`)
    summary.json                                     counts over all committed shards

Draws are made once for revision 0. What adds to a shard that has draws (more rewrites, a retry, changed input) writes
all of them, old and new, to a newer revision, and leaves the old one to who reads it.

Guarantees: a shard is committed by its verdicts, which are written last; each file appears whole. Another recipe
in the same place is refused. A caption has at least one row in its shard's files: its draws, or the reason why
there is none. Lookups join by (shard, id, caption hash): an edited caption finds nothing.

Not covered: removing old revisions.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray import storage
from laclip_ray.config import GateConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.recipe import fingerprint_of, gate_fingerprint
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.tables import DRAWS_SCHEMA, VERDICTS_SCHEMA, Origin
from laclip_ray.versions import package_versions

_ORIGIN_KEY = b"laclip_ray.origin"

_STATISTICS_KEY = b"laclip_ray.statistics"

_DIGEST_KEY = b"laclip_ray.digest"


@dataclass(frozen=True)
class Committed:
    """What is known of a committed shard without reading its rows."""

    revision: int
    origin: Origin
    statistics: Statistics
    digest: str
    """Of the draws and their verdicts."""


@dataclass(frozen=True)
class RewriteSet:
    """One rewrite set in storage, as one gate sees it."""

    location: str
    gate: str
    """The gate's fingerprint."""
    newest_revision: int | None = None
    """Revisions after this one are not read. None: all are."""

    @property
    def name(self) -> str:
        """The prompt set's name."""
        return storage.name_of(self.location)

    def draws_url(self, shard_name: str, revision: int) -> str:
        """Where a shard's draws are."""
        return storage.join(self.location, "draws", str(revision), f"{shard_name}.parquet")

    def verdicts_url(self, shard_name: str, revision: int) -> str:
        """Where this gate's verdicts on a shard's draws are."""
        return storage.join(self.location, "verdicts", self.gate, str(revision), f"{shard_name}.parquet")

    def _found(self, *parts: str) -> set[tuple[str, int]]:
        """(shard, revision) of every Parquet file below a directory of revisions."""
        directory = storage.join(self.location, *parts)
        prefix = len(storage.filesystem(directory)[1].rstrip("/")) + 1
        found = set()
        for url in storage.list_files(directory):
            revision, _, name = storage.filesystem(url)[1][prefix:].partition("/")
            if not (name.endswith(".parquet") and revision.isdigit()):
                continue
            if self.newest_revision is None or int(revision) <= self.newest_revision:
                found.add((name.removesuffix(".parquet"), int(revision)))
        return found

    def drawn_revisions(self) -> dict[str, int]:
        """The newest revision of each shard that has draws."""
        return dict(sorted(self._found("draws")))

    def committed_revisions(self) -> dict[str, int]:
        """The newest revision of each shard that has draws and this gate's verdicts on them."""
        return dict(sorted(self._found("verdicts", self.gate) & self._found("draws")))

    def pinned(self) -> "RewriteSet":
        """This set without the revisions that are yet to come."""
        directory = storage.join(self.location, "draws")
        revisions = [int(name) for name in storage.list_directories(directory) if name.isdigit()]
        return RewriteSet(self.location, self.gate, max(revisions, default=0))

    def committed_revision(self, shard_name: str) -> int | None:
        """The revision of a shard that is read; None if the shard is not committed."""
        if self.newest_revision is None:
            return self.pinned().committed_revision(shard_name)
        for revision in range(self.newest_revision, -1, -1):
            if storage.exists(self.verdicts_url(shard_name, revision)):
                return revision
        return None

    def read(self, shard_name: str, revision: int) -> pa.Table:
        """The draws of a committed shard with one more column, `reason` (null: accepted).

        Raises:
            UserError: the verdicts are not of these draws.
        """
        draws = storage.read_parquet(self.draws_url(shard_name, revision))
        verdicts = storage.read_parquet(self.verdicts_url(shard_name, revision), columns=["reason"])
        if not _belong_together(draws, verdicts):
            raise UserError(
                f"{self.verdicts_url(shard_name, revision)} is not of the draws that are there: two runs wrote this "
                "shard at once. Remove it, and run `laclip rewrite` again"
            )
        return draws.append_column("reason", verdicts.column("reason"))

    def accepted(self, shard_name: str) -> dict[tuple[str, str], list[str]] | None:
        """The accepted rewrites of a shard's samples by (id, caption hash); None if the shard is not committed.

        Of the draws for one rewrite the first that was accepted counts, so that each sample has at most as many
        as were asked for.
        """
        revision = self.committed_revision(shard_name)
        if revision is None:
            return None
        verdicts = storage.read_parquet(self.verdicts_url(shard_name, revision))
        texts = storage.read_parquet(self.draws_url(shard_name, revision), columns=["text"])
        if not _belong_together(texts, verdicts):
            return None
        found: dict[tuple[str, str], dict[int, str]] = {}
        columns = [_values(verdicts, name) for name in ("id", "caption_hash", "draw", "reason")]
        for sample_id, caption_hash, draw, reason, text in zip(*columns, _values(texts, "text"), strict=True):
            rewrites = found.setdefault((sample_id, caption_hash), {})
            if reason is None:
                rewrites.setdefault(draw, text)
        return {key: list(rewrites.values()) for key, rewrites in found.items()}

    def describe(self, revisions: Mapping[str, int]) -> dict[str, Committed]:
        """What is known of committed shards (name to revision)."""

        def one(item: tuple[str, int]) -> Committed:
            metadata = storage.read_parquet_metadata(self.verdicts_url(*item))
            return Committed(
                item[1],
                Origin.from_json(metadata[_ORIGIN_KEY]),
                Statistics.from_json(json.loads(metadata[_STATISTICS_KEY])),
                metadata[_DIGEST_KEY].decode(),
            )

        with ThreadPoolExecutor(16) as pool:
            return dict(zip(revisions, pool.map(one, revisions.items()), strict=True))

    def origin(self, shard_name: str, revision: int) -> Origin:
        """What a shard's draws were made from."""
        metadata = storage.read_parquet_metadata(self.draws_url(shard_name, revision))
        return Origin.from_json(metadata[_ORIGIN_KEY])

    def origins(self, revisions: Mapping[str, int]) -> dict[str, Origin]:
        """What the draws of shards (name to revision) were made from."""
        with ThreadPoolExecutor(16) as pool:
            return dict(zip(revisions, pool.map(lambda item: self.origin(*item), revisions.items()), strict=True))


def _values(table: pa.Table, name: str) -> list[Any]:
    """The values of a column (null: None), in a fraction of the time of `to_pylist`."""
    values: list[Any] = table.column(name).to_numpy().tolist()
    return values


def _belong_together(draws: pa.Table, verdicts: pa.Table) -> bool:
    origins = [Origin.from_json(table.schema.metadata[_ORIGIN_KEY]) for table in (draws, verdicts)]
    return origins[0].draws_id == origins[1].draws_id


def open_for_writing(location: str, recipe: Mapping[str, Any], gate: GateConfig, setting: str) -> RewriteSet:
    """Claim a directory for a recipe, or find that it holds that recipe already.

    Raises:
        UserError: the directory holds another recipe's rewrites, or something else.
    """
    check_location(location, recipe, setting)
    url = storage.join(location, "recipe.json")
    if not storage.exists(url):
        storage.write_json(
            url, {"fingerprint": fingerprint_of(recipe), "recipe": recipe, "written_with": package_versions()}
        )
    return RewriteSet(location, gate_fingerprint(gate))


def check_location(location: str, recipe: Mapping[str, Any], setting: str) -> None:
    """Raise UserError unless `location` is empty or holds the rewrites of `recipe`; writes nothing."""
    url = storage.join(location, "recipe.json")
    if not storage.exists(url):
        if storage.exists(location) and storage.list_files(location):
            raise UserError(f"{setting}: {location} holds files, but no rewrite set; choose another place")
        return
    found = storage.read_json(url)
    if found.get("fingerprint") != fingerprint_of(recipe):
        before = found.get("recipe", {})
        changed = sorted(key for key in {*before, *recipe} if before.get(key) != recipe.get(key))
        raise UserError(
            f"{setting}: {location} holds the rewrites of another recipe ({', '.join(changed)} differ); "
            "choose another place, or set these back"
        )


def digest_inputs(ids: Iterable[str], caption_hashes: Iterable[str]) -> str:
    """A digest of a shard's samples, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for column in (ids, caption_hashes):
        digest.update("\0".join(column).encode())
        digest.update(b"\1")
    return digest.hexdigest()


def write_draws(rewrite_set: RewriteSet, shard_name: str, revision: int, draws: pa.Table, origin: Origin) -> None:
    """Write a shard's draws; the shard is committed once its verdicts follow."""
    table = draws.cast(DRAWS_SCHEMA).replace_schema_metadata({_ORIGIN_KEY: origin.to_json().encode()})
    storage.write_parquet(rewrite_set.draws_url(shard_name, revision), table)


def commit_verdicts(
    rewrite_set: RewriteSet, shard_name: str, revision: int, draws: pa.Table, reasons: pa.Array, origin: Origin
) -> Statistics:
    """Commit a shard: write the gate's verdicts on its draws (same rows, same order; null: accepted)."""
    statistics = Statistics.of(draws, reasons)
    statistics.engine_s, statistics.gpu_s = origin.engine_s, origin.gpu_s
    table = pa.table(
        [*(draws.column(name) for name in ("id", "caption_hash", "draw", "attempt")), reasons],
        schema=VERDICTS_SCHEMA.with_metadata(
            {
                _ORIGIN_KEY: origin.to_json().encode(),
                _STATISTICS_KEY: json.dumps(statistics.to_json()).encode(),
                _DIGEST_KEY: _digest(draws, reasons).encode(),
            }
        ),
    )
    storage.write_parquet(rewrite_set.verdicts_url(shard_name, revision), table)
    return statistics


def restamp_verdicts(rewrite_set: RewriteSet, shard_name: str, revision: int, origin: Origin) -> None:
    """Note another origin for a committed shard whose content is the same."""
    url = rewrite_set.verdicts_url(shard_name, revision)
    verdicts = storage.read_parquet(url)
    metadata = {**verdicts.schema.metadata, _ORIGIN_KEY: origin.to_json().encode()}
    storage.write_parquet(url, verdicts.replace_schema_metadata(metadata))


def _digest(draws: pa.Table, reasons: pa.Array) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for column in (draws.column("id"), draws.column("caption_hash"), draws.column("text"), reasons):
        digest.update("\0".join(pc.fill_null(column, "").to_pylist()).encode())
        digest.update(b"\1")
    return digest.hexdigest()
