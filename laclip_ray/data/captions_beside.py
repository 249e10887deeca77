"""Captions of a remote tar from the Parquet file that img2dataset writes beside it, without reading the tar.

img2dataset writes three files for a shard: `00000.tar` with the images that it got, `00000.parquet` with a row for each
URL that it tried (`key`, `status`, `caption` and others, in the tar's order), and `00000_stats.json`. The rows whose
status is `success` are the samples of the tar. Their columns are the fields of its json members, and `caption` is the
text of its txt members.

The table is checked against the tar: the first samples, the last ones, and the number in `_stats.json` if there is one
must be the same. If anything differs, or if the table lacks a member of the tar, the tar is read. The reason
is counted (`tables_refused`), and logged at the 1st, 10th, 100th shard and so on of a process.

Guarantees: a table is used only if its first and last rows give the ids, captions and problems that the tar gives, and
if its columns have types that json keeps.

Not covered: tars changed only in their middle, by damage or by a filter that kept the table; reading with images reads
the tar itself. A single image above `data.max_image_bytes` in a tar of small ones is found when images are read.
"""

import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.file_kinds import describe_start
from laclip_ray.data.img2dataset_stats import ENDING
from laclip_ray.data.parquet_types import is_text
from laclip_ray.data.ranged_file import RangedFile, SparseFile, fetcher_of
from laclip_ray.data.records import MAX_ROW_BYTES, Sample
from laclip_ray.data.tar_groups import Group, Reading, read_groups
from laclip_ray.data.tar_samples import Fields, json_fields, samples_of_group
from laclip_ray.data.tars import first_header
from laclip_ray.tally import Tally

logger = logging.getLogger(__name__)

_LEAST_TAR_BYTES = 8 * 2**20
"""A smaller tar is read: the table would cost as many requests."""

_FIRST_TABLE_BYTES = 4 * 2**20
"""Of a table, fetched by the first request: most tables of 10,000 rows as a whole. At most a sixteenth of the tar."""
_MOST_TABLE_BYTES = 256 * 2**20
"""The needed columns, decompressed, at most."""

_LAST_BYTES = 2**20
"""Of a tar's end, at most, unless four samples are larger. At most a hundredth of the tar."""

_END_BYTES = 2**14
"""Zero bytes at the end of a tar: writers fill up a record of 10 KB."""

_LARGEST_IMAGE = 64
"""An image of a tar is not expected to be larger than this many times its mean sample."""

_STATS_BYTES = 2**20
_PLAIN_KEY = re.compile(r"[\w-]+", re.ASCII)

_CAPTION = "caption"
"""img2dataset's column with the text of the txt members, under any name of the input."""

tables_refused = Tally()
"""Shards of this process whose tables were not used, by reason."""
_lock = Lock()


class _RefusedError(Exception):
    """The table cannot be used. The arguments: a reason to count, and what is wrong."""


class _Table(NamedTuple):
    """The samples of a table."""

    keys: Sequence[str]
    columns: dict[str, Sequence[Any]]
    """By name: the columns that the configuration needs."""
    members: tuple[str, ...]
    """Extensions of a sample's members, in the tar's order."""
    image: str

    def group(self, number: int) -> tuple[Group, Fields]:
        """A sample as the tar would give it without its image; from the end if `number` is negative."""
        group = Group(self.keys[number], dict.fromkeys(self.members), image=self.image)
        if "txt" in group.members:
            caption = self.columns[_CAPTION][number]
            group.members["txt"] = ("" if caption is None else caption).encode()
        return group, {name: values[number] for name, values in self.columns.items()}


def table_url(tar_url: str) -> str | None:
    """Where img2dataset puts the table of a tar; None if no name tells.

    >>> table_url("s3://bucket/00000.tar"), table_url("https://host/00000.tar?signature=x")
    ('s3://bucket/00000.parquet', None)
    """
    return f"{tar_url.removesuffix('.tar')}.parquet" if tar_url.endswith(".tar") else None


def groups_beside(
    tar_url: str, data: DataConfig, tar: RangedFile, first: Sequence[Group]
) -> Iterator[tuple[Group, Fields]] | None:
    """The samples of a tar after its first ones, from the table beside it; None if the tar must be read.

    Args:
        tar_url: the tar.
        data: how captions and ids are read.
        tar: the open tar. It does not move.
        first: its first samples.
    """
    url = table_url(tar_url)
    if url is None or tar.size < _LEAST_TAR_BYTES or not first:
        return None
    try:
        if _may_have_large_images(tar.position // len(first), data):
            return None
        table = _read_table(url, data, tar.size, first)
        if table is None or _may_have_large_images(tar.size // max(len(table.keys), 1), data):
            return None
        _check_count(url, len(table.keys))
        _check_first(table, first, data)
        _check_last(table, tar, data)
    except _RefusedError as error:
        _count(url, *error.args)
        return None
    return (table.group(number) for number in range(len(first), len(table.keys)))


def _may_have_large_images(sample_bytes: int, data: DataConfig) -> bool:
    """Whether an image may be above the limit, by the mean size of a sample. The table does not tell it."""
    return _LARGEST_IMAGE * sample_bytes > data.max_image_bytes


def _count(url: str, reason: str, what: str) -> None:
    with _lock:
        tables_refused.add(reason, url)
        count = tables_refused.counts[reason]
    if str(count).strip("0") == "1":
        logger.warning("%s: %s; the tar beside it is read instead (%d so far: %s)", url, what, count, reason)


def _read_table(url: str, data: DataConfig, tar_bytes: int, first: Sequence[Group]) -> _Table | None:
    """Read the needed columns; None if there is no table.

    Raises:
        _RefusedError: it is not img2dataset's, or does not list the members of the tar.
    """
    file = _open_table(url, min(_FIRST_TABLE_BYTES, tar_bytes // 16))
    if file is None:
        return None
    members, image = _layout(first)
    captions = _CAPTION if "txt" in members else data.caption_column
    fields = {captions, *([data.id_column] if data.id_column else [])}
    with _refused_if_it_fails("table_unreadable", "not readable as Parquet"):
        parquet = pq.ParquetFile(file)
        _check_types(parquet.schema_arrow, fields, captions if "txt" in members else None)
        names = sorted({"key", "status", *fields})
        file.add(_ranges(parquet.metadata, names))
        columns = {name: column.to_pylist() for name, column in zip(names, parquet.read(names).columns, strict=True)}
    chosen = [number for number, status in enumerate(columns["status"]) if status == "success"]
    columns = {name: [values[number] for number in chosen] for name, values in columns.items()}
    keys = columns["key"]
    if not all(key and _PLAIN_KEY.fullmatch(key) for key in keys):
        raise _RefusedError("keys_unusual", "it has keys that are not of letters and digits")
    if "txt" in members and any(text and len(text) > MAX_ROW_BYTES // 4 for text in columns[captions]):
        raise _RefusedError("caption_too_large", "a caption is larger than a member may be")
    return _Table(keys, {name: columns[name] for name in fields}, members, image)


def _open_table(url: str, first_bytes: int) -> SparseFile | None:
    """The table with its first bytes, and its footer if it is longer; None: no readable table."""
    content = _fetch_first(url, first_bytes, "table_unreadable")
    if content is None:
        return None
    if content[:4] != b"PAR1":
        raise _RefusedError("table_unreadable", f"not Parquet, but {describe_start(content[:512])}")
    if len(content) < first_bytes:
        return SparseFile(len(content), content)
    fs, path = storage.filesystem(url)
    with _refused_if_it_fails("table_unreadable", "cannot be read"):
        handle = fs.open(path, "rb")
        fetch = fetcher_of(handle)
        if fetch is None:
            return None
        file = SparseFile(handle.size, content, fetch)
        file.add_footer()
    return file


def _fetch_first(url: str, most_bytes: int, reason: str) -> bytes | None:
    """The first bytes of a file, by one request; None if there is no file."""
    fs, path = storage.filesystem(url)
    with _refused_if_it_fails(reason, "cannot be read"):
        try:
            # Not `open`: s3fs would look for a missing file by a listing too.
            content: bytes = fs.cat_file(path, start=0, end=most_bytes)
        except (FileNotFoundError, PermissionError):  # some stores refuse what does not exist
            return None
    return content


@contextmanager
def _refused_if_it_fails(reason: str, what: str) -> Iterator[None]:
    """Turn any error into a refusal: file systems raise many types, and the tar may be readable."""
    try:
        yield
    except _RefusedError:
        raise
    except Exception as error:
        raise _RefusedError(reason, f"{what} ({' '.join(str(error).split())})") from error


def _layout(first: Sequence[Group]) -> tuple[tuple[str, ...], str]:
    """The members of every sample, and its image member."""
    members, image = tuple(first[0].members), first[0].image
    if image is None or {*members} - {"txt"} != {image, "json"}:
        raise _RefusedError("other_members", f"samples of the tar have other members ({', '.join(members)})")
    if any(tuple(group.members) != members or group.problems for group in first):
        raise _RefusedError("other_members", "samples of the tar differ in their members")
    return members, image


def _check_types(schema: pa.Schema, fields: Iterable[str], text: str | None) -> None:
    """Check that the table has the columns, with values that json keeps; `text` is one that became a txt member."""
    for name in ("key", "status", *fields):
        if schema.names.count(name) != 1:
            raise _RefusedError("column_missing", f"it has no column {name!r}")
        kind = schema.field(name).type
        only_text = name in ("key", "status", text)
        if not (is_text(kind) if only_text else _keeps_in_json(kind)):
            raise _RefusedError("column_type", f"column {name!r} has type {kind}")


def _keeps_in_json(kind: pa.DataType) -> bool:
    """Whether a value of a column is the same when it comes back from json."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    is_number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
    return bool(is_text(kind) or is_number or types.is_boolean(kind) or types.is_null(kind))


def _ranges(metadata: pq.FileMetaData, names: Sequence[str]) -> list[tuple[int, int]]:
    """Where the columns are in the file."""
    ranges: list[tuple[int, int]] = []
    size_bytes = 0
    for group_number in range(metadata.num_row_groups):
        group = metadata.row_group(group_number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in names or column.path_in_schema.partition(".")[0] in names:
                start = column.dictionary_page_offset or column.data_page_offset
                ranges.append((start, start + column.total_compressed_size))
                size_bytes += column.total_uncompressed_size
    if size_bytes > _MOST_TABLE_BYTES:
        raise ValueError(f"{size_bytes:,} bytes of captions")
    return ranges


def _check_count(table_url: str, rows: int) -> None:
    url = f"{table_url.removesuffix('.parquet')}{ENDING}"
    content = _fetch_first(url, _STATS_BYTES, "stats_unreadable")
    if content is None:
        return
    name = storage.name_of(url)
    with _refused_if_it_fails("stats_unreadable", f"{name} cannot be read"):
        successes = json.loads(content)["successes"]
    if successes != rows:
        raise _RefusedError("count_differs", f"it has {rows:,} samples, but {name} counts {successes}")


def _check_first(table: _Table, first: Sequence[Group], data: DataConfig) -> None:
    for number, group in enumerate(first):
        if number >= len(table.keys) or _samples(group, data) != _samples_of_row(table, number, data):
            raise _RefusedError("samples_differ", f"sample {group.key!r} at the start of the tar is not its row")


def _check_last(table: _Table, tar: RangedFile, data: DataConfig) -> None:
    """Compare the last samples of the tar. The first fetched one may lack members, and is left out."""
    size = max(4 * tar.size // len(table.keys), min(_LAST_BYTES, tar.size // 128)) + _END_BYTES
    start = max(tar.size - size, 0) // 512 * 512
    try:
        content = tar.fetch(start, tar.size)
        header = first_header(content)
        file = io.BytesIO(content[header:] if header is not None else b"")
        groups = [*read_groups(file, Reading(images=False, max_image_bytes=data.max_image_bytes))][1:]
    except DamagedError as error:
        raise _RefusedError("tar_end_differs", f"the tar does not end as a tar ({error})") from error
    if not 0 < len(groups) <= len(table.keys):
        raise _RefusedError("tar_end_differs", "the end of the tar holds no whole sample")
    for number, group in enumerate(groups, -len(groups)):
        is_alike = tuple(group.members) == table.members and not group.problems
        if not is_alike or _samples(group, data) != _samples_of_row(table, number, data):
            raise _RefusedError("samples_differ", f"sample {group.key!r} at the end of the tar is not its row")


def _samples(group: Group, data: DataConfig) -> list[Sample]:
    return list(samples_of_group(0, group, json_fields(group), data))


def _samples_of_row(table: _Table, number: int, data: DataConfig) -> list[Sample]:
    return list(samples_of_group(0, *table.group(number), data))
