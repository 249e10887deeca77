"""Datasets as shards: list the shards of a dataset, and read the samples of one.

A shard is a whole WebDataset tar, or a range of at most `max_rows_per_shard` rows of a Parquet file or of a text
table (CSV, TSV, JSON lines). Each format has a reader module: `webdataset`, `parquet`, `text_tables`.

A sample's id is the configured column, else the WebDataset key, else the image path, else the `url` column, else a
hash of the caption. A repeated id within a shard becomes `id#2`.

Guarantees: reading with and without images gives the same rows, ids and captions. A bad row never raises: it has
`problems` (see `records`). A truncated tar gives its whole samples, then one row that reports the truncation. A file
that is not what its name says costs only itself: its shard has a `defect`, or fails when it is read.

Not covered: compressed text tables; Parquet row groups larger than memory.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from laclip_ray.config import DataConfig, Format
from laclip_ray.data.file_formats import choose_files
from laclip_ray.data.left_out import log_left_out
from laclip_ray.data.listing import find_files, identity_of_file
from laclip_ray.data.parquet import read_parquet, split_parquet
from laclip_ray.data.records import (
    DUPLICATE_ID,
    SHARD_UNREADABLE,
    Sample,
    Shard,
    ShardUnreadableError,
    UniqueIds,
)
from laclip_ray.data.shard_names import unique_names
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

_SMALL_TAR_BYTES = 4_096
"""Smaller files are opened when they are listed: a Git LFS pointer has 130 bytes, an error page a few hundred."""


@dataclass(frozen=True)
class Listing:
    """The shards of a dataset."""

    shards: list[Shard]
    """Sorted by the names of their files."""
    left_out: Tally
    """Files and directories below the configured paths that are not read, by reason and extension."""


def list_shards(data: DataConfig, setting: str = "data") -> list[Shard]:
    """List all shards of a dataset, sorted by name, and log what is left out; arguments as in `list_dataset`."""
    listing = list_dataset(data, setting)
    log_left_out(listing.left_out, setting, len(listing.shards))
    return listing.shards


def list_dataset(data: DataConfig, setting: str = "data") -> Listing:
    """List all shards of a dataset.

    A shard has a `defect` if its file cannot be read. The other shards can be used.

    Args:
        data: where the dataset is.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: a path does not exist, has no shards, has two formats, or lacks a configured column; or every file
            has a defect.
        OSError: the store failed, or refused access to every file.
    """
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
    named = unique_names(files, setting)
    refused: list[OSError] = []

    def split(name: str) -> list[Shard]:
        info, url = named[name].info, named[name].url
        file = Shard(name, url, file_format, file_identity=identity_of_file(named[name]))
        try:
            return _split(file, info.get("size"), data, setting)
        except (PermissionError, FileNotFoundError) as error:  # the file, not the store: others may be readable
            refused.append(error)
            return [replace(file, defect=f"{setting}.path: {url} cannot be read: {error}")]

    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        shards = [shard for ranges in pool.map(split, sorted(named)) for shard in ranges]
    if not shards:
        raise UserError(f"{setting}.path: {data.path!r} holds no rows")
    if len(refused) == len(named):
        raise refused[0]
    refuse_defects(shards)
    return Listing(shards, left_out)


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

    For readers that go on without the shard.

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
