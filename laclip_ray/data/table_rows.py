"""Steps that the table readers share: check columns, split a file into ranges, and turn rows into samples.

A row holds its image (bytes) or names an image file. Remote image files are fetched in parallel, ahead of their turn.
"""

import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import IMAGE_MISSING, Sample, Shard, clean_caption, clean_id, hash_caption
from laclip_ray.errors import UserError

_FETCH_THREADS = 16
"""Images fetched in parallel."""

_FETCH_AHEAD_ROWS = 32
"""Rows read ahead while an image is fetched."""


class TableRow(NamedTuple):
    """A row of a table."""

    number: int
    """Row number in the shard, from 0."""
    fields: Mapping[str, Any]
    """Values by column name."""


def check_columns(names: Iterable[str], data: DataConfig, url: str, setting: str) -> None:
    """Refuse a table that lacks a configured column.

    Args:
        names: the table's columns.
        data: names the configured columns.
        url: the table, for the message.
        setting: the config key of `data`, for the message.

    Raises:
        UserError: a configured column is missing.
    """
    present = list(names)
    configured = {
        f"{setting}.caption_column": data.caption_column,
        f"{setting}.image_column": data.image_column,
        f"{setting}.id_column": data.id_column,
    }
    for key, column in configured.items():
        if column is not None and column not in present:
            raise UserError(f"{key}: {url} has no column {column!r}; it has {', '.join(present) or 'none'}")


def split_rows(file: Shard, starts: Sequence[tuple[int, int]], row_count: int, max_rows: int) -> list[Shard]:
    """Split a file into shards of at most `max_rows` rows. A file that fits one shard keeps its name.

    Args:
        file: the whole file as one shard.
        starts: the first row of each shard, and its byte offset (0 for Parquet).
        row_count: rows of the file.
        max_rows: rows of every shard but the last.
    """
    return [
        replace(
            file,
            name=f"{file.name}.{start_row:09d}" if len(starts) > 1 else file.name,
            start_row=start_row,
            row_count=min(max_rows, row_count - start_row),
            start_byte=start_byte,
        )
        for start_row, start_byte in starts
    ]


def samples_of(rows: Iterable[TableRow], shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Turn a shard's rows into samples, in order. Fetches up to `_FETCH_THREADS` remote images in parallel."""
    converter = _RowConverter(shard.url, data, with_images)
    pool = ThreadPoolExecutor(_FETCH_THREADS, "images")
    pending: deque[Callable[[], Sample]] = deque()
    try:
        for row in rows:
            if converter.has_remote_image(row):
                pending.append(pool.submit(converter.convert, row).result)
            else:
                pending.append(partial(converter.convert, row))
            if len(pending) > _FETCH_AHEAD_ROWS:
                yield pending.popleft()()
        while pending:
            yield pending.popleft()()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _RowConverter:
    """Turns rows of one shard into samples."""

    shard_url: str
    data: DataConfig
    with_images: bool

    def convert(self, row: TableRow) -> Sample:
        """Make a sample of a row, and read its image."""
        caption, problems = clean_caption(row.fields.get(self.data.caption_column))
        image: bytes | None = None
        if self.with_images:
            image = self._read_image(row)
            if image is None:
                problems = (*problems, IMAGE_MISSING)
        return Sample(row.number, self._id(row, caption), caption, image, problems)

    def has_remote_image(self, row: TableRow) -> bool:
        """Whether converting the row reads a remote image file."""
        value = self._image_value(row)
        return self.with_images and isinstance(value, str) and not storage.is_local(self._image_url(value))

    def _id(self, row: TableRow, caption: str) -> str:
        configured = row.fields.get(self.data.id_column) if self.data.id_column else None
        image = row.fields.get(self.data.image_column) if self.data.image_column else None
        image_path = image if isinstance(image, str) else None
        candidates = (configured, image_path, row.fields.get("url"))
        sample_id = next((str(value) for value in candidates if value not in (None, "")), None)
        return clean_id(sample_id or hash_caption(caption))

    def _image_value(self, row: TableRow) -> object:
        """The image's bytes, or the path of its file; None if the row has neither."""
        value = row.fields.get(self.data.image_column) if self.data.image_column else None
        if isinstance(value, Mapping):  # Hugging Face's image feature: {"bytes": ..., "path": ...}
            value = value.get("bytes") or value.get("path")
        return value

    def _read_image(self, row: TableRow) -> bytes | None:
        value = self._image_value(row)
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            return None
        try:
            return storage.read_bytes(self._image_url(value))
        except (OSError, ValueError):  # ValueError: not a valid path or URL
            return None

    def _image_url(self, path: str) -> str:
        if "://" in path or posixpath.isabs(path):
            return path
        return storage.join(self.data.image_root or posixpath.dirname(self.shard_url), path)
