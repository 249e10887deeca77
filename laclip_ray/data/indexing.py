"""Make a dataset index: list the data once, count the samples of tars, and write the shards.

img2dataset counts the samples of a tar in the `_stats.json` beside it: one request a tar, and no request for a tar in
the index. Listing counts the rows of tables.

Not covered: tars without such a file. Only reading a tar counts its samples, so their number stays unknown.
"""

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.dataset_index import IndexUse, cutting_settings, write_index
from laclip_ray.data.file_formats import kind_of
from laclip_ray.data.img2dataset_stats import ENDING, successes
from laclip_ray.data.left_out import log_left_out
from laclip_ray.data.records import Shard
from laclip_ray.data.shard_table import ShardTable
from laclip_ray.data.shards import list_dataset
from laclip_ray.tally import Tally

STATS_MISSING = "no_stats"
"""No `_stats.json` lies beside the tar."""
STATS_UNREADABLE = "stats_unreadable"
"""The `_stats.json` beside the tar has no number of successes."""
DEFECT = "defect"
"""The file cannot be read, so it is not in the index."""

_REQUESTS_AT_ONCE = 16
_MOST_MISSES = 64
"""After this many tars without a `_stats.json`, a directory without any is not asked for more."""


@dataclass
class Indexed:
    """The content of an index."""

    url: str
    shards: int = 0
    rows: int = 0
    """Of the counted shards."""
    uncounted: Tally = field(default_factory=Tally)
    """Shards without a number of rows, by reason."""
    requests: int = 0
    """For `_stats.json` files."""
    before: IndexUse | None = None
    """The check of an earlier index. None: no earlier index."""


def make_index(data: DataConfig, url: str) -> Indexed:
    """List a dataset and write its index. An earlier index is checked, and spares work.

    Args:
        data: the dataset. `data.index` is not read.
        url: of the index.

    Raises:
        UserError: see `list_dataset`.
        OSError: the store failed.
    """
    data = data.model_copy(update={"index": None})
    listing = list_dataset(data, index=url)
    log_left_out(listing.left_out, "data", len(listing.shards))
    indexed = Indexed(url, before=listing.index)
    shards = ShardTable()
    for shard in _counted(listing.shards.drained(), indexed):
        shards.append(shard)
        if shard.defect:
            indexed.uncounted.add(DEFECT, shard.name)
        else:
            indexed.shards += 1
            indexed.rows += shard.known_rows or 0
    write_index(url, shards, cutting_settings(data, listing.format))
    return indexed


def with_counts(shards: Iterable[Shard]) -> Iterator[Shard]:
    """The shards, tars with the number of samples that img2dataset counted, where it lies beside them."""
    return _counted(iter(shards), Indexed(""))


def _counted(waiting: Iterator[Shard], indexed: Indexed) -> Iterator[Shard]:
    """The shards, tars with their number of samples if known."""
    misses: Counter[str] = Counter()
    """By directory, tars without a `_stats.json`."""
    have_stats: set[str] = set()
    """Directories with such a file."""
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        while batch := list(islice(waiting, _MOST_MISSES)):
            asked = [
                _is_uncounted(shard) and (_directory(shard) in have_stats or misses[_directory(shard)] < _MOST_MISSES)
                for shard in batch
            ]
            contents = pool.map(_read_stats, (shard for shard, is_asked in zip(batch, asked, strict=True) if is_asked))
            for shard, is_asked in zip(batch, asked, strict=True):
                content = next(contents) if is_asked else None
                indexed.requests += is_asked
                if content is not None:
                    have_stats.add(_directory(shard))
                    shard = replace(shard, listed_rows=successes(content))
                    if shard.listed_rows is None:
                        indexed.uncounted.add(STATS_UNREADABLE, shard.name)
                elif _is_uncounted(shard):
                    misses[_directory(shard)] += is_asked
                    indexed.uncounted.add(STATS_MISSING, shard.name)
                yield shard


def _directory(shard: Shard) -> str:
    return posixpath.dirname(shard.url)


def _read_stats(shard: Shard) -> bytes | None:
    try:
        return storage.read_bytes(f"{kind_of(shard.url).stem}{ENDING}")
    except (FileNotFoundError, PermissionError):  # some stores refuse access to a missing file
        return None


def _is_uncounted(shard: Shard) -> bool:
    return shard.row_count is None and shard.listed_rows is None and not shard.defect
