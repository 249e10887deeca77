"""Which files of a listing are data: formats by extension, and the tables that only describe tars beside them."""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from laclip_ray.config import DataConfig, Format
from laclip_ray.data.left_out import (
    BESIDE_TAR,
    COMPRESSED,
    GIVEN_TWICE,
    NO_DATA,
    OTHER_FORMAT,
    reason_with_extension,
)
from laclip_ray.data.listing import DataFile
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
) -> tuple[list[DataFile], Format]:
    """Choose the files that hold data, and their format.

    Files that a path names itself are always chosen. Of a directory or a glob, `format: auto` takes the files whose
    names tell a format. A set format takes the files with its extensions; without any, all files.
    Tables beside tars of the same names (img2dataset writes them) describe the tars, and are left out.

    Args:
        found: from `find_files`, by configured path.
        data: the configured format.
        setting: the config key of `data`, for messages.
        left_out: counts the other files.

    Raises:
        UserError: a path holds no data, or the format cannot be told.
    """
    chosen: dict[str, DataFile] = {}
    for given, files in found.items():
        for file in _data_of(given, files, data, setting, left_out):
            if chosen.setdefault(file.url, file) is not file:
                left_out.add(GIVEN_TWICE, file.name)
    if data.format != "auto":
        return list(chosen.values()), data.format
    files_of: dict[Format, list[DataFile]] = {}
    for file in chosen.values():
        file_format = kind_of(file.url).format
        assert file_format is not None
        files_of.setdefault(file_format, []).append(file)
    if "webdataset" in files_of:
        _leave_out_descriptions(files_of, left_out)
    if len(files_of) > 1:
        raise UserError(f"{setting}.path: more than one format ({', '.join(sorted(files_of))}); set {setting}.format")
    ((file_format, kept),) = files_of.items()
    return kept, file_format


def _data_of(
    given: str, files: Sequence[DataFile], data: DataConfig, setting: str, left_out: Tally
) -> Iterator[DataFile]:
    """The data files of one configured path."""
    kinds = {file.url: kind_of(file.url) for file in files}
    tells_format = data.format in {kind.format for kind in kinds.values()}
    kept: list[DataFile] = []
    for file in files:
        kind = kinds[file.url]
        if file.is_named:
            _check_named(file, kind, data, setting)
        elif kind.is_compressed_table:
            left_out.add(reason_with_extension(COMPRESSED, kind.extension), file.name)
            continue
        elif kind.format is None and (data.format == "auto" or tells_format):
            left_out.add(reason_with_extension(NO_DATA, kind.extension), file.name)
            continue
        elif kind.format not in (None, data.format) and tells_format:
            left_out.add(reason_with_extension(OTHER_FORMAT, kind.extension), file.name)
            continue
        kept.append(file)
    if not kept:
        raise UserError(f"{setting}.path: {given!r} holds no {_wanted(data)}; {_describe_content(files)}")
    return iter(kept)


def _check_named(file: DataFile, kind: _Kind, data: DataConfig, setting: str) -> None:
    """Refuse a file that a path names, but that cannot be read."""
    if kind.is_compressed_table:
        raise UserError(f"{setting}.path: {file.url!r} is a compressed table; unpack it")
    if data.format == "auto" and kind.format is None:
        raise UserError(f"{setting}.format: cannot tell the format of {file.url!r} from its name; set it")


def _wanted(data: DataConfig) -> str:
    return f"shards ({', '.join(EXTENSIONS)})" if data.format == "auto" else f"{data.format} files"


def _describe_content(files: Sequence[DataFile]) -> str:
    if not files:
        return "it holds no files, except hidden ones"
    kinds = [kind_of(file.url) for file in files]
    counts = Counter(kind.extension or "without an extension" for kind in kinds)
    content = ", ".join(f"{count:,} {extension}" for extension, count in counts.most_common(5))
    return f"it holds {content}" + (
        "; unpack compressed tables" if any(kind.is_compressed_table for kind in kinds) else ""
    )


def _leave_out_descriptions(files_of: dict[Format, list[DataFile]], left_out: Tally) -> None:
    """Leave out the tables if each lies beside a tar of the same name."""
    tars = {kind_of(file.url).stem for file in files_of["webdataset"]}
    tables = [file for file_format, files in files_of.items() if file_format != "webdataset" for file in files]
    if all(kind_of(file.url).stem in tars and not file.is_named for file in tables):
        for file in tables:
            left_out.add(reason_with_extension(BESIDE_TAR, kind_of(file.url).extension), file.name)
        for file_format in files_of.keys() - {"webdataset"}:
            del files_of[file_format]
