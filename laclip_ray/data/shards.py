"""Shards and the samples in them: WebDataset tars, Parquet files, and tables that name images by path.

A shard is a whole tar, or a range of at most `max_rows_per_shard` rows of a Parquet file or of a text table
(through a byte offset found when shards are listed). A sample's id is a configured column, else the WebDataset
key, else the image path, else the `url` column, else a hash of the caption; a repeat of an id within a shard
becomes `id#2`.

Guarantees: reading with and without images gives the same rows, ids and captions. A bad row never raises: it comes
out with its `problems`, by the names below. A tar that ends in the middle gives what it holds and one row that
says so.

Not covered: compressed text tables; row groups larger than memory.
"""

import codecs
import csv
import posixpath
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DataConfig, Format
from laclip_ray.data.records import (
    DUPLICATE_ID,
    IMAGE_MISSING,
    Sample,
    Shard,
    caption_of,
    clean_id,
    decode_marking,
    hash_caption,
    parse_json,
)
from laclip_ray.data.webdataset import read_webdataset
from laclip_ray.errors import UserError

EXTENSIONS: dict[str, Format] = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def list_shards(data: DataConfig, setting: str = "data") -> list[Shard]:
    """All shards of a dataset, by name.

    Args:
        data: where the dataset is.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: a path does not exist, holds no shard, holds two formats, or lacks a configured column.
    """
    files: dict[str, str] = {}
    for entry in [data.path] if isinstance(data.path, str) else data.path:
        for name, url in _named_files(entry, data, setting).items():
            if files.setdefault(name, url) != url:
                raise UserError(
                    f"{setting}.path: {files[name]} and {url} would both be the shard {name!r}; "
                    "give the directory above both"
                )
    formats = {_format_of(url, data) for url in files.values()}
    if len(formats) > 1:
        raise UserError(f"{setting}.path: more than one format ({', '.join(sorted(formats))}); set {setting}.format")
    (kind,) = formats

    def shards_of(item: tuple[str, str]) -> list[Shard]:
        name, url = item
        if kind == "webdataset":
            return [Shard(name, url, kind, file_identity=storage.identity(url))]
        whole = Shard(name, url, kind, file_identity=storage.identity(url))
        return _parquet_ranges(whole, data, setting) if kind == "parquet" else _table_ranges(whole, data, setting)

    with ThreadPoolExecutor(16) as pool:  # waits for storage, mostly
        found = [shard for part in pool.map(shards_of, sorted(files.items())) for shard in part]
    if not found:
        raise UserError(f"{setting}.path: {data.path!r} holds no rows")
    return found


def _named_files(entry: str, data: DataConfig, setting: str) -> dict[str, str]:
    found = storage.expand(entry)
    wildcard = re.search(r"[*?\[]", storage.filesystem(entry)[1])
    if not found:
        what = "matches nothing" if wildcard else "does not exist or is empty"
        raise UserError(f"{setting}.path: {entry!r} {what}")
    if not wildcard and not storage.is_directory(entry):
        return {storage.name_of(found[0]): found[0]}
    by_name = {url: EXTENSIONS.get(posixpath.splitext(url)[1].lower()) for url in found}
    if data.format == "auto":
        found = [url for url in found if by_name[url]]
        if not found:
            raise UserError(f"{setting}.path: {entry!r} holds no shards ({', '.join(EXTENSIONS)})")
    else:  # other files may lie beside the shards; where no name tells, all are taken
        found = [url for url in found if by_name[url] == data.format] or found
    # The fixed part of `entry`, so that a name does not depend on which other shards there are.
    root = storage.filesystem(entry)[1]
    if wildcard:
        root = posixpath.dirname(root[: wildcard.start()])
    return {posixpath.relpath(storage.filesystem(url)[1], root or "."): url for url in found}


def _format_of(url: str, data: DataConfig) -> Format:
    if data.format != "auto":
        return data.format
    extension = posixpath.splitext(url)[1].lower()
    if extension not in EXTENSIONS:
        raise UserError(f"data.format: cannot tell the format of {url!r} from its name; set it")
    return EXTENSIONS[extension]


def _check_columns(present: Iterable[str], data: DataConfig, url: str, setting: str) -> None:
    names = list(present)
    wanted = {
        f"{setting}.caption_column": data.caption_column,
        f"{setting}.image_column": data.image_column,
        f"{setting}.id_column": data.id_column,
    }
    for key, column in wanted.items():
        if column is not None and column not in names:
            raise UserError(f"{key}: {url} has no column {column!r}; it has {', '.join(names) or 'none'}")


def _parquet_ranges(whole: Shard, data: DataConfig, setting: str) -> list[Shard]:
    fs, path = storage.filesystem(whole.url)
    try:
        with fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            rows, names = parquet.metadata.num_rows, parquet.schema_arrow.names
    except (OSError, ValueError) as error:
        raise UserError(f"{setting}.path: {whole.url} is not readable as Parquet: {error}") from error
    _check_columns(names, data, whole.url, setting)
    return _ranges(whole, [(start, 0) for start in range(0, rows, data.max_rows_per_shard)], rows, data)


def _table_ranges(whole: Shard, data: DataConfig, setting: str) -> list[Shard]:
    starts: list[tuple[int, int]] = []
    rows = 0
    columns: tuple[str, ...] | None = tuple(data.columns) if data.columns else None
    for offset, record in _records(whole, columns, 0):
        if columns is None and whole.format != "jsonl":
            columns = tuple(str(field) for field in record)
            continue
        if rows == 0:
            _check_columns(_first_names(whole, record, columns, data, setting), data, whole.url, setting)
        if rows % data.max_rows_per_shard == 0:
            starts.append((rows, offset))
        rows += 1
    return _ranges(replace(whole, columns=columns), starts, rows, data)


def _first_names(
    whole: Shard, record: Any, columns: tuple[str, ...] | None, data: DataConfig, setting: str
) -> Iterable[str]:
    if columns is None:
        return record if isinstance(record, Mapping) else ()
    if data.columns and len(record) != len(columns):
        raise UserError(
            f"{setting}.columns: {whole.url} has {len(record)} columns in its first row, {len(columns)} are named"
        )
    return columns


def _ranges(whole: Shard, starts: list[tuple[int, int]], rows: int, data: DataConfig) -> list[Shard]:
    many = len(starts) > 1
    return [
        replace(
            whole,
            name=f"{whole.name}.{start_row:09d}" if many else whole.name,
            start_row=start_row,
            row_count=min(data.max_rows_per_shard, rows - start_row),
            start_byte=start_byte,
        )
        for start_row, start_byte in starts
    ]


def _records(shard: Shard, columns: tuple[str, ...] | None, start_byte: int) -> Iterator[tuple[int, Any]]:
    """(byte offset, record) of a text table: a list of fields, or for JSON lines what the line holds."""
    lines = _without_byte_order_mark(storage.iterate_lines(shard.url, start_byte))
    if shard.format == "jsonl":
        for offset, line in lines:
            if line.strip():
                yield offset, parse_json(line)
        return
    if shard.format == "tsv":
        for offset, line in lines:
            if line:
                yield offset, [decode_marking(field) for field in line.split(b"\t")]
        return
    yield from _csv_records(lines)


def _without_byte_order_mark(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for offset, line in lines:
        yield offset, line.removeprefix(codecs.BOM_UTF8) if offset == 0 else line


def _csv_records(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, list[str]]]:
    # csv.reader takes as many lines as a record needs (quoted line breaks), so the first line it takes for a
    # record is where that record starts.
    offsets: list[int] = []

    def feed() -> Iterator[str]:
        for offset, line in lines:
            offsets.append(offset)
            yield decode_marking(line) + "\n"

    reader = csv.reader(feed())
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a bare carriage return, or a field of more than 128 KiB
            yield offsets[0], []  # a row without fields: its caption is missing
            offsets.clear()
            continue
        start = offsets[0]
        offsets.clear()
        if record:
            yield start, record


def read_samples(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """The samples of a shard in the file's order.

    Args:
        shard: from `list_shards` of the same `data`.
        with_images: whether image bytes are read; if not, only captions are (tars are seeked through).

    Raises:
        OSError: the storage failed; nothing is known about the shard then.
    """
    if shard.format == "webdataset":
        rows = read_webdataset(shard, data, with_images)
    elif shard.format == "parquet":
        rows = _table_samples(_parquet_rows(shard, data, with_images), shard, data, with_images)
    else:
        rows = _table_samples(_table_rows(shard), shard, data, with_images)
    seen: Counter[str] = Counter()
    for sample in rows:
        seen[sample.id] += 1
        if (repeat := seen[sample.id]) > 1:
            while (unique := f"{sample.id}#{repeat}") in seen:  # a row may have such an id of its own
                repeat += 1
            seen[unique] += 1
            sample = replace(sample, id=unique, problems=(*sample.problems, DUPLICATE_ID))
        yield sample


Row = tuple[int, Mapping[str, Any]]
"""The number of a row in its shard, and its fields."""


def _parquet_rows(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Row]:
    fs, path = storage.filesystem(shard.url)
    assert shard.row_count is not None
    end_row = shard.start_row + shard.row_count
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        present = parquet.schema_arrow.names
        wanted = [data.caption_column, data.id_column, "url"]
        if data.image_column and (with_images or _is_text(parquet.schema_arrow.field(data.image_column).type)):
            wanted.append(data.image_column)  # a path is the sample's id, so captions-only reading needs it too
        columns = [name for name in dict.fromkeys(wanted) if name in present]
        group_start = 0
        for group in range(parquet.num_row_groups):
            group_end = group_start + parquet.metadata.row_group(group).num_rows
            if group_start < end_row and group_end > shard.start_row:
                row = group_start
                for batch in parquet.iter_batches(batch_size=1_024, row_groups=[group], columns=columns):
                    first, last = max(shard.start_row - row, 0), min(end_row - row, batch.num_rows)
                    if first < last:
                        found = _rows_of(batch.slice(first, last - first))
                        yield from enumerate(found, row + first - shard.start_row)
                    row += batch.num_rows
            group_start = group_end


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:  # not every writer of Parquet checks its texts
        names = [field.name for field in batch.schema if _is_text(field.type)]
        for name in names:
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, name, batch.column(place).cast(pa.large_binary()))
        rows = batch.to_pylist()
        for row in rows:
            row.update({name: decode_marking(row[name]) for name in names if row[name] is not None})
    return rows


def _table_rows(shard: Shard) -> Iterator[Row]:
    assert shard.row_count is not None
    records = _records(shard, shard.columns, shard.start_byte)
    for row, (_, record) in zip(range(shard.row_count), records, strict=False):
        if shard.columns is not None:
            record = dict(zip(shard.columns, record, strict=False))
        yield row, record if isinstance(record, Mapping) else {}


_FETCHED_AT_ONCE = 16

_FETCHED_AHEAD = 32
"""Images that lie elsewhere: so many are waited for at once, so many are there before their turn."""


def _table_samples(rows: Iterator[Row], shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    pool = ThreadPoolExecutor(_FETCHED_AT_ONCE, "images")
    waiting: deque[Callable[[], Sample]] = deque()
    try:
        for row, fields in rows:
            make = partial(_table_sample, row, fields, data, with_images, shard)
            waiting.append(pool.submit(make).result if with_images and _is_elsewhere(fields, data, shard) else make)
            if len(waiting) > _FETCHED_AHEAD:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _is_elsewhere(fields: Mapping[str, Any], data: DataConfig, shard: Shard) -> bool:
    """Whether the image of a row is a file that is not on this machine."""
    source = _image_source(fields, data)
    return isinstance(source, str) and not storage.is_local(_image_url(source, data, shard))


def _table_sample(row: int, fields: Mapping[str, Any], data: DataConfig, with_images: bool, shard: Shard) -> Sample:
    caption, problems = caption_of(fields.get(data.caption_column))
    named = fields.get(data.image_column) if data.image_column else None
    image_path = named if isinstance(named, str) else None
    source = _image_source(fields, data)
    image: bytes | None = None
    if with_images:
        image = source if isinstance(source, bytes) else _read_image(source, data, shard)
        if image is None:
            problems = (*problems, IMAGE_MISSING)
    configured = fields.get(data.id_column) if data.id_column else None
    candidates = (configured, image_path, fields.get("url"))
    sample_id = next((str(value) for value in candidates if value not in (None, "")), None)
    return Sample(row, clean_id(sample_id or hash_caption(caption)), caption, image, problems)


def _image_source(fields: Mapping[str, Any], data: DataConfig) -> object:
    """An image's bytes, or where it is; None where the row does not say."""
    source = fields.get(data.image_column) if data.image_column else None
    if isinstance(source, Mapping):  # Hugging Face's image feature: {"bytes": ..., "path": ...}
        source = source.get("bytes") or source.get("path")
    return source


def _read_image(source: object, data: DataConfig, shard: Shard) -> bytes | None:
    if not isinstance(source, str) or not source:
        return None
    try:
        return storage.read_bytes(_image_url(source, data, shard))
    except (OSError, ValueError):  # ValueError: a path or URL that cannot be one
        return None  # counted by the caller as `image_missing`


def _image_url(source: str, data: DataConfig, shard: Shard) -> str:
    if "://" in source or posixpath.isabs(source):
        return source
    return storage.join(data.image_root or posixpath.dirname(shard.url), source)
