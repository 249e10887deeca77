"""The reader of text tables (CSV, TSV, JSON lines): a shard is a range of rows that starts at a known byte offset.

Listing scans the whole file once. The first block shows the encoding and line ends (`lines`) and the dialect
(`dialect`); the rest gives the offsets of the ranges. Reading a shard then starts at its offset.

A row of a CSV or TSV that does not have a field for each column is counted, but not used: its caption may be cut, or be
another column's. Empty fields at its end do not count.

Not covered: compressed files.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.csv_records import Dialect, Width, read_records
from laclip_ray.data.dialect import detect_dialect
from laclip_ray.data.file_kinds import describe_start
from laclip_ray.data.lines import BLOCK_BYTES, Line, TextForm, detect_form, split_lines
from laclip_ray.data.records import (
    FIELDS_DIFFER,
    HEADER_REPEATED,
    MAX_ROW_BYTES,
    ROW_TOO_LONG,
    Sample,
    Shard,
    ShardUnreadableError,
    parse_json,
    select_captions,
)
from laclip_ray.data.table_rows import TableRow, check_columns, samples_of, split_rows
from laclip_ray.errors import UserError

_FIRST_LINES = 10_000
"""Lines of the first block, at most."""

_NO_TABLES = ("a Git LFS pointer", "an HTML page", "an XML document", "zero bytes")
"""Kinds of text files (`describe_start`) that hold no table."""

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""Characters that text hardly ever holds."""

_JSON_TYPES = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", dict: "an object"}


def split_text_table(
    file: Shard, data: DataConfig, setting: str, check: Callable[..., None] = check_columns
) -> list[Shard]:
    """Split a file into shards of at most `max_rows_per_shard` rows.

    Args:
        file: the whole file as one shard.
        data: names the columns that the file must have.
        setting: the config key of `data`, for messages.
        check: refuses a CSV or TSV by its columns; called as `check_columns`.

    Returns:
        The shards. They have a `defect` if no row can be used. A file that is no table is one shard with a defect and
        no `row_count`.

    Raises:
        UserError: the file lacks a configured column.
    """
    with _blocks(file.url) as blocks:
        head = next(blocks, b"")
        form = detect_form(head)
        kind = describe_start(head[:512])
        is_binary = form.encoding == "utf-8" and _CONTROL.search(head[:512]) is not None
        no_table = replace(file, defect=f"{setting}.path: {file.url} is {kind}, not a table")
        if kind.startswith(_NO_TABLES) or (is_binary and not kind.startswith("bytes")):
            return [no_table]
        file = replace(file, encoding=form.encoding, line_end=form.line_end)
        lines = split_lines(chain([head], blocks), form)
        first = _first_block(lines)
        split = _split_json_lines if file.format == "jsonl" else partial(_split_csv, check=check)
        try:
            return split(file, first, chain(first, lines), data, setting)
        except UserError:
            if is_binary and b"\x00" in head[:512]:
                return [no_table]
            raise


@contextmanager
def _blocks(url: str, start_byte: int = 0) -> Iterator[Iterator[bytes]]:
    """The content of a file from `start_byte` on, in blocks."""
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb", block_size=BLOCK_BYTES) as file:
        file.seek(start_byte)
        yield iter(partial(file.read, BLOCK_BYTES), b"")


def _first_block(lines: Iterator[Line]) -> list[Line]:
    """Take the lines of the first block."""
    first: list[Line] = []
    for line in lines:
        first.append(line)
        if line[0] >= BLOCK_BYTES or len(first) == _FIRST_LINES:
            break
    return first


def _split_csv(
    file: Shard,
    first: Sequence[Line],
    lines: Iterator[Line],
    data: DataConfig,
    setting: str,
    check: Callable[..., None],
) -> list[Shard]:
    """Split a CSV or TSV; `first` are its first lines, `lines` all of them."""
    dialect = detect_dialect(first, file.format, data)
    columns = tuple(data.columns or ())
    if not data.columns:
        columns = tuple(next(read_records(lines, dialect, None), (0, [], None))[1])
    width = Width.of(columns)
    records = read_records(lines, dialect, width, only_offsets=True)
    starts: list[tuple[int, int]] = []
    row_count = 0
    for offset, _, _ in records:
        if row_count == 0:
            check(columns, data, file.url, setting, may_lack_header=not data.columns)
        if row_count % data.max_rows_per_shard == 0:
            starts.append((row_count, offset))
        row_count += 1
    file = replace(file, columns=columns, delimiter=dialect.delimiter, is_quoted=dialect.is_quoted)
    if row_count:
        file = replace(file, defect=_check_width(file.url, first, starts[0][1], dialect, width, data, setting))
    return split_rows(file, starts, row_count, data.max_rows_per_shard)


def _check_width(
    url: str, first: Sequence[Line], start_byte: int, dialect: Dialect, width: Width, data: DataConfig, setting: str
) -> str:
    """Check that some readable row of the first lines has the table's width; returns the file's defect, mostly none."""
    rows = (line for line in first if line[0] >= start_byte)
    count = None
    for _, fields, problem in read_records(rows, dialect, width):
        if problem is None and width.fits(fields):
            return ""
        if problem is None and count is None:
            count = len(fields)
    if count is None:
        return ""
    if data.columns:
        return f"{setting}.columns: {url} has {count} columns in its first row, {width.most} are named"
    names = f"{setting}.path: {url} names {width.most} columns, but no row has as many fields ({FIELDS_DIFFER})"
    return f"{names}; its first row has {count}"


def _split_json_lines(
    file: Shard, first: Sequence[Line], lines: Iterator[Line], data: DataConfig, setting: str
) -> list[Shard]:
    """Split JSON lines; `first` are the file's first lines, `lines` all of them."""
    starts: list[tuple[int, int]] = []
    row_count = 0
    for offset, line in lines:
        if line is None or line.strip():
            if row_count % data.max_rows_per_shard == 0:
                starts.append((row_count, offset))
            row_count += 1
    if row_count:
        file = replace(file, defect=_check_objects(file.url, first, row_count, data, setting))
    return split_rows(file, starts, row_count, data.max_rows_per_shard)


def _check_objects(url: str, first: Sequence[Line], row_count: int, data: DataConfig, setting: str) -> str:
    """Check the keys of the first lines' objects; returns the file's defect, mostly none."""
    rows = [line for _, line in first if line is None or line.strip()]
    values = (parse_json(line) for line in rows if line is not None)
    objects = [value for value in values if isinstance(value, Mapping)]
    if not objects:
        most = f" of at most {MAX_ROW_BYTES // 2**20} MiB" if None in rows else ""
        defect = f"{setting}.path: {url} holds no JSON object; JSON lines have one in each line{most}"
        return defect if len(rows) == row_count else ""
    check_columns(dict.fromkeys(key for fields in objects for key in fields), data, url, setting)
    captions = [select_captions(fields.get(data.caption_column), "first")[0] for fields in objects]
    kinds = Counter(_JSON_TYPES.get(type(caption), "text") for caption in captions)
    if "text" in kinds or (len(rows) < row_count and kinds.keys() == {"null"}):
        return ""
    return f"{setting}.caption_column: {url}: {data.caption_column!r} is {' or '.join(kinds)} in every row, not text"


def read_text_table(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order.

    Raises:
        ShardUnreadableError: the file is no table.
    """
    return samples_of(read_rows(shard), shard, data, with_images)


def read_rows(shard: Shard) -> Iterator[TableRow]:
    """Read the rows of a shard in the file's order.

    Raises:
        ShardUnreadableError: the file is no table.
    """
    if shard.row_count is None:
        raise ShardUnreadableError(shard.defect)
    with _blocks(shard.url, shard.start_byte) as blocks:
        lines = split_lines(blocks, TextForm(shard.encoding, shard.line_end), shard.start_byte)
        rows = _json_rows(lines) if shard.format == "jsonl" else _csv_rows(lines, shard)
        for number, (fields, problem) in zip(range(shard.row_count), rows, strict=False):
            yield TableRow(number, fields, problem)


def _json_rows(lines: Iterable[Line]) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """The fields of each row, and the problem that leaves it without fields."""
    for _, line in lines:
        if line is None:
            yield {}, ROW_TOO_LONG
        elif line.strip():
            fields = parse_json(line)
            yield fields if isinstance(fields, Mapping) else {}, None


def _csv_rows(lines: Iterator[Line], shard: Shard) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """As `_json_rows`."""
    columns = list(shard.columns or ())
    names = (columns[0], "\ufeff" + columns[0])  # concatenated files may have byte order marks
    width = Width.of(columns)
    for _, fields, problem in read_records(lines, Dialect(shard.delimiter, shard.is_quoted), width):
        if problem is not None:
            yield {}, problem
        elif len(fields) != width.most and not width.fits(fields):
            yield {}, FIELDS_DIFFER
        elif fields[0] in names and fields[1:] == columns[1:]:
            yield {}, HEADER_REPEATED
        else:
            yield dict(zip(columns, fields, strict=False)), None
