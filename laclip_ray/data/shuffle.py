"""A local shuffle: rows wait in a buffer, and each batch is drawn from it at random.

It begins early, as WebDataset does: the first batch is drawn when an eighth of the buffer is filled, and that grows
by a row for every four that are drawn until it is full: filling it takes little of what training needs meanwhile. Ray
Data's own waits for one and a half buffers.

Guarantees: every row is drawn once, or is among the less than a batch that are left at the end.
"""

from collections.abc import Iterator, Mapping

import numpy as np

_FIRST_SHARE = 8
_ROWS_DRAWN_FOR_ONE_MORE = 4


class ShuffleBuffer:
    """Rows in arrays that are made once: a row is copied in, stays where it is, and is copied out."""

    def __init__(self, capacity: int, generator: np.random.Generator) -> None:
        """An empty buffer for `capacity` rows."""
        self._capacity = capacity
        self._generator = generator
        self._columns: dict[str, np.ndarray] = {}
        self._slots = np.arange(capacity)
        """Places in the arrays: first those that hold a row, then the free ones."""
        self.held = 0
        """Rows in it."""

    def put(self, rows: Mapping[str, np.ndarray], start: int) -> int:
        """Take rows from the `start`-th on while there is room; returns how many were taken."""
        if not self._columns:
            self._columns = {name: _room_for(column, self._capacity) for name, column in rows.items()}
        count = min(self._capacity - self.held, len(next(iter(rows.values()))) - start)
        free = self._slots[self.held : self.held + count]
        for name, column in self._columns.items():
            column[free] = rows[name][start : start + count]
        self.held += count
        return count

    def draw(self, count: int) -> dict[str, np.ndarray]:
        """Take out `count` rows, at most those held, in random order."""
        self._generator.shuffle(self._slots[: self.held])
        left = max(0, self.held - count)
        drawn, self.held = self._slots[left : self.held], left
        return {name: column[drawn] for name, column in self._columns.items()}


def shuffled(
    blocks: Iterator[Mapping[str, np.ndarray]], batch_size: int, buffer_rows: int, generator: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of rows drawn at random.

    Args:
        blocks: columns of rows, with the same columns and shapes of rows throughout.
        batch_size: rows of every batch; a last incomplete one is dropped.
        buffer_rows: rows to draw from (at least a batch).
        generator: of the draws.
    """
    capacity = max(buffer_rows, batch_size)
    buffer = ShuffleBuffer(capacity, generator)
    enough = max(batch_size, capacity // _FIRST_SHARE)
    for block in blocks:
        taken, count = 0, len(next(iter(block.values())))
        while taken < count:
            taken += buffer.put(block, taken)
            while buffer.held >= enough:
                yield buffer.draw(batch_size)
                enough = min(capacity, enough + max(1, batch_size // _ROWS_DRAWN_FOR_ONE_MORE))
    while buffer.held >= batch_size:
        yield buffer.draw(batch_size)


def _room_for(column: np.ndarray, rows: int) -> np.ndarray:
    """An array for rows like those of a column; texts of any length as objects."""
    kind = object if column.dtype.kind in "OSU" else column.dtype
    return np.empty((rows, *column.shape[1:]), kind)
