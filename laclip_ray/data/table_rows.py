"""Steps that the table readers share: check columns, split a file into ranges, and turn rows into samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.image_sources import ImageSource, image_value, images_in_order
from laclip_ray.data.records import (
    ID_MISSING,
    Sample,
    Shard,
    clean_caption,
    clean_id,
    hash_caption,
    id_text,
    number_id,
    select_captions,
)
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.tally import first_names

_SHOWN_NAMES = 20
_SHOWN_CHARACTERS = 60


class TableRow(NamedTuple):
    """A row of a table."""

    number: int
    """Row number in the shard, from 0."""
    fields: Mapping[str, Any]
    """Values by column name."""
    problem: str | None = None
    """The problem (`records`) that leaves the row without fields."""


def check_columns(
    names: Iterable[str], data: DataConfig, url: str, setting: str, may_lack_header: bool = False
) -> None:
    """Refuse a table that lacks a configured column.

    Args:
        names: the table's columns.
        data: names the configured columns.
        url: the table, for the message.
        setting: the config key of `data`, for the message.
        may_lack_header: whether `names` are the table's first row, which may hold data.

    Raises:
        UserError: a configured column is missing, or two columns have its name.
    """
    present = list(names)
    configured = {
        f"{setting}.caption_column": data.caption_column,
        f"{setting}.image_column": data.image_column,
        f"{setting}.id_column": data.id_column,
    }
    for key, column in configured.items():
        if column is None or present.count(column) == 1:
            continue
        if column in present:
            raise UserError(f"{key}: {url} has {present.count(column)} columns {column!r}; give each a name of its own")
        remedy = f". If its first row holds data, name the columns in {setting}.columns" if may_lack_header else ""
        near = did_you_mean(column, (name for name in present if name.isprintable()))
        raise UserError(f"{key}: {url} has no column {column!r}; it has {_list_names(present)}{near}{remedy}")


def _list_names(names: Sequence[str]) -> str:
    """Column names for a message. In a table without a header, or a binary file, they may be anything."""
    shown = (name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..." for name in names)
    return first_names((name if name.isprintable() else ascii(name) for name in shown), _SHOWN_NAMES) or "none"


def split_rows(file: Shard, starts: Sequence[tuple[int, int]], row_count: int, max_rows: int) -> list[Shard]:
    """Split a file into shards of at most `max_rows` rows.

    The first one keeps the file's name, so a file that grows past one shard keeps the rewrites of its first rows.

    Args:
        file: the whole file as one shard.
        starts: the first row of each shard, and its byte offset (0 for Parquet).
        row_count: rows of the file.
        max_rows: rows of every shard but the last.
    """
    return [
        replace(
            file,
            name=f"{file.name}.{start_row:09d}" if start_row else file.name,
            start_row=start_row,
            row_count=min(max_rows, row_count - start_row),
            start_byte=start_byte,
        )
        for start_row, start_byte in starts
    ]


def refuse_defects(shards: Sequence[Shard]) -> None:
    """Refuse a dataset if every file has a defect. With other files, a defect costs only its own file.

    Raises:
        UserError: no file has usable rows; the message names the first defect.
    """
    defects = [shard.defect for shard in shards]
    if all(defects):
        others = len({shard.url for shard in shards}) - 1
        raise UserError(defects[0] + (f". The other files ({others:,}) cannot be used either" if others else ""))


def samples_of(rows: Iterable[TableRow], shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Turn a shard's rows into samples, in order. Remote images are fetched in parallel."""
    samples = _samples_of(rows, shard, data, with_images)
    if data.captions == "first":
        return samples
    return (replace(sample, row=number) for number, sample in enumerate(samples))


def _samples_of(rows: Iterable[TableRow], shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """The samples, with the numbers of their rows."""
    if not with_images:
        for row in rows:
            yield from _to_samples(row, shard, data)
        return
    source = ImageSource(shard.url, data)
    for row, image in images_in_order(rows, lambda row: image_value(row.fields, data.image_column), source):
        yield from _to_samples(row, shard, data, image)


def _to_samples(row: TableRow, shard: Shard, data: DataConfig, image: bytes | str | None = None) -> Iterable[Sample]:
    """The samples of a row: one for each caption, with a common image.

    `image` is the encoded image, or the image's problem; None if images are not read.
    """
    if row.problem is not None:
        # The row's own id cannot be trusted. Its number in the file finds it.
        sample_id = f"{storage.name_of(shard.url)}#row{shard.start_row + row.number}"
        return (Sample(row.number, sample_id, "", None, (row.problem,)),)
    image_path = image_value(row.fields, data.image_column)
    image_path = image_path if isinstance(image_path, str) and image_path else None
    notes: tuple[str, ...] = ()
    if isinstance(image, str):
        notes = (image,)
        image = None
    value = row.fields.get(data.caption_column)
    others: Sequence[object] = ()
    if isinstance(value, list):
        value, *others = select_captions(value, data.captions)
    caption, problems = clean_caption(value)
    sample_id, id_notes = _id(row, data, caption)
    notes = (*id_notes, *notes)
    first = Sample(row.number, sample_id, caption, image, problems + notes, 0, image_path)
    return [first, *_other_samples(first, others, notes)] if others else (first,)


def _other_samples(first: Sample, captions: Sequence[object], notes: tuple[str, ...]) -> Iterator[Sample]:
    """The samples of a row's captions after the first."""
    for number, value in enumerate(captions, 1):
        caption, problems = clean_caption(value)
        sample_id = number_id(first.id, number)
        yield replace(first, id=sample_id, caption=caption, problems=problems + notes, caption_number=number)


def _id(row: TableRow, data: DataConfig, caption: str) -> tuple[str, tuple[str, ...]]:
    """The row's id, and the note of a missing one."""
    notes: tuple[str, ...] = ()
    if data.id_column:
        if (configured := id_text(row.fields.get(data.id_column))) is not None:
            return clean_id(configured), notes
        notes = (ID_MISSING,)
    image = row.fields.get(data.image_column) if data.image_column else None
    if isinstance(image, str) and image:
        return clean_id(image), notes
    return clean_id(id_text(row.fields.get("url")) or hash_caption(caption)), notes
