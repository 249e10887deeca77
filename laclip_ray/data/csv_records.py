"""Records of CSV and TSV files: lines in, fields out. Pure functions.

With quoting, `csv.reader` splits lines that hold a quote. A field in quotes may hold delimiters and line breaks.

Guarantees: a record depends on the lines from its own start on, so reading from the offset of any record gives the same
records. A quote that is never closed costs one row: reading resumes at the next line. At most `MAX_QUOTED_LINES` lines
and `MAX_ROW_BYTES` bytes are held.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
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


def read_records(lines: Iterator[Line], dialect: Dialect, field_count: int | None) -> Iterator[Record]:
    """Split lines into records. Empty lines are left out.

    Args:
        lines: from the start of a record on.
        dialect: how fields are separated.
        field_count: fields of the table's rows. None: as many as the first record has.
    """
    if not dialect.is_quoted:
        for offset, line in lines:
            if line is None:
                yield offset, [], ROW_TOO_LONG
            elif line:
                yield offset, decode_text(line).split(dialect.delimiter), None
        return
    pushed_back: deque[Line] = deque()
    waiting: list[str] = []
    # Reads one line from `waiting`; a record that continues after it finds the list empty.
    reader = csv.reader(iter(waiting.pop, None), delimiter=dialect.delimiter)
    source = _with_pushed_back(lines, pushed_back)
    for offset, line in source:
        if line is None:
            yield offset, [], ROW_TOO_LONG
            continue
        if not line:
            continue
        text = decode_text(line)
        if '"' not in text:
            fields = text.split(dialect.delimiter)
        else:
            waiting.append(text if "\r" not in text else text.replace("\r", _RETURN))
            try:
                fields = next(reader)
            except IndexError:
                continued, taken = _read_on(text, source, dialect.delimiter, field_count)
                if continued is None:
                    pushed_back.extendleft(reversed(taken))
                    yield offset, [], UNCLOSED_QUOTE
                    continue
                fields = continued
            if "\r" in text:
                fields = [field.replace(_RETURN, "\r") for field in fields]
        field_count = len(fields) if field_count is None else field_count
        yield offset, fields, None


def _with_pushed_back(lines: Iterator[Line], pushed_back: deque[Line]) -> Iterator[Line]:
    while True:
        while pushed_back:
            yield pushed_back.popleft()
        line = next(lines, None)
        if line is None:
            return
        yield line


class _NotClosedError(Exception):
    """The lines are not one record."""


def _read_on(
    first: str, source: Iterator[Line], delimiter: str, field_count: int | None
) -> tuple[list[str] | None, list[Line]]:
    """Read a record whose first line ends within quotes.

    Returns:
        The fields, or None if the lines are not one record; and the lines taken after the first.
    """
    taken: list[Line] = []

    def feed() -> Iterator[str]:
        rows = 0 if field_count is None else int(first.count(delimiter) + 1 == field_count)
        size_bytes = len(first)
        yield first.replace("\r", _RETURN) + "\n"
        for item in source:
            taken.append(item)
            line = item[1]
            size_bytes += MAX_ROW_BYTES if line is None else len(line)
            if line is None or size_bytes > MAX_ROW_BYTES or len(taken) >= MAX_QUOTED_LINES:
                raise _NotClosedError
            text = decode_text(line)
            rows += field_count is not None and 1 < field_count == text.count(delimiter) + 1
            if rows == len(taken) + 1 >= _MAX_ROWS_IN_FIELD:
                raise _NotClosedError
            yield text.replace("\r", _RETURN) + "\n"

    try:
        # Strict: a quote within a field is doubled, and the closing one stands before a delimiter or a line end.
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except (csv.Error, _NotClosedError):
        return None, taken
    if field_count is not None and not fits(fields, field_count):
        return None, taken
    return [field.replace(_RETURN, "\r") for field in fields], taken


def fits(fields: Sequence[str], field_count: int) -> bool:
    """Whether a row has the table's number of fields; empty fields at its end do not count.

    >>> fits(["a cat", "http://h/1", ""], 2), fits(["a cat", "black", "http://h/1"], 2), fits(["a cat"], 2)
    (True, False, False)
    """
    return len(fields) == field_count or (len(fields) > field_count and not any(fields[field_count:]))
