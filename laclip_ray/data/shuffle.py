"""A local shuffle: rows wait in a buffer, and each batch is drawn from the buffer at random.

Like WebDataset's shuffle, it starts early: the first batch is drawn when an eighth of the buffer is filled. After that
the buffer grows by one row for every four rows drawn, until it is full. So filling it takes few rows from training,
while Ray Data's local shuffle first waits for one and a half buffers.

Guarantees: every row is drawn once, except the last incomplete batch.
"""

from collections.abc import Iterator, Mapping

import numpy as np

_INITIAL_SHARE = 8
"""The first batch is drawn when 1/8 of the buffer is filled."""

_ROWS_DRAWN_PER_GROWTH = 4
"""The buffer grows by one row for every 4 rows drawn."""


class ShuffleBuffer:
    """Rows in preallocated arrays. A row is copied once into the buffer and once out of it."""

    def __init__(self, capacity: int, generator: np.random.Generator) -> None:
        """Create an empty buffer.

        Args:
            capacity: most rows that it can hold.
            generator: source of the draws.
        """
        self._capacity = capacity
        self._generator = generator
        self._columns: dict[str, np.ndarray] = {}
        self._cells = np.arange(capacity)
        """Indexes into the columns: the first `row_count` hold rows, the others are free."""
        self.row_count = 0
        """Rows in the buffer."""

    def put(self, rows: Mapping[str, np.ndarray], start: int) -> int:
        """Copy rows into the buffer, from row `start` on, until it is full; returns how many fit."""
        if not self._columns:
            self._columns = {name: _allocate(column, self._capacity) for name, column in rows.items()}
        count = min(self._capacity - self.row_count, len(next(iter(rows.values()))) - start)
        free = self._cells[self.row_count : self.row_count + count]
        for name, column in self._columns.items():
            column[free] = rows[name][start : start + count]
        self.row_count += count
        return count

    def draw(self, count: int) -> dict[str, np.ndarray]:
        """Remove `count` random rows (all rows, if it has fewer), in random order."""
        self._generator.shuffle(self._cells[: self.row_count])
        rest = max(0, self.row_count - count)
        drawn, self.row_count = self._cells[rest : self.row_count], rest
        return {name: column[drawn] for name, column in self._columns.items()}


def shuffled(
    blocks: Iterator[Mapping[str, np.ndarray]], batch_size: int, buffer_rows: int, generator: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """Draw batches of rows at random.

    Args:
        blocks: rows as columns; all blocks have the same columns, and all rows the same shapes.
        batch_size: rows of every batch; a last incomplete batch is dropped.
        buffer_rows: rows to draw from; at least a batch is used.
        generator: source of the draws.
    """
    capacity = max(buffer_rows, batch_size)
    buffer = ShuffleBuffer(capacity, generator)
    fill = max(batch_size, capacity // _INITIAL_SHARE)  # rows that the buffer must hold before a draw
    for block in blocks:
        start, count = 0, len(next(iter(block.values())))
        while start < count:
            start += buffer.put(block, start)
            while buffer.row_count >= fill:
                yield buffer.draw(batch_size)
                fill = min(capacity, fill + max(1, batch_size // _ROWS_DRAWN_PER_GROWTH))
    while buffer.row_count >= batch_size:
        yield buffer.draw(batch_size)


def _allocate(column: np.ndarray, rows: int) -> np.ndarray:
    """An array for `rows` rows with the column's row shape; texts are objects, for any length."""
    dtype = object if column.dtype.kind in "OSU" else column.dtype
    return np.empty((rows, *column.shape[1:]), dtype)
