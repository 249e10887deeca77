"""The register of a rewrite set: the footers of its committed shards, in one file.

    verdicts/GATE_FINGERPRINT/register.parquet    a row a shard: revision, identity of the file, and its metadata

A run that continues over 100,000 shards reads this file and the footers of the shards that it lacks, instead of 100,000
footers. A row counts only if the listing shows the file that it was made from: same revision, size, and etag or time.

Guarantees: the files decide, and the register only repeats them. A missing, old or damaged one costs time only.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.rewriting.storing.committed import Committed, StoredFile
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import Origin

logger = logging.getLogger(__name__)

FILE_NAME = "register.parquet"
"""Below the verdicts of a gate."""

_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("revision", pa.int64()),
        ("identity", pa.string()),
        ("origin", pa.string()),
        ("statistics", pa.string()),
        ("digest", pa.string()),
    ]
)


def read_register(url: str, identities: Mapping[StoredFile, str]) -> dict[StoredFile, Committed]:
    """The rows made from files of these identities. A missing or damaged register has no rows.

    Args:
        url: of the register.
        identities: of the files now.
    """
    try:
        return {
            (shard, revision): Committed(
                revision, Origin.from_json(origin), Statistics.from_json(json.loads(statistics)), digest
            )
            for shard, revision, identity, origin, statistics, digest in _rows(url, _SCHEMA.names)
            if identities.get((shard, revision)) == identity
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        logger.warning("%s is damaged and not used; the shards' own files are read instead: %s", url, error)
        return {}


def registered_files(url: str, identities: Mapping[StoredFile, str]) -> set[StoredFile]:
    """The files that `read_register` gives, without their metadata, whose parsing takes most of its time."""
    try:
        rows = _rows(url, ["shard", "revision", "identity"])
        return {
            (shard, revision) for shard, revision, identity in rows if identities.get((shard, revision)) == identity
        }
    except (ValueError, LookupError):  # damaged: `read_register` has said so, and it is written anew
        return set()


def _rows(url: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a register. A missing file has no rows."""
    try:
        table = storage.read_parquet(url, columns)
    except FileNotFoundError:
        return iter(())
    return zip(*(table.column(name).to_pylist() for name in columns), strict=True)


def write_register(url: str, committed: Mapping[str, Committed], identities: Mapping[StoredFile, str]) -> None:
    """Write a register of shards; those without an identity are left out.

    Args:
        url: of the register.
        committed: by shard, as in its footer.
        identities: of the files that they were read from.
    """
    rows = [
        {
            "shard": shard,
            "revision": content.revision,
            "identity": identities[shard, content.revision],
            "origin": content.origin.to_json(),
            "statistics": json.dumps(content.statistics.to_json()),
            "digest": content.digest,
        }
        for shard, content in sorted(committed.items())
        if (shard, content.revision) in identities
    ]
    storage.write_parquet(url, pa.Table.from_pylist(rows, schema=_SCHEMA))
