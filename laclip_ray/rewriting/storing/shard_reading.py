"""Reads the files of shards in a rewrite set: under their earlier names too, several at once, and with damage named."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage

T = TypeVar("T")

_READS_AT_ONCE = 16
"""Parquet footers read at the same time."""
_FIRST_RANGE = ".000000000"
"""Earlier versions added this to the name of a table's first range if there were more ranges."""


def file_and_start(shard_name: str) -> tuple[str, int]:
    """The file of a shard, and its first row, by the shard's name.

    >>> file_and_start("a.csv.000000010"), file_and_start("a.csv")
    (('a.csv', 10), ('a.csv', 0))
    """
    start = shard_name[-9:]
    is_range = shard_name[-10:-9] == "." and start.isdigit()
    return (shard_name[:-10], int(start)) if is_range else (shard_name, 0)


def stored_names(shard_name: str) -> tuple[str, ...]:
    """The names that a shard's files may have."""
    is_whole = shard_name.endswith(".tar") or file_and_start(shard_name)[0] != shard_name
    return (shard_name,) if is_whole else (shard_name, shard_name + _FIRST_RANGE)


def read_file(url_of: Callable[[str, int], str], shard_name: str, revision: int, read: Callable[[str], T]) -> T:
    """Read the file of a shard under the first of its names that is there.

    Raises:
        UserError: the file is damaged.
        FileNotFoundError: there is no such file.
    """
    for stored in stored_names(shard_name)[1:]:
        try:
            return _read_whole(url_of(shard_name, revision), read)
        except FileNotFoundError:
            if storage.exists(url_of(stored, revision)):
                shard_name = stored
    return _read_whole(url_of(shard_name, revision), read)


def _read_whole(url: str, read: Callable[[str], T]) -> T:
    remedy = "Remove it, and `laclip rewrite` (of imported texts `laclip rewrites import`) makes it again."
    with storage.damage_named(url, "this part of a rewrite set", remedy):
        return read(url)


def read_columns(columns: Sequence[str]) -> Callable[[str], pa.Table]:
    """Reads the named columns of a Parquet file, apart from columns that it lacks."""

    def read(url: str) -> pa.Table:
        with storage.open_whole(url) as file:
            parquet = pq.ParquetFile(file)
            return parquet.read([name for name in columns if name in parquet.schema_arrow.names])

    return read


def read_each(revisions: Mapping[str, int], read: Callable[[str, int], T]) -> dict[str, T]:
    """Call `read` with every (shard, revision), several at a time."""
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        return dict(zip(revisions, pool.map(read, revisions.keys(), revisions.values()), strict=True))
