"""The shards of a dataset as columns: some 100 bytes a shard, where `Shard` objects take 1 KB.

Reading a shard from the table makes a `Shard`. Do not keep many. Both classes travel by pickle, as columns.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from laclip_ray.data.packed_rows import PackedSequence, PlacesByText, Row
from laclip_ray.data.records import Shard

_RANGE_CHARACTERS = len(".000000000")
"""Added to the name of a table's file for each range of rows but the first."""

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("file", pa.binary()),  # end of the URL; null: it is the name
        ("identity", pa.string()),
        ("start_row", pa.int64()),
        ("row_count", pa.int64()),
        ("start_byte", pa.int64()),
        ("listed_rows", pa.int64()),
        ("kind", pa.int32()),
    ]
)


class ShardTable(PackedSequence[Shard]):
    """Shards in order."""

    def __init__(self, shards: Iterable[Shard] = ()) -> None:
        """Take the shards."""
        super().__init__(_SCHEMA)
        self.is_indexed = False
        """Whether a dataset index has the same files."""
        self._kinds: list[Shard] = []
        """What shards share, as shards whose URL is the start of theirs."""
        self._numbers: dict[Shard, int] = {}
        for shard in shards:
            self.append(shard)

    def append(self, shard: Shard) -> None:
        """Add a shard at the end."""
        start, file = _parts_of_url(shard)
        kind = Shard(
            "", start, shard.format, columns=shard.columns, delimiter=shard.delimiter, is_quoted=shard.is_quoted,
            encoding=shard.encoding, line_end=shard.line_end, defect=shard.defect,
        )  # fmt: skip
        number = self._numbers.get(kind)
        if number is None:
            number = self._numbers[kind] = len(self._kinds)
            self._kinds.append(kind)
        self._rows.append(
            (
                shard.name, file, shard.file_identity, shard.start_row, shard.row_count, shard.start_byte,
                shard.listed_rows, number,
            )
        )  # fmt: skip

    def places(self) -> PlacesByText:
        """Finds shards by name."""
        return PlacesByText(self._rows, "name")

    def _of_row(self, row: Row) -> Shard:
        name, file, identity, start_row, row_count, start_byte, listed_rows, number = row
        kind = self._kinds[number]
        return Shard(
            name, kind.url + (name if file is None else file), kind.format, start_row, row_count, start_byte,
            kind.columns, kind.delimiter, kind.is_quoted, kind.encoding, kind.line_end, identity, kind.defect,
            listed_rows,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ShardTable({list(self)!r})"


def _parts_of_url(shard: Shard) -> tuple[str, str | None]:
    """The start of a shard's URL, which others share, and the rest; None: the rest is the name."""
    if shard.url.endswith(shard.name):
        return shard.url.removesuffix(shard.name), None
    file = shard.name[:-_RANGE_CHARACTERS] if shard.start_row else ""
    if not file or not shard.url.endswith(file):
        file = shard.url.rpartition("/")[2]
    return shard.url.removesuffix(file) if file else shard.url, file


class ShardsByName(Mapping[str, Shard]):
    """The shards of a table by name, in its order."""

    def __init__(self, table: ShardTable) -> None:
        """Find the places of names."""
        self.table = table
        self._places = table.places()

    def __getitem__(self, name: str) -> Shard:
        place = self._places.find(name)
        if place is None:
            raise KeyError(name)
        return self.table[place]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._places.find(name) is not None

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        return self.table.names()
