"""The reader of text tables (CSV, TSV, JSON lines): a shard is a range of rows that starts at a known byte offset.

Listing scans the whole file once, to find the offsets. Reading a shard then starts at its offset.
"""

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import Sample, Shard, decode_text, parse_json
from laclip_ray.data.table_rows import TableRow, check_columns, samples_of, split_rows
from laclip_ray.errors import UserError


def split_text_table(file: Shard, data: DataConfig, setting: str) -> list[Shard]:
    """Split a file into shards of at most `max_rows_per_shard` rows.

    Args:
        file: the whole file as one shard.
        data: names the columns that the file must have.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: the file lacks a configured column, or `columns` does not fit the first row.
    """
    columns: tuple[str, ...] | None = tuple(data.columns) if data.columns else None
    starts: list[tuple[int, int]] = []
    row_count = 0
    for offset, record in _read_records(file, start_byte=0):
        if columns is None and file.format != "jsonl":  # the header
            columns = tuple(str(field) for field in record)
            continue
        if row_count == 0:
            check_columns(_column_names(file, record, columns, data, setting), data, file.url, setting)
        if row_count % data.max_rows_per_shard == 0:
            starts.append((row_count, offset))
        row_count += 1
    return split_rows(replace(file, columns=columns), starts, row_count, data.max_rows_per_shard)


def _column_names(
    file: Shard, first_record: Any, columns: tuple[str, ...] | None, data: DataConfig, setting: str
) -> Iterable[str]:
    """The file's column names; for JSON lines, the keys of its first object."""
    if columns is None:
        return first_record if isinstance(first_record, Mapping) else ()
    if data.columns and len(first_record) != len(columns):
        raise UserError(
            f"{setting}.columns: {file.url} has {len(first_record)} columns in its first row, {len(columns)} are named"
        )
    return columns


def read_text_table(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order."""
    return samples_of(_read_rows(shard), shard, data, with_images)


def _read_rows(shard: Shard) -> Iterator[TableRow]:
    assert shard.row_count is not None
    records = _read_records(shard, shard.start_byte)
    for number, (_, record) in zip(range(shard.row_count), records, strict=False):
        if shard.columns is not None:
            record = dict(zip(shard.columns, record, strict=False))
        yield TableRow(number, record if isinstance(record, Mapping) else {})


def _read_records(file: Shard, start_byte: int) -> Iterator[tuple[int, Any]]:
    """(byte offset, record) from `start_byte` on. A record is a list of fields; of JSON lines, the parsed value."""
    lines = _without_byte_order_mark(storage.iterate_lines(file.url, start_byte))
    if file.format == "jsonl":
        return ((offset, parse_json(line)) for offset, line in lines if line.strip())
    if file.format == "tsv":
        return ((offset, [decode_text(field) for field in line.split(b"\t")]) for offset, line in lines if line)
    return _read_csv_records(lines)


def _without_byte_order_mark(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for offset, line in lines:
        yield offset, line.removeprefix(codecs.BOM_UTF8) if offset == 0 else line


def _read_csv_records(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, list[str]]]:
    # csv.reader takes as many lines as a record needs (fields may hold line breaks). The first of them is the record's
    # start.
    offsets: list[int] = []

    def feed() -> Iterator[str]:
        for offset, line in lines:
            offsets.append(offset)
            yield decode_text(line) + "\n"

    reader = csv.reader(feed())
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a bare carriage return, or a field over 128 KiB
            yield offsets[0], []  # a row without fields: its caption is missing
            offsets.clear()
            continue
        start = offsets[0]
        offsets.clear()
        if record:
            yield start, record
