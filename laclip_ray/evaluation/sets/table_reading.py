"""Read the rows of a labelled table: images with their labels, or the labels alone."""

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa

from laclip_ray.config import DataConfig
from laclip_ray.data import parquet, text_tables
from laclip_ray.data.image_sources import ImageSource, image_value, images_in_order
from laclip_ray.data.parquet_types import is_text
from laclip_ray.data.records import clean_id
from laclip_ray.data.table_rows import TableRow
from laclip_ray.evaluation.sets.records import LabelledImage, LabelledShard, label_text


def read_table(shard: LabelledShard) -> Iterator[LabelledImage]:
    """Read the images of some rows in their order. Remote images are fetched in parallel.

    A row without readable fields belongs to every split.

    Raises:
        ShardUnreadableError: the file is no table.
        OSError: the storage failed.
    """
    rows: Iterable[TableRow] = read_rows(shard, with_images=True)
    if shard.split_column:
        rows = (row for row in rows if row.problem is not None or split_of_row(row, shard) == shard.split)

    def value_of(row: TableRow) -> object:
        return image_value(row.fields, shard.image_column)

    for row, image in images_in_order(rows, value_of, ImageSource(shard.url, DataConfig(path=shard.url))):
        problem = row.problem or (image if isinstance(image, str) else "")
        encoded = image if isinstance(image, bytes) and not problem else None
        yield LabelledImage(_id(row, shard), encoded, label_text(row.fields.get(shard.label_column)), problem)


def read_rows(shard: LabelledShard, with_images: bool) -> Iterator[TableRow]:
    """Read the needed columns of some rows, of all splits.

    Args:
        shard: the rows.
        with_images: whether the column of images is read, too.
    """
    assert shard.table is not None
    if shard.layout == "csv":
        return text_tables.read_rows(shard.table)
    return parquet.read_rows(shard.table, partial(_needed, shard=shard, with_images=with_images))


def _needed(schema: pa.Schema, shard: LabelledShard, with_images: bool) -> tuple[list[str], list[str]]:
    texts = [name for name in (shard.label_column, shard.split_column) if name]
    if not with_images:
        return texts, []
    is_path = is_text(schema.field(shard.image_column).type)
    return ([*texts, shard.image_column], []) if is_path else (texts, [shard.image_column])


def split_of_row(row: TableRow, shard: LabelledShard) -> str:
    """The split that a row names."""
    return label_text(row.fields.get(shard.split_column))


def _id(row: TableRow, shard: LabelledShard) -> str:
    """The image's path, or the file and the number of the row."""
    value = row.fields.get(shard.image_column)
    if isinstance(value, str) and value:
        return clean_id(value)
    file_name = shard.name.removesuffix(f".{shard.start:09d}") if shard.start else shard.name
    return f"{file_name}#row{shard.start + row.number}"
