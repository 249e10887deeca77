"""The dataset index: the shards of a dataset with their row counts, in one Parquet file.

With an index, a verb opens no unchanged file while it lists.

    shard                       name of the shard
    url                         of its file
    size_bytes, identity        of its file: `storage.identity`, which changes with the file
    rows                        samples of a tar, null: not known; rows of a range of a table
    start_row, start_byte       of a range of a table
    format, columns, delimiter, is_quoted, encoding, line_end   as in `Shard`

Rows are in the order of the files' names. A listing checks an index file by file. It is valid for a file of the same
name, URL and identity, if the settings that cut files into ranges have not changed. Other files are read again.

Guarantees: a stale, damaged or foreign index costs time only. It never gives a range of a replaced file.

Not covered: a replacement of the same size and modification time, on a store without etags.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DataConfig, Format
from laclip_ray.data.records import Shard
from laclip_ray.data.shard_table import ShardTable
from laclip_ray.errors import UserError

logger = logging.getLogger(__name__)

FILE_NAME = "data-index.parquet"
"""Below the output of an experiment."""

_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("url", pa.string()),
        ("size_bytes", pa.int64()),
        ("identity", pa.string()),
        ("rows", pa.int64()),
        ("start_row", pa.int64()),
        ("start_byte", pa.int64()),
        ("format", pa.string()),
        ("columns", pa.list_(pa.string())),
        ("delimiter", pa.string()),
        ("is_quoted", pa.bool_()),
        ("encoding", pa.string()),
        ("line_end", pa.string()),
    ]
)
_KEY = b"laclip_ray.data_index"
_VERSION = 1
_BATCH_ROWS = 4_096
_GROUP_ROWS = 16_384
"""Of a row group, which a reader decodes as a whole: some 5 MB."""

_SETTINGS = ("caption_column", "image_column", "id_column", "columns", "quoting", "max_rows_per_shard")
"""Keys of `data` that decide how a table is checked and cut into ranges."""


@dataclass
class IndexUse:
    """How an index compares with a listing."""

    url: str
    unchanged: int = 0
    changed: int = 0
    """Files of another identity than in the index."""
    new: int = 0
    """Files that the index does not have. An index never has unreadable files."""
    vanished: int = 0
    """Files of the index that no longer exist."""

    @property
    def is_current(self) -> bool:
        """Whether index and listing have the same files."""
        return not (self.changed or self.new or self.vanished)

    def describe(self) -> str:
        """One sentence."""
        if self.is_current:
            return f"{self.url}: the dataset index is up to date ({self.unchanged:,} files)"
        return (
            f"{self.url}: {self.unchanged:,} files are as in the dataset index; {self.changed:,} changed and "
            f"{self.new:,} new files were read, {self.vanished:,} are gone"
        )


class IndexReader:
    """Gives the shards of files, asked for in the order of their names."""

    def __init__(self, url: str, settings: dict[str, Any], must_exist: bool) -> None:
        """Open an index. A missing or damaged one, or one of other settings, has no valid file.

        Args:
            url: of the index.
            settings: from `cutting_settings`.
            must_exist: refuse a missing or damaged one.

        Raises:
            UserError: it is missing or damaged, and must exist.
        """
        self.use = IndexUse(url)
        self.is_there = True
        self._must_exist = must_exist
        self._files = self._read(settings)
        self._next = next(self._files, None)

    def take(self, file: Shard) -> list[Shard] | None:
        """The shards of a file. None: the file must be read.

        Args:
            file: the whole file as one shard, with its identity now; an empty one is unknown.
        """
        while self._next is not None and self._next[0].name < file.name:
            self.use.vanished += 1
            self._next = next(self._files, None)
        if self._next is None or self._next[0].name != file.name:
            self.use.new += 1
            return None
        shards, self._next = self._next, next(self._files, None)
        first = shards[0]
        is_same = file.file_identity and (first.file_identity, first.url, first.format) == (
            file.file_identity, _clean(file.url), file.format,
        )  # fmt: skip
        if not is_same:
            self.use.changed += 1
            return None
        self.use.unchanged += 1
        return [replace(shard, url=file.url) for shard in shards]

    def close(self) -> IndexUse:
        """The comparison, after the last file."""
        while self._next is not None:
            self.use.vanished += 1
            self._next = next(self._files, None)
        return self.use

    def _read(self, settings: dict[str, Any]) -> Iterator[list[Shard]]:
        """The shards of each file."""
        url = self.use.url
        try:
            content = storage.read_bytes(url)
        except FileNotFoundError:
            self.is_there = False
            if self._must_exist:
                raise UserError(f"data.index: {url} does not exist; make it with `laclip data index`") from None
            return
        try:
            yield from _shards_by_file(content, settings, url)
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:  # Arrow raises all of these
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if self._must_exist:
                raise UserError(
                    f"data.index: {url} is damaged ({reason}); remove it, or make it again with `laclip data index`"
                ) from error
            logger.warning("%s: the dataset index is damaged and not used (%s); files are read anew", url, reason)


def _shards_by_file(content: bytes, settings: dict[str, Any], url: str) -> Iterator[list[Shard]]:
    parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    written = json.loads((parquet.schema_arrow.metadata or {})[_KEY])
    if written["version"] != _VERSION or not parquet.schema_arrow.equals(_SCHEMA):
        raise ValueError("it is of another version")
    if written["settings"] != settings:
        logger.warning(
            "%s: the dataset index was made with other settings (%s; now %s); files are read anew",
            url, _text(written["settings"]), _text(settings),
        )  # fmt: skip
        return
    of_file: list[Shard] = []
    for shard in _shards(parquet):
        if shard.start_row == 0 and of_file:
            yield of_file
            of_file = []
        of_file.append(shard)
    if of_file:
        yield of_file


def _shards(parquet: pq.ParquetFile) -> Iterator[Shard]:
    for batch in parquet.iter_batches(_BATCH_ROWS, use_threads=False):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield _shard_of(*row)


def _shard_of(
    name: str, url: str, size_bytes: int | None, identity: str, rows: int | None, start_row: int, start_byte: int,
    file_format: Format, columns: Sequence[str] | None, delimiter: str, is_quoted: bool, encoding: str, line_end: str,
) -> Shard:  # fmt: skip
    is_whole = file_format == "webdataset"
    return Shard(
        name, url, file_format, start_row, None if is_whole else rows, start_byte,
        None if columns is None else tuple(columns), delimiter, is_quoted, encoding, line_end, identity,
        listed_rows=rows if is_whole else None,
    )  # fmt: skip


def beside(output: str) -> str:
    """Where the index of an experiment's data is, unless `data.index` names another."""
    return storage.join(output, FILE_NAME)


def keep_index(data: DataConfig, output: str, shards: ShardTable) -> None:
    """Write the index beside an output, unless a current one is there.

    Args:
        data: the dataset. Its own `data.index` stays as it is.
        output: of the experiment.
        shards: from `list_shards`.
    """
    if data.index is not None or shards.is_indexed:
        return
    try:
        write_index(beside(output), shards, cutting_settings(data, shards[0].format))
    except OSError as error:  # `output` may be unused if each verb has an output of its own
        logger.warning("%s: the dataset index cannot be written, so the next verb lists without: %s", output, error)


def write_index(url: str, shards: Sequence[Shard], settings: dict[str, Any]) -> None:
    """Commit an index. Files with a defect are left out: the reason may pass.

    Args:
        url: of the index.
        shards: of a dataset, in the order of its listing.
        settings: from `cutting_settings`.
    """
    description = {_KEY: json.dumps({"version": _VERSION, "settings": settings}).encode()}
    schema = _SCHEMA.with_metadata(description)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        rows: list[tuple[Any, ...]] = []
        for shard in shards:
            if not shard.defect and shard.file_identity:
                rows.append(_row_of(shard))
            if len(rows) == _GROUP_ROWS:
                writer.write_table(_table_of(rows, schema))
                rows = []
        writer.write_table(_table_of(rows, schema))
    storage.write_bytes(url, sink.getvalue().to_pybytes())


def _row_of(shard: Shard) -> tuple[Any, ...]:
    return (
        shard.name, _clean(shard.url), shard.size_bytes, shard.file_identity, shard.known_rows,
        shard.start_row, shard.start_byte, shard.format, shard.columns, shard.delimiter, shard.is_quoted,
        shard.encoding, shard.line_end,
    )  # fmt: skip


def _table_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def cutting_settings(data: DataConfig, file_format: Format) -> dict[str, Any]:
    """The settings that an index depends on, as JSON. Tars are not cut, so their index depends on no setting."""
    values = data.model_dump(mode="json", include=set(_SETTINGS)) if file_format != "webdataset" else {}
    return {"format": file_format, **values}


def _clean(url: str) -> str:
    """A URL with escapes for invalid UTF-8."""
    return url.encode("utf-8", "backslashreplace").decode()


def _text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items() if value is not None)
