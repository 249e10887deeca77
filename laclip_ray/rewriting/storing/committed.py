"""The committed shards of a rewrite set: their metadata, and a listing of their files."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from laclip_ray.data.packed_rows import PackedRows, PlacesByText, Row
from laclip_ray.data.records import Sample
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import Origin

StoredFile = tuple[str, int]
"""A shard and a revision."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The metadata of a committed shard."""

    revision: int
    origin: Origin
    statistics: Statistics
    digest: str
    """Digest of the draws, their verdicts and their scores."""

    def is_of(self, samples: Sequence[Sample]) -> bool:
        """Whether the draws were made from these samples, in this order."""
        return self.origin.inputs == digest_samples(samples)


SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("revision", pa.int64()),
        ("file_identity", pa.string()),
        ("inputs", pa.string()),
        ("rewrites_per_set", pa.int64()),
        ("engine_s", pa.float64()),
        ("gpu_s", pa.float64()),
        ("draws_id", pa.string()),
        ("reading", pa.dictionary(pa.int32(), pa.string())),
        ("statistics", pa.string()),
        ("digest", pa.string()),
    ]
)
"""A row a shard: the fields of `Committed` and its `Origin`, with `reading` and `statistics` as JSON."""


def row_of(shard: str, committed: Committed) -> Row:
    """The row of a committed shard."""
    origin = committed.origin
    reading = None if origin.reading is None else json.dumps(origin.reading)
    # Most counters of most shards are empty.
    statistics = {name: value for name, value in committed.statistics.to_json().items() if value}
    return (
        shard, committed.revision, origin.file_identity, origin.inputs, origin.rewrites_per_set, origin.engine_s,
        origin.gpu_s, origin.draws_id, reading, json.dumps(statistics, separators=(",", ":")), committed.digest,
    )  # fmt: skip


def of_row(row: Row) -> tuple[str, Committed]:
    """The inverse of `row_of`."""
    shard, revision, *_, statistics, digest = row
    return shard, Committed(revision, _origin_of(row), Statistics.from_json(json.loads(statistics)), digest)


def _origin_of(row: Row) -> Origin:
    _, _, file_identity, inputs, rewrites, engine_s, gpu_s, draws_id, reading, _, _ = row
    parsed = None if reading is None else _parse(reading)
    return Origin(file_identity, inputs, rewrites, engine_s, gpu_s, draws_id, parsed)


@lru_cache(maxsize=1_024)
def _parse(reading: str) -> Mapping[str, Any]:
    """The same object for equal texts; nobody changes it."""
    content: Mapping[str, Any] = json.loads(reading)
    return content


class CommittedTable(Mapping[str, Committed]):
    """Committed shards by name, as columns: some 300 bytes a shard, where `Committed` objects take 3 KB.

    Reading one makes a `Committed`, which nobody keeps.
    """

    def __init__(self, rows: PackedRows) -> None:
        """Take rows of `SCHEMA`, of different shards."""
        self.rows = rows
        """In order."""
        self._places = PlacesByText(rows, "shard")

    @classmethod
    def of(cls, committed: Mapping[str, Committed], rows: PackedRows | None = None) -> "CommittedTable":
        """Committed shards and rows of others, sorted by shard."""
        rows = PackedRows(SCHEMA) if rows is None else rows
        for item in committed.items():
            rows.append(row_of(*item))
        order = rows.order_by("shard")
        return cls(rows if order is None else PackedRows(SCHEMA, rows.taken(order.tolist())))

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """The shards with their origins, without parsing their statistics."""
        return ((row[0], _origin_of(row)) for row in self.rows)

    def __getitem__(self, shard: str) -> Committed:
        place = self._places.find(shard)
        if place is None:
            raise KeyError(shard)
        return of_row(self.rows[place])[1]

    def __contains__(self, shard: object) -> bool:
        return isinstance(shard, str) and self._places.find(shard) is not None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        return self.rows.column("shard")

    def items(self) -> Any:
        """Names and committed shards."""
        return map(of_row, self.rows)

    def values(self) -> Any:
        """The committed shards."""
        return (committed for _, committed in map(of_row, self.rows))

    def files(self) -> set[StoredFile]:
        """The shards with their revisions."""
        return set(zip(self.rows.column("shard"), self.rows.column("revision"), strict=True))


@dataclass(frozen=True)
class Listed:
    """The files of a rewrite set, by one listing of its draws and one of its verdicts."""

    drawn: Mapping[str, int]
    """The newest revision of each shard that has draws."""
    committed: Mapping[str, int]
    """The newest revision of each shard that has draws and this gate's verdicts on them."""
    identities: Mapping[StoredFile, str]
    """Of the verdicts: changes with the file. Files whose store does not tell changes are missing."""


def digest_inputs(ids: Iterable[str], caption_hashes: Iterable[str]) -> str:
    """A digest of a shard's samples, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for column in (ids, caption_hashes):
        digest.update("\0".join(column).encode())
        digest.update(b"\1")
    return digest.hexdigest()


def digest_samples(samples: Sequence[Sample]) -> str:
    """`digest_inputs` of samples."""
    return digest_inputs((sample.id for sample in samples), (sample.caption_hash for sample in samples))
