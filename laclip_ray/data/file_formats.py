"""Which files of a listing are data: formats by extension, and the tables that only describe tars beside them."""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from laclip_ray.config import DataConfig, Format
from laclip_ray.data.data_files import DataFile, FileTable
from laclip_ray.data.img2dataset_stats import ENDING
from laclip_ray.data.left_out import (
    BESIDE_TAR,
    COMPRESSED,
    GIVEN_TWICE,
    NO_DATA,
    OTHER_FORMAT,
    STATISTICS,
    reason_with_extension,
)
from laclip_ray.data.tar_groups import IMAGE_MEMBERS
from laclip_ray.errors import UserError
from laclip_ray.tally import Tally

EXTENSIONS: dict[str, Format] = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}

COMPRESSED_TARS = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tar.zstd", ".tzst"),
)
"""Read as tars."""

_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4", ".br", ".sz", ".zip", ".7z")
_TABLES = (*(extension for extension in EXTENSIONS if extension != ".tar"), ".json", ".txt")


class _Kind(NamedTuple):
    format: Format | None
    """None: no data format, by its name."""
    stem: str
    """The URL without the extension."""
    extension: str
    is_compressed_table: bool = False


def kind_of(url: str) -> _Kind:
    """The kind of a file by its name.

    >>> kind_of("a/0.tar.gz").format, kind_of("b.csv.gz").is_compressed_table, kind_of("https://h/0.tar?sig=x").stem
    ('webdataset', True, 'https://h/0')
    """
    path = url.partition("?")[0] if url.startswith(("http://", "https://")) else url
    lower = path.lower()
    for extension in COMPRESSED_TARS:
        if lower.endswith(extension):
            return _Kind("webdataset", path[: -len(extension)], extension)
    stem, extension = posixpath.splitext(path)
    extension = extension.lower()
    if extension in _COMPRESSIONS:
        inner = posixpath.splitext(stem)[1].lower()
        return _Kind(None, stem, inner + extension if inner in _TABLES else extension, inner in _TABLES)
    return _Kind(EXTENSIONS.get(extension), stem, extension)


def choose_files(
    found: Mapping[str, Sequence[DataFile]], data: DataConfig, setting: str, left_out: Tally
) -> tuple[FileTable, Format]:
    """Choose the files that hold data, and their format.

    Files that a path names itself are always chosen. Of a directory or a glob, `format: auto` takes the files whose
    names tell a format. A set format takes the files with its extensions; without any, all files.
    Tables beside tars of the same names (img2dataset writes them) describe the tars, and are left out.

    Args:
        found: from `find_files`, by configured path. The tables are emptied.
        data: the configured format.
        setting: the config key of `data`, for messages.
        left_out: counts the other files.

    Raises:
        UserError: a path holds no data, or the format cannot be told.
    """
    by_format: dict[Format | None, FileTable] = {}
    is_distinct = len(found) == 1 and all(getattr(files, "is_distinct", False) for files in found.values())
    seen: set[str] = set()
    for given, files in found.items():
        for file, file_format in _data_of(given, files, data, setting, left_out):
            if not is_distinct:
                if file.url in seen:
                    left_out.add(GIVEN_TWICE, file.name)
                    continue
                seen.add(file.url)
            if file_format not in by_format:
                by_format[file_format] = FileTable(is_distinct=True)
            by_format[file_format].append(file)
    if data.format != "auto":
        (chosen,) = by_format.values()
        return chosen, data.format
    if "webdataset" in by_format and len(by_format) > 1:
        _leave_out_descriptions(by_format, left_out)
    if len(by_format) > 1:
        raise UserError(
            f"{setting}.path: more than one format ({', '.join(sorted(map(str, by_format)))}); set {setting}.format"
        )
    ((chosen_format, chosen),) = by_format.items()
    assert chosen_format is not None
    return chosen, chosen_format


def _data_of(
    given: str, files: Sequence[DataFile], data: DataConfig, setting: str, left_out: Tally
) -> Iterator[tuple[DataFile, Format | None]]:
    """The data files of one configured path, each with the format that its name tells; None if the format is set."""
    is_auto = data.format == "auto"
    tells_format = not is_auto and any(kind_of(file.url).format == data.format for file in files)
    is_empty = True
    refused: Counter[_Kind] = Counter()
    for file in files.drained() if isinstance(files, FileTable) else files:
        kind = kind_of(file.url)
        reason = None
        if file.is_named:
            _check_named(file, kind, data, setting)
        elif kind.is_compressed_table:
            reason = COMPRESSED
        elif kind.format is None and (is_auto or tells_format):
            if data.image_column and kind.extension.removeprefix(".") in IMAGE_MEMBERS:
                continue  # rows of a table name it
            reason = STATISTICS if file.name.endswith(ENDING) else NO_DATA
        elif kind.format not in (None, data.format) and tells_format:
            reason = OTHER_FORMAT
        if reason is None:
            is_empty = False
            yield file, kind.format if is_auto else None
        else:
            refused[kind._replace(stem="")] += 1
            left_out.add(reason_with_extension(reason, kind.extension), file.name)
    if is_empty:
        raise UserError(f"{setting}.path: {given!r} holds no {_wanted(data)}; {_describe_content(refused)}")


def _check_named(file: DataFile, kind: _Kind, data: DataConfig, setting: str) -> None:
    """Refuse a file that a path names, but that cannot be read."""
    if kind.is_compressed_table:
        raise UserError(f"{setting}.path: {file.url!r} is a compressed table; unpack it")
    if data.format == "auto" and kind.format is None:
        raise UserError(f"{setting}.format: cannot tell the format of {file.url!r} from its name; set it")


def _wanted(data: DataConfig) -> str:
    return f"shards ({', '.join(EXTENSIONS)})" if data.format == "auto" else f"{data.format} files"


def _describe_content(refused: Mapping[_Kind, int]) -> str:
    if not refused:
        return "it holds no files, except hidden ones"
    counts: Counter[str] = Counter()
    for kind, count in refused.items():
        counts[kind.extension or "without an extension"] += count
    content = ", ".join(f"{count:,} {extension}" for extension, count in counts.most_common(5))
    return f"it holds {content}" + (
        "; unpack compressed tables" if any(kind.is_compressed_table for kind in refused) else ""
    )


def _leave_out_descriptions(by_format: dict[Format | None, FileTable], left_out: Tally) -> None:
    """Leave out the tables if each lies beside a tar of the same name."""
    tars = np.unique(_stems(by_format["webdataset"]))
    others = by_format.keys() - {"webdataset"}
    tables = [by_format[file_format] for file_format in by_format if file_format in others]
    are_beside = all(np.isin(_stems(files), tars).all() for files in tables)
    if are_beside and not any(file.is_named for files in tables for file in files):
        for files in tables:
            for file in files:
                left_out.add(reason_with_extension(BESIDE_TAR, kind_of(file.url).extension), file.name)
        for file_format in others:
            del by_format[file_format]


def _stems(files: FileTable) -> np.ndarray:
    """Hashes of the files' URLs without extensions, [N] int64: a million of them take 8 MB."""
    return np.fromiter((hash(kind_of(file.url).stem) for file in files), np.int64, len(files))
