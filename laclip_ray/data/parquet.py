"""The Parquet reader: a shard is a range of rows, and reads only the row groups that it overlaps.

Captions and ids are read in batches of their own, beside the images, so a row has the same caption with and without
images. Rows in a damaged part of the file are counted as `row_unreadable`; all others are used. A damaged page costs
the rest of its row group. If only the column of images is damaged, the rows have no images.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.file_kinds import describe_start
from laclip_ray.data.parquet_types import decode_rows, has_member, holds_captions, is_text, lift_members
from laclip_ray.data.records import MAX_ROW_BYTES, ROW_UNREADABLE, Sample, Shard, ShardUnreadableError
from laclip_ray.data.table_rows import TableRow, check_columns, samples_of, split_rows

logger = logging.getLogger(__name__)

_BATCH_ROWS = 1_024
"""Rows decoded at a time."""

_BATCH_BYTES = 64 * 2**20
"""Images decoded at a time, about."""

_BUFFERED_BYTES = 256 * 2**20
"""Row groups of at most this size are fetched at once. Larger ones are streamed."""

_LARGE_BYTES = 256 * 2**20
_MOST_COMPRESSED = 200
"""A column of `_LARGE_BYTES` in a row group that is compressed more than this is not read: it is a trap for memory."""

_MAX_ROWS = 2**32
"""No file has more rows."""

_EXACT_FLOATS = 2.0**53
"""Below it every whole number has a float of its own."""

Row = dict[str, Any]


class Footer(NamedTuple):
    """The facts in the footer of a Parquet file."""

    row_count: int
    group_rows: tuple[int, ...]
    """Rows of each row group."""
    schema: pa.Schema


def split_parquet(file: Shard, data: DataConfig, setting: str) -> list[Shard]:
    """Split a file into shards of at most `max_rows_per_shard` rows; reads only its footer.

    Args:
        file: the whole file as one shard.
        data: names the columns that the file must have.
        setting: the config key of `data`, for messages.

    Returns:
        The shards. They have a `defect` if the caption column cannot hold captions. A file that is not readable as
        Parquet is one shard with a defect and no `row_count`.

    Raises:
        UserError: the file lacks a configured column.
    """
    footer = read_footer(file.url, setting)
    if isinstance(footer, str):
        return [replace(file, defect=footer)]
    member = [data.id_column] if data.id_column and has_member(footer.schema, data.id_column) else []
    check_columns([*footer.schema.names, *member], data, file.url, setting)
    caption_type = footer.schema.field(data.caption_column).type
    if not holds_captions(caption_type):
        defect = f"{setting}.caption_column: {file.url}: column {data.caption_column!r} has type {caption_type}"
        file = replace(file, defect=f"{defect}; a caption is text, or a list of texts")
    starts = [(start_row, 0) for start_row in range(0, footer.row_count, data.max_rows_per_shard)]
    return split_rows(file, starts, footer.row_count, data.max_rows_per_shard)


def read_footer(url: str, setting: str) -> Footer | str:
    """The footer of a file; if it is not readable as Parquet, why, as a message.

    Args:
        url: the file.
        setting: the config key of the data, for the message.

    Raises:
        OSError: the storage failed.
    """
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as handle:
        watched = _WatchedFile(handle)
        try:
            parquet = pq.ParquetFile(watched)
            metadata, schema = parquet.metadata, parquet.schema_arrow
        except (OSError, ValueError, pa.ArrowException) as error:
            watched.raise_error()
            handle.seek(0)
            head = handle.read(512)
            reason = error if head.startswith(b"PAR1") else f"it is {describe_start(head)}"
            return " ".join(f"{setting}.path: {url} is not readable as Parquet: {reason}".split())
    if not 0 <= metadata.num_rows <= _MAX_ROWS:
        return f"{setting}.path: {url} claims to have {metadata.num_rows:,} rows"
    group_rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return Footer(metadata.num_rows, group_rows, schema)


def read_parquet(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order.

    Raises:
        ShardUnreadableError: the file is not readable as Parquet.
        OSError: the storage failed.
    """
    return samples_of(_read_rows(shard, data, with_images), shard, data, with_images)


def _read_rows(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[TableRow]:
    for row in read_rows(shard, partial(_needed_columns, data=data, with_images=with_images)):
        if data.id_column and isinstance(value := row.fields.get(data.id_column), float):
            yield row._replace(fields={**row.fields, data.id_column: _whole_number(value)})
        else:
            yield row


def read_rows(shard: Shard, needed: Callable[[pa.Schema], tuple[list[str], list[str]]]) -> Iterator[TableRow]:
    """Read rows of a shard in the file's order, each with the values of some columns.

    Args:
        shard: a range of rows.
        needed: from the schema, the small columns and the columns of images. Damage in the latter leaves a row with the
            values of the former.

    Raises:
        ShardUnreadableError: the file is not readable as Parquet.
        OSError: the storage failed.
    """
    if shard.row_count is None:
        raise ShardUnreadableError(shard.defect)
    end_row = shard.start_row + shard.row_count
    number = 0
    fs, path = storage.filesystem(shard.url)
    with fs.open(path, "rb") as handle:
        file = _File.open(handle, shard.url)
        texts, images = needed(file.parquet.schema_arrow)
        group_start = 0
        for group in range(file.parquet.num_row_groups):
            group_rows = file.parquet.metadata.row_group(group).num_rows
            first = max(shard.start_row - group_start, 0)
            last = min(end_row - group_start, group_rows)
            if first < last:
                for fields in file.rows(group, texts, images, first, last):
                    yield TableRow(number, fields or {}, None if fields is not None else ROW_UNREADABLE)
                    number += 1
            group_start += group_rows


def _whole_number(value: float) -> float | int:
    """The id as an integer if it is whole: writers make floats of integers if some are null."""
    return int(value) if value.is_integer() and abs(value) < _EXACT_FLOATS else value


def _needed_columns(schema: pa.Schema, data: DataConfig, with_images: bool) -> tuple[list[str], list[str]]:
    """The columns of captions and ids, and the columns of images."""
    names = {data.caption_column, data.id_column, "url"}
    images: set[str] = set()
    if data.image_column:
        # An image path is the sample's id, so reading without images needs that column too.
        if is_text(schema.field(data.image_column).type):
            names.add(data.image_column)
        elif with_images and data.image_column not in names:
            images.add(data.image_column)
    texts = [name for name in schema.names if name in names]
    if data.id_column and has_member(schema, data.id_column):
        texts.append(data.id_column)
    return texts, [name for name in schema.names if name in images]


@dataclass(frozen=True)
class _File:
    """An open Parquet file."""

    url: str
    parquet: pq.ParquetFile
    handle: "_WatchedFile"

    @classmethod
    def open(cls, handle: Any, url: str) -> "_File":
        """Read the footer of an open file."""
        watched = _WatchedFile(handle)
        metadata = pq.read_metadata(watched)
        groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
        largest = max((group.total_byte_size for group in groups), default=0)
        parquet = pq.ParquetFile(
            watched,
            metadata=metadata,
            binary_type=pa.large_binary(),  # Arrow refuses a dictionary with invalid UTF-8 as a whole
            pre_buffer=largest <= _BUFFERED_BYTES,
            buffer_size=0 if largest <= _BUFFERED_BYTES else 2**23,
            page_checksum_verification=True,
        )
        return cls(url, parquet, watched)

    def rows(
        self, group: int, texts: Sequence[str], images: Sequence[str], first: int, last: int
    ) -> Iterator[Row | None]:
        """Rows `first` to `last` of a row group; None for each that cannot be read."""
        rows = self._read(group, texts, _BATCH_ROWS, first, last)
        if not images:
            yield from rows
            return
        size_bytes = self._size_bytes(group, images)[0] // max(self.parquet.metadata.row_group(group).num_rows, 1)
        batch_rows = max(min(_BATCH_BYTES // max(size_bytes, 1), _BATCH_ROWS), 1)
        for row, image in zip(rows, self._read(group, images, batch_rows, first, last), strict=True):
            yield row | image if row is not None and image is not None else row

    def _read(self, group: int, columns: Sequence[str], batch_rows: int, first: int, last: int) -> Iterator[Row | None]:
        """Rows `first` to `last` of some columns of a row group; None for each that cannot be read."""
        read = 0
        reason: object = "it ends early"
        try:
            self._check_size(group, columns)
            for batch in self.parquet.iter_batches(batch_rows, row_groups=[group], columns=list(columns)):
                skipped = max(first - read, 0)
                wanted = min(last - read, batch.num_rows) - skipped
                rows = decode_rows(batch.slice(skipped, wanted)) if wanted > 0 else []
                lift_members(rows, columns)
                read += batch.num_rows
                yield from rows
                if read >= last:
                    return
        except (OSError, ValueError, pa.ArrowException) as error:
            self.handle.raise_error()
            reason = error
        start = max(read, first)
        logger.warning(
            "%s: %d rows of row group %d cannot be read (%s): %s",
            self.url, last - start, group, ", ".join(columns), reason,
        )  # fmt: skip
        yield from repeat(None, last - start)

    def _check_size(self, group: int, columns: Sequence[str]) -> None:
        size_bytes, compressed_bytes = self._size_bytes(group, columns)
        rows = max(self.parquet.metadata.row_group(group).num_rows, 1)
        if size_bytes > _LARGE_BYTES and size_bytes > min(_MOST_COMPRESSED * compressed_bytes, rows * MAX_ROW_BYTES):
            raise ValueError(f"{compressed_bytes:,} bytes expand to {size_bytes:,} bytes in {rows:,} rows")

    def _size_bytes(self, group: int, columns: Sequence[str]) -> tuple[int, int]:
        """Bytes of some columns of a row group, decompressed and compressed."""
        description = self.parquet.metadata.row_group(group)
        chunks = [description.column(number) for number in range(description.num_columns)]
        chosen = [chunk for chunk in chunks if _is_below(chunk.path_in_schema, columns)]
        return sum(chunk.total_uncompressed_size for chunk in chosen), sum(
            chunk.total_compressed_size for chunk in chosen
        )


def _is_below(path: str, columns: Sequence[str]) -> bool:
    """Whether a path in a schema (`image.bytes`) is one of these columns, or part of one."""
    return any(path == column or path.startswith(f"{column}.") for column in columns)


class _WatchedFile:
    """A file that remembers errors of the storage. Arrow raises the same types for damaged content."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._error: Exception | None = None

    def raise_error(self) -> None:
        """Raise the storage's error, if there was one."""
        if self._error is not None:
            raise self._error

    def read(self, size: int = -1) -> bytes:
        try:
            content: bytes = self._file.read(size)
        except Exception as error:
            self._error = error
            raise
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
