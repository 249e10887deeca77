"""Datasets as shards: list the shards of a dataset, and read the samples of one.

A shard is a whole WebDataset tar, or a range of at most `max_rows_per_shard` rows of a Parquet file or of a text
table (CSV, TSV, JSON lines). Each format has a reader module: `webdataset`, `parquet`, `text_tables`.

A sample's id is the configured column, else the WebDataset key, else the image path, else the `url` column, else a
hash of the caption. A repeated id within a shard becomes `id#2`.

Guarantees: reading with and without images gives the same rows, ids and captions. A bad row never raises: it has
`problems` (see `records`). A truncated tar gives its whole samples, then one row that reports the truncation.

Not covered: compressed text tables; Parquet row groups larger than memory.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from laclip_ray import storage
from laclip_ray.config import DataConfig, Format
from laclip_ray.data.parquet import read_parquet, split_parquet
from laclip_ray.data.records import DUPLICATE_ID, Sample, Shard
from laclip_ray.data.text_tables import read_text_table, split_text_table
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


def list_shards(data: DataConfig, setting: str = "data") -> list[Shard]:
    """List all shards of a dataset, sorted by name.

    Args:
        data: where the dataset is.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: a path does not exist, has no shards, has two formats, or lacks a configured column.
    """
    urls: dict[str, str] = {}
    for path in [data.path] if isinstance(data.path, str) else data.path:
        for name, url in _find_files(path, data, setting).items():
            if urls.setdefault(name, url) != url:
                raise UserError(
                    f"{setting}.path: {urls[name]} and {url} would both be the shard {name!r}; "
                    "give the directory above both"
                )
    formats = {_format_of(url, data) for url in urls.values()}
    if len(formats) > 1:
        raise UserError(f"{setting}.path: more than one format ({', '.join(sorted(formats))}); set {setting}.format")
    (file_format,) = formats

    def split(name: str) -> list[Shard]:
        file = Shard(name, urls[name], file_format, file_identity=storage.identity(urls[name]))
        splitter = SPLITTERS.get(file_format)
        return splitter(file, data, setting) if splitter is not None else [file]

    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        shards = [shard for ranges in pool.map(split, sorted(urls)) for shard in ranges]
    if not shards:
        raise UserError(f"{setting}.path: {data.path!r} holds no rows")
    return shards


def read_samples(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order.

    Args:
        shard: from `list_shards` of the same `data`.
        with_images: whether to read image bytes. Without images, tars are still scanned, but image members skipped.

    Raises:
        OSError: the storage failed, so the shard's content is unknown.
    """
    return _with_unique_ids(READERS[shard.format](shard, data, with_images))


def _with_unique_ids(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The same samples; a repeated id gets the first free number from 2 on."""
    seen: Counter[str] = Counter()
    for sample in samples:
        seen[sample.id] += 1
        if (repeat := seen[sample.id]) > 1:
            while (unique := f"{sample.id}#{repeat}") in seen:  # another row's own id may look like this
                repeat += 1
            seen[unique] += 1
            sample = replace(sample, id=unique, problems=(*sample.problems, DUPLICATE_ID))
        yield sample


def _find_files(path: str, data: DataConfig, setting: str) -> dict[str, str]:
    """The data files of one configured path, URLs by shard name."""
    urls = storage.expand(path)
    wildcard = re.search(r"[*?\[]", storage.filesystem(path)[1])
    if not urls:
        problem = "matches nothing" if wildcard else "does not exist or is empty"
        raise UserError(f"{setting}.path: {path!r} {problem}")
    if not wildcard and not storage.is_directory(path):
        return {storage.name_of(urls[0]): urls[0]}
    formats = {url: EXTENSIONS.get(posixpath.splitext(url)[1].lower()) for url in urls}
    if data.format == "auto":
        urls = [url for url in urls if formats[url]]
        if not urls:
            raise UserError(f"{setting}.path: {path!r} holds no shards ({', '.join(EXTENSIONS)})")
    else:  # other files may lie beside the shards; without any matching extension, take all files
        urls = [url for url in urls if formats[url] == data.format] or urls
    # Names are relative to the fixed part of `path`, so other files do not change them.
    root = storage.filesystem(path)[1]
    if wildcard:
        root = posixpath.dirname(root[: wildcard.start()])
    return {posixpath.relpath(storage.filesystem(url)[1], root or "."): url for url in urls}


def _format_of(url: str, data: DataConfig) -> Format:
    if data.format != "auto":
        return data.format
    extension = posixpath.splitext(url)[1].lower()
    if extension not in EXTENSIONS:
        raise UserError(f"data.format: cannot tell the format of {url!r} from its name; set it")
    return EXTENSIONS[extension]
