"""The Parquet reader: a shard is a range of rows, and reads only the row groups that it overlaps."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import Sample, Shard, decode_text
from laclip_ray.data.table_rows import TableRow, check_columns, samples_of, split_rows
from laclip_ray.errors import UserError

_BATCH_ROWS = 1_024
"""Rows decoded at a time."""


def split_parquet(file: Shard, data: DataConfig, setting: str) -> list[Shard]:
    """Split a file into shards of at most `max_rows_per_shard` rows; reads only its footer.

    Args:
        file: the whole file as one shard.
        data: names the columns that the file must have.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: the file is not Parquet, or lacks a configured column.
    """
    fs, path = storage.filesystem(file.url)
    try:
        with fs.open(path, "rb") as handle:
            parquet = pq.ParquetFile(handle)
            row_count, names = parquet.metadata.num_rows, parquet.schema_arrow.names
    except (OSError, ValueError) as error:
        raise UserError(f"{setting}.path: {file.url} is not readable as Parquet: {error}") from error
    check_columns(names, data, file.url, setting)
    starts = [(start_row, 0) for start_row in range(0, row_count, data.max_rows_per_shard)]
    return split_rows(file, starts, row_count, data.max_rows_per_shard)


def read_parquet(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order."""
    return samples_of(_read_rows(shard, data, with_images), shard, data, with_images)


def _read_rows(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[TableRow]:
    fs, path = storage.filesystem(shard.url)
    assert shard.row_count is not None
    end_row = shard.start_row + shard.row_count
    with fs.open(path, "rb") as handle:
        parquet = pq.ParquetFile(handle)
        columns = _needed_columns(parquet.schema_arrow, data, with_images)
        group_start = 0
        for group in range(parquet.num_row_groups):
            group_end = group_start + parquet.metadata.row_group(group).num_rows
            if group_start < end_row and group_end > shard.start_row:
                batch_start = group_start
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=columns):
                    first = max(shard.start_row - batch_start, 0)
                    last = min(end_row - batch_start, batch.num_rows)
                    if first < last:
                        rows = _to_rows(batch.slice(first, last - first))
                        for number, fields in enumerate(rows, batch_start + first - shard.start_row):
                            yield TableRow(number, fields)
                    batch_start += batch.num_rows
            group_start = group_end


def _needed_columns(schema: pa.Schema, data: DataConfig, with_images: bool) -> list[str]:
    names = {data.caption_column, data.id_column, "url"}
    # An image path is the sample's id, so reading without images needs that column too.
    if data.image_column and (with_images or _is_text(schema.field(data.image_column).type)):
        names.add(data.image_column)
    return [name for name in schema.names if name in names]


def _is_text(arrow_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def _to_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch by column name. Invalid UTF-8, which some Parquet writers let pass, becomes surrogates."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        names = [field.name for field in batch.schema if _is_text(field.type)]
        for name in names:
            column = batch.schema.get_field_index(name)
            batch = batch.set_column(column, name, batch.column(column).cast(pa.large_binary()))
        rows = batch.to_pylist()
        for row in rows:
            row.update({name: decode_text(row[name]) for name in names if row[name] is not None})
    return rows
