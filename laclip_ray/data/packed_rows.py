"""Rows in memory as Arrow columns: about the bytes of their values, where Python objects take some hundred more a row.

Rows are appended, read by number and iterated, as tuples. They are kept in parts of equal length, so appending copies
nothing. A binary column holds a path, perhaps with invalid UTF-8.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Row = tuple[Any, ...]
"""A value for each column."""

T = TypeVar("T")

_PART_ROWS = 4_096
"""Rows of a part. The rows of the last one are Python objects."""

_OPENING_HITS = 16
"""Reads of one part in a row after which all of its rows are made at once: each then takes a tenth of the time."""


class PackedRows:
    """Rows of one schema."""

    def __init__(self, schema: pa.Schema, rows: Iterable[Row] = ()) -> None:
        """Take the rows, in order."""
        self.schema = schema
        self._parts: list[pa.RecordBatch] = []
        self._last: list[Row] = []
        self._near: tuple[int, int, list[Row]] = -1, 0, []
        """The part read last, how often in a row, and after many reads its rows as Python objects."""
        self._paths = tuple(pa.types.is_binary(kind) for kind in schema.types)
        for row in rows:
            self.append(row)

    @classmethod
    def of(cls, table: pa.Table) -> "PackedRows":
        """The rows of a table."""
        rows = cls(table.schema)
        for batch in table.combine_chunks().to_batches(_PART_ROWS):
            if batch.num_rows == _PART_ROWS:
                rows._parts.append(batch.take(np.arange(_PART_ROWS)))  # a part of a table travels as the whole table
            else:
                rows._last = list(rows._rows(batch))
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_near": (-1, 0, [])}

    def append(self, row: Row) -> None:
        """Add a row at the end."""
        self._last.append(row)
        if len(self._last) == _PART_ROWS:
            self._parts.append(self._packed(self._last))
            self._last = []

    def __len__(self) -> int:
        return len(self._parts) * _PART_ROWS + len(self._last)

    def __getitem__(self, number: int) -> Row:
        if not 0 <= number < len(self):
            raise IndexError(number)
        part, place = divmod(number, _PART_ROWS)
        if part == len(self._parts):
            return self._last[place]
        near, hits, rows = self._near
        if part != near:
            hits, rows = 0, []
        elif not rows and hits >= _OPENING_HITS:
            rows = list(self._rows(self._parts[part]))
        self._near = part, hits + 1, rows
        if rows:
            return rows[place]
        values = (column[place].as_py() for column in self._parts[part].columns)
        return tuple(_text(value) if is_path else value for value, is_path in zip(values, self._paths, strict=True))

    def value(self, number: int, column: int) -> Any:
        """The value of a row in a column, by their numbers."""
        part, place = divmod(number, _PART_ROWS)
        if part == len(self._parts):
            return self._last[place][column]
        value = self._parts[part].column(column)[place].as_py()
        return _text(value) if self._paths[column] else value

    def __iter__(self) -> Iterator[Row]:
        for batch in self._parts:
            yield from self._rows(batch)
        yield from self._last

    def drained(self) -> Iterator[Row]:
        """The rows, which are dropped part by part while they are read."""
        self._near = -1, 0, []
        while self._parts:
            yield from self._rows(self._parts.pop(0))
        last, self._last = self._last, []
        yield from last

    def taken(self, numbers: Sequence[int]) -> Iterator[Row]:
        """Rows by their numbers, which are mostly near one another."""
        opened, rows = -1, self._last
        for number in numbers:
            part, place = divmod(number, _PART_ROWS)
            if part != opened:
                opened = part
                rows = self._last if part == len(self._parts) else list(self._rows(self._parts[part]))
            yield rows[place]

    def column(self, name: str) -> Iterator[Any]:
        """The values of a column."""
        number = self.schema.get_field_index(name)
        for batch in self._parts:
            values = batch.column(number).to_pylist()
            yield from map(_text, values) if self._paths[number] else values
        for row in self._last:
            yield row[number]

    def table(self) -> pa.Table:
        """All rows."""
        last = [self._packed(self._last)] if self._last else []
        return pa.Table.from_batches([*self._parts, *last], self.schema)

    def order_by(self, name: str) -> np.ndarray | None:
        """The numbers of the rows, [N] uint64, sorted by a column of texts; None if the rows are in this order.

        Texts sort by their bytes in UTF-8, which is Python's order.
        """
        values = self.column(name)
        before = next(values, None)
        for value in values:
            if value < before:
                break
            before = value
        else:
            return None
        order: np.ndarray = pc.sort_indices(self.table(), sort_keys=[(name, "ascending")]).to_numpy()
        return order

    def _packed(self, rows: Sequence[Row]) -> pa.RecordBatch:
        columns = (
            [_bytes(value) for value in values] if is_path else values
            for values, is_path in zip(zip(*rows, strict=True), self._paths, strict=True)
        )
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _rows(self, batch: pa.RecordBatch) -> Iterator[Row]:
        columns = (
            map(_text, column.to_pylist()) if is_path else column.to_pylist()
            for column, is_path in zip(batch.columns, self._paths, strict=True)
        )
        return zip(*columns, strict=True)


def _bytes(path: str | None) -> bytes | None:
    return None if path is None else path.encode("utf-8", "surrogatepass")


def _text(path: bytes | None) -> str | None:
    return None if path is None else path.decode("utf-8", "surrogatepass")


class PackedSequence(Sequence[T]):
    """Objects as packed rows with a column `name`. Reading an object makes it anew."""

    def __init__(self, schema: pa.Schema) -> None:
        """Begin without rows."""
        self._rows = PackedRows(schema)

    @abstractmethod
    def _of_row(self, row: Row) -> T:
        """The object of a row."""

    def names(self) -> Iterator[str]:
        """The objects' names, in order."""
        return self._rows.column("name")

    def drained(self) -> Iterator[T]:
        """The objects. Their rows are dropped meanwhile, so another table is made without both in memory."""
        return map(self._of_row, self._rows.drained())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self._of_row(self._rows[number if number >= 0 else number + len(self)])

    def __iter__(self) -> Iterator[T]:
        return map(self._of_row, self._rows)


class PlacesByText:
    """Finds rows by a column of different texts, in 16 bytes a row: numbers of rows, sorted by the hashes of texts."""

    def __init__(self, rows: PackedRows, name: str) -> None:
        """Sort the hashes.

        Args:
            rows: no more are added.
            name: of the column.
        """
        self._rows, self._column = rows, rows.schema.get_field_index(name)
        self._name = name
        hashes = np.fromiter(map(hash, rows.column(name)), np.int64, len(rows))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order].data  # gives integers faster than the array

    def __reduce__(self) -> tuple[type["PlacesByText"], tuple[PackedRows, str]]:
        return PlacesByText, (self._rows, self._name)  # another process hashes texts otherwise

    def find(self, text: str) -> int | None:
        """The number of the row with a text. None: no such row."""
        wanted = hash(text)
        place = bisect_left(self._hashes, wanted)
        while place < len(self._hashes) and self._hashes[place] == wanted:
            number = int(self._order[place])
            if self._rows.value(number, self._column) == text:
                return number
            place += 1
        return None
