"""Datasets as shards: list the shards of a dataset, and read the samples of one.

A shard is a whole WebDataset tar, or a range of at most `max_rows_per_shard` rows of a Parquet file or of a text
table (CSV, TSV, JSON lines). Each format has a reader module: `webdataset`, `parquet`, `text_tables`.

A sample's id is the configured column, else the WebDataset key, else the image path, else the `url` column, else a
hash of the caption. A repeated id within a shard becomes `id#2`.

Guarantees: reading with and without images gives the same rows, ids and captions. A bad row never raises: it has
`problems` (see `records`). A truncated tar gives its whole samples, then one row that reports the truncation. A file
with another content than its name says costs only itself: its shard has a `defect`, or fails when it is read.

Not covered: compressed text tables; Parquet row groups larger than memory.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from laclip_ray import storage
from laclip_ray.config import DataConfig, Format
from laclip_ray.data.data_files import DataFile, FileTable
from laclip_ray.data.dataset_index import IndexReader, IndexUse, cutting_settings
from laclip_ray.data.file_formats import choose_files
from laclip_ray.data.left_out import log_left_out
from laclip_ray.data.listing import find_files
from laclip_ray.data.parquet import read_parquet, split_parquet
from laclip_ray.data.records import (
    DUPLICATE_ID,
    SHARD_UNREADABLE,
    Sample,
    Shard,
    ShardUnreadableError,
    UniqueIds,
)
from laclip_ray.data.shard_names import named_in_order
from laclip_ray.data.shard_table import ShardTable
from laclip_ray.data.table_rows import refuse_defects
from laclip_ray.data.text_tables import read_text_table, split_text_table
from laclip_ray.data.webdataset import find_defect, read_webdataset
from laclip_ray.errors import UserError
from laclip_ray.tally import Tally

logger = logging.getLogger(__name__)

Splitter = Callable[[Shard, DataConfig, str], list[Shard]]
"""Splits a file, given as one shard, into ranges of rows. The text is the config key of the data, for messages."""

SPLITTERS: dict[Format, Splitter] = {
    "parquet": split_parquet,
    "csv": split_text_table,
    "tsv": split_text_table,
    "jsonl": split_text_table,
}
"""Files of other formats are one shard each."""

Reader = Callable[[Shard, DataConfig, bool], Iterator[Sample]]
"""Reads the samples of a shard in the file's order, with images or without."""

READERS: dict[Format, Reader] = {
    "webdataset": read_webdataset,
    "parquet": read_parquet,
    "csv": read_text_table,
    "tsv": read_text_table,
    "jsonl": read_text_table,
}

_LISTING_THREADS = 16
"""Files that `list_shards` inspects in parallel; the threads mostly wait for storage."""

_FILES_AHEAD = 1_024
"""Files that wait for such a thread, at most."""

_SMALL_TAR_BYTES = 4_096
"""Smaller files are opened when they are listed: a Git LFS pointer has 130 bytes, an error page a few hundred."""


@dataclass(frozen=True)
class Listing:
    """The shards of a dataset."""

    shards: ShardTable
    """Sorted by the names of their files."""
    left_out: Tally
    """Unread files and directories below the configured paths, by reason and extension."""
    format: Format
    index: IndexUse | None = None
    """How the dataset index compares with the listing. None: no index."""


@dataclass(frozen=True)
class _FoundFiles:
    """The files of a dataset."""

    files: FileTable
    """Those that hold data."""
    format: Format
    left_out: Tally


def list_shards(data: DataConfig, setting: str = "data", index: str | None = None) -> ShardTable:
    """List all shards of a dataset, sorted by name, and log the left-out files; arguments as in `list_dataset`."""
    listing = list_dataset(data, setting, index)
    log_left_out(listing.left_out, setting, len(listing.shards))
    return listing.shards


def list_dataset(data: DataConfig, setting: str = "data", index: str | None = None) -> Listing:
    """List all shards of a dataset.

    A shard has a `defect` if its file cannot be read. The other shards can be used.

    Args:
        data: where the dataset is.
        setting: the config key of `data`, for messages.
        index: a dataset index, used if it is there, unless `data.index` is set. That one must be there.

    Raises:
        UserError: a path does not exist, has no shards, has two formats, or lacks a configured column; every file has
            a defect; or `data.index` cannot be used.
        OSError: the store failed, or refused access to every file.
    """
    found = _find_data(data, setting)
    url = data.index or index
    settings = cutting_settings(data, found.format)
    reader = IndexReader(url, settings, must_exist=data.index is not None) if url else None
    shards, file_count = ShardTable(), len(found.files)
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        splits = _Splits(data, setting, found.format, reader, pool)
        for ranges in splits.of_files(named_in_order(found.files, setting)):
            for shard in ranges:
                shards.append(shard)
    if not shards:
        raise UserError(f"{setting}.path: {data.path!r} holds no rows")
    if len(splits.refused) == file_count:
        raise splits.refused[0]
    refuse_defects(shards)
    used = reader.close() if reader is not None and reader.is_there else None
    shards.is_indexed = used is not None and used.is_current
    if used is not None:
        logger.log(logging.DEBUG if used.is_current else logging.INFO, "%s", used.describe())
    return Listing(shards, found.left_out, found.format, used)


def _find_data(data: DataConfig, setting: str = "data") -> _FoundFiles:
    """Find the files of a dataset by one listing."""
    left_out = Tally()
    paths = [data.path] if isinstance(data.path, str) else list(dict.fromkeys(data.path))
    if not paths:
        raise UserError(f"{setting}.path: an empty list; give files, directories or globs")
    files, file_format = choose_files(find_files(paths, setting, left_out), data, setting, left_out)
    if data.columns and file_format not in ("csv", "tsv"):
        raise UserError(
            f"{setting}.columns: names the columns of CSV and TSV files without a header; {data.path!r} is of format "
            f"{file_format}, whose columns have names. Remove the setting"
        )
    return _FoundFiles(files, file_format, left_out)


class _Splits:
    """Splits files into shards: by the index, by name alone, or by a thread that opens them."""

    def __init__(
        self, data: DataConfig, setting: str, file_format: Format, index: IndexReader | None, pool: ThreadPoolExecutor
    ) -> None:
        self._data, self._setting, self._format, self._index, self._pool = data, setting, file_format, index, pool
        self.refused: list[OSError] = []

    def of_files(self, named: Iterable[tuple[str, DataFile]]) -> Iterator[list[Shard]]:
        """The shards of each file, in order."""
        waiting = iter(named)
        while batch := list(islice(waiting, _FILES_AHEAD)):
            for split in [self._begin(name, file) for name, file in batch]:
                yield split if isinstance(split, list) else split.result()

    def _begin(self, name: str, file: DataFile) -> list[Shard] | Future[list[Shard]]:
        shard = Shard(name, file.url, self._format, file_identity=storage.known_identity(file.info))
        known = self._index.take(shard) if self._index is not None else None
        if known is not None:
            return known
        size_bytes = file.info.get("size")
        is_large = size_bytes is None or size_bytes >= _SMALL_TAR_BYTES
        if shard.file_identity and self._format not in SPLITTERS and is_large:
            return [shard]
        return self._pool.submit(self._split, shard, size_bytes)

    def _split(self, file: Shard, size_bytes: int | None) -> list[Shard]:
        """Split a file whose identity may have to be asked for."""
        if not file.file_identity:
            file = replace(file, file_identity=storage.identity(file.url))
        try:
            return _split(file, size_bytes, self._data, self._setting)
        except (PermissionError, FileNotFoundError) as error:  # the file, not the store: others may be readable
            self.refused.append(error)
            return [replace(file, defect=f"{self._setting}.path: {file.url} cannot be read: {error}")]


def _split(file: Shard, size_bytes: int | None, data: DataConfig, setting: str) -> list[Shard]:
    """Split a file into shards."""
    splitter = SPLITTERS.get(file.format)
    if splitter is not None:
        return splitter(file, data, setting)
    if size_bytes is None or size_bytes >= _SMALL_TAR_BYTES:
        return [file]
    defect = find_defect(file.url)
    return [replace(file, defect=f"{setting}.path: {defect}" if defect else "")]


def read_samples(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order.

    Args:
        shard: from `list_shards` of the same `data`.
        with_images: whether to read image bytes. Without images, tars are still scanned, but image members skipped.

    Raises:
        ShardUnreadableError: the file is not what its name says, so the shard has no rows.
        OSError: the storage failed, so the shard's content is unknown.
    """
    return _with_unique_ids(READERS[shard.format](shard, data, with_images))


def read_or_report(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard as `read_samples` does; an unreadable file gives one row that reports it.

    For readers that continue without the shard.

    Raises:
        OSError: the storage failed, so the shard's content is unknown.
    """
    try:
        yield from read_samples(shard, data, with_images)
    except ShardUnreadableError as error:
        logger.warning("%s: %s", shard.name, error)
        yield Sample(0, f"{shard.name}#unreadable", "", None, (SHARD_UNREADABLE,))


def _with_unique_ids(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The same samples; a repeated id gets a number, and the sample says so."""
    ids = UniqueIds()
    for sample in samples:
        unique = ids.unique(sample.id)
        if unique != sample.id:
            sample = replace(sample, id=unique, problems=(*sample.problems, DUPLICATE_ID))
        yield sample
