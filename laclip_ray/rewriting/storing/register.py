"""The register of a rewrite set: the footers of its committed shards, in one file.

    verdicts/GATE_FINGERPRINT/register.parquet    a row a shard: revision, identity of the file, and its metadata

A run that continues over 100,000 shards reads this file and the footers of the shards that it lacks, instead of 100,000
footers. A row counts only if the listing shows the file that it was made from: same revision, size, and etag or time.

Guarantees: the files decide, and the register only repeats them. A missing, old or damaged one costs time only.

Earlier versions kept the origin of a shard as one column of JSON. Their registers are read, and written anew.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray import storage
from laclip_ray.data.packed_rows import PackedRows
from laclip_ray.rewriting.storing.committed import SCHEMA, Committed, StoredFile, row_of
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import Origin

logger = logging.getLogger(__name__)

FILE_NAME = "register.parquet"
"""Below the verdicts of a gate."""

_IDENTITY = "identity"
_EARLIER = ("shard", "revision", _IDENTITY, "origin", "statistics", "digest")
"""The columns of an earlier version."""

_DAMAGE = (ValueError, LookupError, TypeError, AttributeError)


def read_register(url: str, identities: Mapping[StoredFile, str], wanted: Mapping[str, int]) -> PackedRows:
    """The rows of `SCHEMA` made from files of these identities. A missing or damaged register has none.

    Args:
        url: of the register.
        identities: of the files now.
        wanted: the revision of each shard that a row is wanted of.
    """
    if not wanted:
        return PackedRows(SCHEMA)
    try:
        table = storage.read_parquet(url)
        is_current = pa.array(
            [
                wanted.get(shard) == revision and identities.get((shard, revision)) == identity
                for shard, revision, identity in _files(table)
            ],
            pa.bool_(),
        )
        table = table.filter(is_current)
        if "origin" in table.column_names:
            return PackedRows(SCHEMA, (row_of(*item) for item in _committed_of_earlier(table)))
        return PackedRows.of(table.select(SCHEMA.names).cast(SCHEMA))
    except FileNotFoundError:
        return PackedRows(SCHEMA)
    except _DAMAGE as error:
        logger.warning("%s is damaged and not used; the shards' own files are read instead: %s", url, error)
        return PackedRows(SCHEMA)


def _committed_of_earlier(table: pa.Table) -> Iterator[tuple[str, Committed]]:
    for shard, revision, _, origin, statistics, digest in _rows(table, *_EARLIER):
        yield shard, Committed(revision, Origin.from_json(origin), Statistics.from_json(json.loads(statistics)), digest)


def registered_files(url: str, identities: Mapping[StoredFile, str]) -> set[StoredFile]:
    """The files that the register has up-to-date rows of. One of an earlier version has none: it is written anew."""
    try:
        table = storage.read_parquet(url, ["shard", "revision", _IDENTITY, "gpu_s"])
        return {
            (shard, revision)
            for shard, revision, identity in _files(table)
            if identities.get((shard, revision)) == identity
        }
    except FileNotFoundError:
        return set()
    except _DAMAGE:  # without `gpu_s`, of an earlier version; or damaged, as `read_register` has said
        return set()


def registered_gpu_s(url: str, identities: Mapping[StoredFile, str]) -> dict[StoredFile, float]:
    """The GPU-seconds of the draws of files, if the register knows them.

    Args:
        url: of the register.
        identities: of the files now.
    """
    try:
        table = storage.read_parquet(url)
        if "origin" in table.column_names:
            seconds = [Origin.from_json(origin).gpu_s for origin in table.column("origin").to_pylist()]
        else:
            seconds = table.column("gpu_s").to_pylist()
        return {
            (shard, revision): gpu_s
            for (shard, revision, identity), gpu_s in zip(_files(table), seconds, strict=True)
            if identities.get((shard, revision)) == identity
        }
    except FileNotFoundError:
        return {}
    except _DAMAGE as error:
        logger.warning("%s is damaged and not used; the shards' own files are read instead: %s", url, error)
        return {}


def _files(table: pa.Table) -> Iterator[tuple[str, int, str]]:
    return _rows(table, "shard", "revision", _IDENTITY)


def _rows(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)


def write_register(url: str, rows: PackedRows, identities: Mapping[StoredFile, str]) -> None:
    """Write a register of shards; those without an identity are left out.

    Args:
        url: of the register.
        rows: of `SCHEMA`, as in the footers.
        identities: of the files that they were read from.
    """
    table = rows.table()
    of_file = [identities.get(file) for file in zip(rows.column("shard"), rows.column("revision"), strict=True)]
    table = table.append_column(_IDENTITY, pa.array(of_file, pa.string()))
    storage.write_parquet(url, table.filter(pc.is_valid(table.column(_IDENTITY))).sort_by("shard"))
