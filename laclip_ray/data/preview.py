"""Look at the first rows of a dataset before work starts, and refuse a dataset without captions or images.

Shards spread over the dataset are read until a usable row is found: in most cases one row of one shard. Images on other
hosts are not fetched here.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.records import NO_CAPTION, Sample, Shard, ShardUnreadableError, parse_json
from laclip_ray.data.shards import read_samples
from laclip_ray.data.tar_groups import IMAGE_MEMBERS, Reading, read_groups
from laclip_ray.errors import UserError
from laclip_ray.tally import first_names

_SHARDS = 8
_ROWS = 256
"""Number of inspected rows of a shard."""
_SHOWN_NAMES = 12


@dataclass
class _Seen:
    """The fields that inspected rows lack."""

    rows: int = 0
    captions: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    example: Shard | None = None
    """A shard that could be read."""
    unreadable: list[str] = field(default_factory=list)
    """Why shards could not be read."""


def check_first_rows(data: DataConfig, shards: Sequence[Shard], needs_images: bool, setting: str = "data") -> None:
    """Refuse a dataset without a usable row among its first rows.

    Args:
        data: how the shards are read.
        shards: of the dataset, or those with work left.
        needs_images: whether a row needs an image, besides a caption.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: no row can be used. The message names the fields of the rows, and the setting.
        OSError: no row can be used, and a store failed or refused access.
    """
    seen = _Seen()
    error: OSError | None = None
    for shard in spread([shard for shard in shards if not shard.defect] or shards, _SHARDS):
        try:
            if _has_usable_row(shard, data, needs_images, seen):
                return
        except ShardUnreadableError as unreadable:
            seen.unreadable.append(str(unreadable))
        except OSError as failure:
            error = error or failure
    if error is not None:
        raise error
    if shards:
        raise UserError(_describe(data, seen, needs_images, setting))


def spread(shards: Sequence[Shard], most: int) -> Iterator[Shard]:
    """The first and the last shard, and some between: at most this many."""
    count = min(most, len(shards))
    return (shards[number * (len(shards) - 1) // max(count - 1, 1)] for number in range(count))


def _has_usable_row(shard: Shard, data: DataConfig, needs_images: bool, seen: _Seen) -> bool:
    """Whether one of the shard's first rows has a caption and, if needed, an image; else adds to `seen`."""
    for sample in itertools.islice(read_samples(shard, data, with_images=False), _ROWS):
        seen.example = shard
        seen.rows += 1
        seen.problems.update(sample.problems)
        if not NO_CAPTION.isdisjoint(sample.problems):
            continue
        seen.captions += 1
        if not needs_images:
            return True
        if shard.format != "webdataset":  # only reading shows whether there is an image
            return _is_on_a_host(sample) or _has_image(shard, data, seen)
        if not any(problem.startswith("image_") for problem in sample.problems):
            return True
    return False


def _is_on_a_host(sample: Sample) -> bool:
    return sample.image_path is not None and "://" in sample.image_path


def _has_image(shard: Shard, data: DataConfig, seen: _Seen) -> bool:
    """Whether one of a table's first rows has an image in the table, or in a file beside it."""
    for sample in itertools.islice(read_samples(shard, data, with_images=True), _ROWS):
        if sample.image is not None or _is_on_a_host(sample):
            return True
        seen.problems.update(problem for problem in sample.problems if problem.startswith("image_"))
    return False


def _describe(data: DataConfig, seen: _Seen, needs_images: bool, setting: str) -> str:
    """The message of a refusal."""
    if seen.example is None:
        content = f": {first_names(seen.unreadable, 2)}" if seen.unreadable else ""
        return f"{setting}.path: the shards that were looked at hold no samples{content}"
    lacks = "an image" if seen.captions else "a caption"
    counts = ", ".join(f"{count} {problem}" for problem, count in seen.problems.most_common(4))
    content = f"{seen.example.url} has {_content(seen.example)}"
    remedy = (
        _image_remedy(seen.example, data, setting) if seen.captions else _caption_remedy(seen.example, data, setting)
    )
    both = " with a caption" if needs_images and seen.captions else ""
    return f"{setting}: none of the first {seen.rows} rows{both} has {lacks} ({counts}); {content}. {remedy}"


def _caption_remedy(shard: Shard, data: DataConfig, setting: str) -> str:
    key = f"{setting}.caption_column"
    if shard.format == "webdataset":
        field = f"the field of a json member that {key} names ({data.caption_column!r})"
        return f"A caption is a txt member, or {field}; the members of a sample must follow one another"
    return f"Set {key} to the column of the captions; it is {data.caption_column!r}"


def _image_remedy(shard: Shard, data: DataConfig, setting: str) -> str:
    if shard.format == "webdataset":
        extensions = ", ".join(IMAGE_MEMBERS)
        return f"An image is a member with one of the extensions {extensions}, next to its caption"
    if data.image_column is None:
        return f"Set {setting}.image_column to the column of the images"
    return f"Check {setting}.image_column ({data.image_column!r}), and {setting}.image_root for relative paths"


def _content(shard: Shard) -> str:
    """The content of a readable shard, by its first rows."""
    if shard.format == "webdataset":
        return _tar_content(shard)
    if shard.format == "parquet":
        fs, path = storage.filesystem(shard.url)
        with fs.open(path, "rb") as file:
            schema = pq.read_schema(file)
        return f"the columns {_names(f'{column.name} ({column.type})' for column in schema)}"
    if shard.columns is not None:
        return f"the columns {_names(shard.columns)}"
    line = next((line for _, line in storage.iterate_lines(shard.url, shard.start_byte)), b"")
    fields = parse_json(line)
    return f"the keys {_names(fields)}" if isinstance(fields, dict) and fields else "no JSON object in its first line"


def _tar_content(shard: Shard) -> str:
    extensions: Counter[str] = Counter()
    keys: list[str] = []
    fs, path = storage.filesystem(shard.url)
    with fs.open(path, "rb") as file:
        try:
            for group in itertools.islice(read_groups(file, Reading(images=False)), _ROWS):
                extensions.update(group.members.keys())
                fields = parse_json(group.members.get("json") or b"")
                keys = keys or (list(fields) if isinstance(fields, dict) else [])
        except DamagedError:
            pass  # the message names the members before
    members = f"members with the extensions {_names(extension for extension, _ in extensions.most_common())}"
    return members + (f"; the first json has the keys {_names(keys)}" if keys else "")


def _names(names: Iterable[str]) -> str:
    return first_names((name if name.isprintable() else ascii(name) for name in names), _SHOWN_NAMES)
