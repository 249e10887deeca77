"""Records of CSV and TSV files: lines in, fields out. Pure functions.

With quoting, `csv.reader` splits lines that hold a quote. A field in quotes may hold delimiters and line breaks.

Guarantees: a record depends on the lines from its own start on, so reading from the offset of any record gives the same
records. A quote that is never closed costs one row: reading resumes at the next line. At most `MAX_QUOTED_LINES` lines
and `MAX_ROW_BYTES` bytes are held.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from laclip_ray.data.lines import Line
from laclip_ray.data.records import MAX_ROW_BYTES, ROW_TOO_LONG, UNCLOSED_QUOTE, decode_text

MAX_QUOTED_LINES = 1_000
"""Lines that a quoted field may span."""

_MAX_ROWS_IN_FIELD = 8
"""So many lines in a row that each have the table's number of fields are rows, not the text of one field."""

_RETURN = "\ud800"
"""Stands for a carriage return within a line, which `csv.reader` refuses. Decoded text never holds this character."""

csv.field_size_limit(MAX_ROW_BYTES)  # of the whole process; the default is 128 KiB

Record = tuple[int, list[str], str | None]
"""Byte offset, fields, and a problem (`records`) that leaves the record without fields."""


class Dialect(NamedTuple):
    """How the fields of a table are separated."""

    delimiter: str
    is_quoted: bool
    """Fields in double quotes may hold delimiters and line breaks."""


class Width(NamedTuple):
    """The number of fields in a table's rows."""

    least: int
    """Columns up to the last one with a name."""
    most: int
    """Columns."""

    @classmethod
    def of(cls, columns: Sequence[str]) -> "Width":
        """The width of a table with these column names."""
        named = next((number for number in range(len(columns), 0, -1) if columns[number - 1]), len(columns))
        return cls(named, len(columns))

    def fits(self, fields: Sequence[str]) -> bool:
        """Whether a row has this width. Empty fields at its end do not count.

        >>> width = Width.of(["caption", "url"])
        >>> width.fits(["a cat", "u1", ""]), width.fits(["a cat", " black", "u1"]), width.fits(["a cat"])
        (True, False, False)
        """
        return self.least <= len(fields) and (len(fields) <= self.most or not any(fields[self.most :]))

    def is_row(self, line: str, delimiter: str) -> bool:
        """Whether a line has this width if quotes are ordinary characters."""
        return self.least <= line.count(delimiter) + 1 <= self.most


def read_records(
    lines: Iterator[Line], dialect: Dialect, width: Width | None, only_offsets: bool = False
) -> Iterator[Record]:
    """Split lines into records. Empty lines are left out.

    Args:
        lines: from the start of a record on.
        dialect: how fields are separated.
        width: of the table's rows. None: the first record is the header.
        only_offsets: whether to leave out the fields where the offset of the next record is known without them.
    """
    if dialect.is_quoted:
        return _read_quoted(lines, dialect.delimiter, width, only_offsets)
    return _read_raw(lines, dialect.delimiter, only_offsets)


def _read_raw(lines: Iterator[Line], delimiter: str, only_offsets: bool) -> Iterator[Record]:
    for offset, line in lines:
        if line is None:
            yield offset, [], ROW_TOO_LONG
        elif line:
            yield offset, [] if only_offsets else decode_text(line).split(delimiter), None


def _read_quoted(lines: Iterator[Line], delimiter: str, width: Width | None, only_offsets: bool) -> Iterator[Record]:
    pushed_back: deque[Line] = deque()
    waiting: list[str] = []
    # Reads one line from `waiting`; a record that continues after it finds the list empty.
    reader = csv.reader(iter(waiting.pop, None), delimiter=delimiter)
    while True:
        is_again = bool(pushed_back)
        for offset, line in _drain(pushed_back) if is_again else lines:
            if line is None:
                yield offset, [], ROW_TOO_LONG
            elif b'"' not in line:
                if line:
                    yield offset, [] if only_offsets else decode_text(line).split(delimiter), None
            else:
                text = line.decode("utf-8", "surrogateescape")  # `decode_text`, without the call
                if has_return := "\r" in text:
                    text = text.replace("\r", _RETURN)
                waiting.append(text)
                fields: list[str] | None
                try:
                    fields = next(reader)
                except IndexError:
                    fields, taken = _read_on(text, chain(_drain(pushed_back), lines), delimiter, width)
                    has_return = True  # perhaps, in one of the lines
                    if fields is None:
                        pushed_back.extendleft(reversed(taken))
                if fields is None:
                    yield offset, [], UNCLOSED_QUOTE
                    if not is_again:
                        break
                elif has_return:
                    yield offset, [field.replace(_RETURN, "\r") for field in fields], None
                else:
                    yield offset, fields, None
        else:
            if not is_again:
                return


def _drain(pushed_back: deque[Line]) -> Iterator[Line]:
    while pushed_back:
        yield pushed_back.popleft()


class _NotClosedError(Exception):
    """The lines are not one record."""


def _read_on(
    first: str, lines: Iterator[Line], delimiter: str, width: Width | None
) -> tuple[list[str] | None, list[Line]]:
    """Read a record whose first line ends within quotes.

    Returns:
        The fields, or None if the lines are not one record; and the lines taken after the first.
    """
    taken: list[Line] = []

    def is_row(text: str) -> bool:
        return width is not None and width.most > 1 and width.is_row(text, delimiter)

    def feed() -> Iterator[str]:
        rows = int(is_row(first))
        size_bytes = len(first)
        yield first + "\n"
        for item in lines:
            taken.append(item)
            line = item[1]
            size_bytes += MAX_ROW_BYTES if line is None else len(line)
            if line is None or size_bytes > MAX_ROW_BYTES or len(taken) >= MAX_QUOTED_LINES:
                raise _NotClosedError
            text = decode_text(line)
            rows += is_row(text)
            if rows == len(taken) + 1 >= _MAX_ROWS_IN_FIELD:
                raise _NotClosedError
            yield text.replace("\r", _RETURN) + "\n"

    try:
        # Strict: a quote within a field is doubled, and the closing one stands before a delimiter or a line end.
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except (csv.Error, _NotClosedError):
        return None, taken
    if width is not None and not width.fits(fields):
        return None, taken
    return fields, taken
