"""Small copies of the pictures of chosen samples, read from the data.

Guarantees: at most `ROWS` rows of each shard are read, unless the caller asks for more. No picture is fetched from a
host on the web.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.image_formats import ImageLimits
from laclip_ray.data.records import Shard, ShardUnreadableError
from laclip_ray.data.shard_table import ShardsByName
from laclip_ray.data.shards import list_dataset, read_samples
from laclip_ray.data.thumbnails import thumbnail
from laclip_ray.endings.causes import describe
from laclip_ray.errors import UserError

PlacedKey = tuple[str, str, str]
"""The shard, the id and the caption's hash of a sample."""

ROWS = 1_000
"""Rows of a shard that samples are chosen from."""
_MOST_SHARDS = 5_000
"""Without a dataset index, a larger dataset is not listed."""


def pictures_of(
    data: DataConfig, output: str, wanted: Sequence[PlacedKey], shards: int, rows: int = ROWS
) -> tuple[dict[PlacedKey, bytes], list[str]]:
    """Small copies of the pictures of samples.

    Args:
        data: where the samples are.
        output: `output` of the experiment; the dataset index may be there.
        wanted: the samples.
        shards: of the dataset, about.
        rows: of each shard that are read, at most.

    Returns:
        The pictures found, as JPEG files, empty for one that cannot be decoded; and notes on missing ones.
    """
    try:
        index = beside(output)
        if shards > _MOST_SHARDS and data.index is None and not storage.exists(index):
            return {}, ["The pictures are not shown: listing so much data takes long. Make `laclip data index` first."]
        by_name = ShardsByName(list_dataset(data, index=index).shards)
    except (UserError, OSError) as error:
        return {}, [f"The pictures are not shown: {_text_of(error)}"]
    found: dict[PlacedKey, bytes] = {}
    notes: list[str] = []
    remote = 0
    for name in dict.fromkeys(key[0] for key in wanted):
        shard = by_name.get(name)
        if shard is None:
            notes.append(f"The data no longer has the shard {name}.")
            continue
        keys = {(key[1], key[2]): key for key in wanted if key[0] == name}
        try:
            remote += _read(shard, data, keys, found, rows)
        except (ShardUnreadableError, UserError, OSError) as error:
            notes.append(f"The pictures of {name} are not shown: {_text_of(error)}")
    if remote:
        notes.append(f"{remote:,} pictures are on other hosts, from which none is fetched.")
    return found, notes


def _text_of(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else describe(error)


def _read(
    shard: Shard, data: DataConfig, keys: Mapping[tuple[str, str], PlacedKey], found: dict[PlacedKey, bytes], rows: int
) -> int:
    """Read the pictures of one shard into `found`; the number of those on other hosts."""
    remote, left = 0, len(keys)
    for sample in islice(read_samples(shard, data, with_images=True), rows):
        key = keys.get((sample.id, sample.caption_hash))
        if key is None:
            continue
        left -= 1
        if sample.image is None:
            remote += sample.image_path is not None and "://" in sample.image_path
        elif (small := thumbnail(sample.image, ImageLimits.of(data), data.exif)) is not None:
            found[key] = small
        else:
            found[key] = b""  # the page says that it is not shown
        if not left:
            break
    return remote
