"""Find the files that a dataset's paths name: files, directories, globs, braces, and paths joined by `::`.

A path that exists is taken literally. Else braces are expanded, and then `*`, `?` and `[...]` match names. The address
of a page of the Hugging Face Hub stands for its `hf://` URL.

Names that begin with `.` or `_` below a given directory are left out: leftovers and notes of tools (`_temporary`,
`_SUCCESS`, `._0.tar`, `.ipynb_checkpoints`). A glob that spells the character out matches them.

Guarantees: what a listing leaves out is counted by reason. A store that describes files in its listings gets no further
request for each file.
"""

import contextlib
import errno
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate

from laclip_ray import storage
from laclip_ray.data.data_files import DataFile, FileTable, Info
from laclip_ray.data.directory_walk import Found, is_hidden, is_local, path_below, walk
from laclip_ray.data.path_patterns import TooManyError, expand_braces, single_paths
from laclip_ray.errors import UserError
from laclip_ray.tally import Tally, first_names

_THREADS = 16
"""Requests in parallel."""
_MAX_REQUESTS_PER_DIRECTORY = 8
"""More files of one directory are looked up in its listing."""

_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class _Target:
    """A configured path, or one of those that its joins and braces stand for."""

    given: str
    url: str
    fs: Any
    path: str
    root: str | None = None
    """For paths from braces: the directory that names start from."""


def find_files(paths: Sequence[str], setting: str, left_out: Tally) -> dict[str, FileTable]:
    """Find the files that paths name, by path. A file may occur twice.

    Args:
        paths: as configured.
        setting: the config key, for messages.
        left_out: counts what the listings left out.

    Raises:
        UserError: a path does not exist, or matches no file.
        OSError: a store failed, or refused access.
    """
    targets = [target for given in paths for target in _targets_of(given, setting)]
    infos = _look_up(targets)
    _check_missing(targets, infos, setting)
    counts = Counter(target.given for target in targets)
    found = {given: FileTable(is_distinct=counts[given] <= 1) for given in paths}
    for target, info in zip(targets, infos, strict=True):
        files = found[target.given]
        for file in _files_of(target, info, setting, left_out):
            files.append(file)
    return found


def _files_of(target: _Target, info: Info | None, setting: str, left_out: Tally) -> Iterator[DataFile]:
    """The files of a target; `info` is its entry."""
    if info is None:
        yield from _matches(target, setting, left_out)
    elif _is_directory(target, info):
        root = target.path if target.root is None else target.root
        for file in walk(target.fs, target.path, left_out.add):
            yield _listed(target, root, file)
    elif info["type"] == "other":
        raise UserError(f"{setting}.path: {target.given!r} is a pipe, a socket or a device; give a file")
    else:
        root = posixpath.dirname(target.path) if target.root is None else target.root
        path = target.path.partition("?")[0] if _is_http(target.fs) else target.path  # no signature in names
        yield DataFile(target.url, root, path_below(path, root), info, is_named=True)


def urls_of(path: str) -> list[str]:
    """The files that a path names, sorted; may be empty."""
    try:
        (files,) = find_files([path], "data", Tally()).values()
    except UserError:
        return []
    return sorted({file.url for file in files})


def _listed(target: _Target, root: str, found: Found) -> DataFile:
    url = storage.url_of(target.fs, found.path, target.url)
    return DataFile(url, root, path_below(found.path, root), found.info)


def _targets_of(given: str, setting: str) -> Iterator[_Target]:
    if given.startswith("pipe:"):
        inner = re.search(r"\w+://[^\s'\"]+", given)
        advice = f"give {inner[0]!r}" if inner else "give the path or URL that it reads"
        raise UserError(f"{setting}.path: {given!r} names a command, and commands are not run; {advice}")
    for url in single_paths(given):
        if not url.strip():
            raise UserError(f"{setting}.path: {given!r} holds an empty path")
        fs, path = storage.filesystem(url)
        target = _Target(given, path if storage.is_local(url) else url, fs, path)
        yield from _expand(target, setting) if "{" in path else (target,)


def _expand(target: _Target, setting: str) -> Iterator[_Target]:
    if _info(target) is not None:
        yield target
        return
    try:
        paths = expand_braces(target.path)
    except TooManyError as error:
        raise UserError(f"{setting}.path: {target.given!r} stands for {error}; give a directory or a glob") from error
    root = posixpath.dirname(re.split(r"[*?[{]", target.path)[0]) if len(paths) > 1 else None
    for path in paths:
        yield _Target(target.given, storage.url_of(target.fs, path, target.url), target.fs, path, root)


def _info(target: _Target) -> Info | None:
    """The entry of a file or directory; None if there is none."""
    try:
        info: Info = target.fs.info(target.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a pattern
            return None
        raise
    return info


def _look_up(targets: Sequence[_Target]) -> list[Info | None]:
    """The entry of each target; None if it does not exist."""
    by_directory: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, target in enumerate(targets):
        by_directory[id(target.fs), posixpath.dirname(target.path)].append(number)
    infos: list[Info | None] = [None] * len(targets)
    single: list[int] = []
    for (_, directory), numbers in by_directory.items():
        fs = targets[numbers[0]].fs
        fs.invalidate_cache()
        if len(numbers) <= _MAX_REQUESTS_PER_DIRECTORY or is_local(fs) or _is_http(fs):
            single += numbers
            continue
        try:
            entries = {entry["name"].rstrip("/"): entry for entry in fs.ls(directory, detail=True)}
        except FileNotFoundError:
            continue
        for number in numbers:
            infos[number] = entries.get(targets[number].path)
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, info in zip(single, pool.map(lambda number: _info(targets[number]), single), strict=True):
            infos[number] = info
    return infos


def _is_http(fs: Any) -> bool:
    return "http" in fs.protocol


def _is_directory(target: _Target, info: Info) -> bool:
    # A web server's index page is a directory to fsspec, but looks like a file.
    if _is_http(target.fs) and not posixpath.splitext(target.path)[1]:
        return bool(target.fs.isdir(target.path))
    return bool(info["type"] == "directory")


def _check_missing(targets: Sequence[_Target], infos: Sequence[Info | None], setting: str) -> None:
    """Refuse paths without wildcards that do not exist."""
    missing: dict[str, list[_Target]] = defaultdict(list)
    for target, info in zip(targets, infos, strict=True):
        if info is None and not _WILDCARD.search(target.path):
            missing[target.given].append(target)
    for given, absent in missing.items():
        count = sum(target.given == given for target in targets)
        if count > 1:
            names = first_names(storage.name_of(target.path) for target in absent)
            raise UserError(
                f"{setting}.path: {len(absent):,} of the {count:,} paths of {given!r} do not exist: {names}. "
                "Name the files that exist, or give a directory or a glob"
            )
        path = Path(absent[0].path)
        if is_local(absent[0].fs) and path.is_symlink():
            raise UserError(f"{setting}.path: {given!r} is a link to {str(path.readlink())!r}, which does not exist")
        raise UserError(f"{setting}.path: {given!r} does not exist")


def _matches(target: _Target, setting: str, left_out: Tally) -> Iterator[DataFile]:
    """The files that a glob matches."""
    top, pattern = _split_glob(target)
    try:
        is_match = re.compile(glob_translate(pattern)).match
    except ValueError as error:
        raise UserError(
            f"{setting}.path: {target.given!r} is no glob ({error}); write ** alone between slashes, or * within a name"
        ) from error

    def leave_out(reason: str, name: str) -> None:
        if is_match(name):
            left_out.add(reason, name)

    spelled_out = {part[0] for part in pattern.split("/") if is_hidden(part)}
    levels = None if "**" in pattern else pattern.count("/") + 1
    root = top if target.root is None else target.root
    files = walk(target.fs, top, leave_out, levels, lambda name: is_hidden(name) and name[0] not in spelled_out)
    has_match = False
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for found in files:
            if is_match(found.below):
                has_match = True
                yield _listed(target, root, found)
    if not has_match:
        raise UserError(f"{setting}.path: {target.given!r} matches no file")


def _split_glob(target: _Target) -> tuple[str, str]:
    """A directory, and the pattern below it. Names with wildcards belong to the directory if they exist."""
    parts = target.path.split("/")
    start = len(parts) - 1
    for number, part in enumerate(parts[:-1]):
        if _WILDCARD.search(part) and _info(replace(target, path="/".join(parts[: number + 1]))) is None:
            start = number
            break
    return "/".join(parts[:start]) or target.fs.root_marker, "/".join(parts[start:])
