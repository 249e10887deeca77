"""Steps that the table readers share: check columns, split a file into ranges, and turn rows into samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from laclip_ray.config import DataConfig
from laclip_ray.data.image_sources import ImageSource, image_value, images_in_order
from laclip_ray.data.records import Sample, Shard, clean_caption, clean_id, hash_caption
from laclip_ray.errors import UserError


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
    """Turn a shard's rows into samples, in order. Remote images are fetched in parallel."""
    if not with_images:
        for row in rows:
            yield _to_sample(row, data)
        return
    source = ImageSource(shard.url, data)
    for row, image in images_in_order(rows, lambda row: image_value(row.fields, data.image_column), source):
        yield _to_sample(row, data, image)


def _to_sample(row: TableRow, data: DataConfig, image: bytes | str | None = None) -> Sample:
    """Make a sample of a row. `image`: its encoded image, or the image's problem; None if images are not read."""
    caption, problems = clean_caption(row.fields.get(data.caption_column))
    sample_id = _id(row, data, caption)
    if isinstance(image, str):
        return Sample(row.number, sample_id, caption, None, (*problems, image))
    return Sample(row.number, sample_id, caption, image, problems)


def _id(row: TableRow, data: DataConfig, caption: str) -> str:
    configured = row.fields.get(data.id_column) if data.id_column else None
    image = row.fields.get(data.image_column) if data.image_column else None
    image_path = image if isinstance(image, str) else None
    candidates = (configured, image_path, row.fields.get("url"))
    sample_id = next((str(value) for value in candidates if value not in (None, "")), None)
    return clean_id(sample_id or hash_caption(caption))
