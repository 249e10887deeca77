"""The files below a directory, of any file system."""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from laclip_ray import storage
from laclip_ray.data.left_out import DIRECTORY_UNREADABLE, HIDDEN, LINK_DANGLING, LINK_LOOP, NOT_A_FILE, UNFINISHED
from laclip_ray.store_pages import iterate_files

LeaveOut = Callable[[str, str], None]
"""Called with a reason and a name."""


class Found(NamedTuple):
    """A file below a directory."""

    below: str
    """Its path below the directory."""
    path: str
    """Its path in the file system."""
    info: Mapping[str, Any]
    """fsspec's entry, as `info` gives it, or a part of it."""


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is the local one."""
    return isinstance(fs, LocalFileSystem)


def is_hidden(name: str) -> bool:
    """Whether a name marks leftovers and notes of tools."""
    return name.startswith((".", "_"))


def path_below(path: str, root: str) -> str:
    """A path relative to a directory above it.

    >>> path_below("bucket/a/0.tar", "bucket"), path_below("/a", "/")
    ('a/0.tar', 'a')
    """
    return path[len(root.rstrip("/")) :].lstrip("/")


def walk(
    fs: Any, root: str, leave_out: LeaveOut, levels: int | None = None, hides: Callable[[str], bool] = is_hidden
) -> Iterator[Found]:
    """Every complete file below a directory, in no order.

    Linked directories of a local file system are followed after all others, unless they are read already or hold the
    root. Hidden directories are left out as a whole.

    Args:
        fs: the fsspec file system.
        root: the directory.
        leave_out: called with the reason and the name of each left-out entry, relative to the root.
        levels: how deep files may lie; 1 are the files in the root. None: at any depth.
        hides: whether a file or directory of a name is left out.

    Raises:
        OSError: the root cannot be read, or the store failed.
    """
    if is_local(fs):
        files = _LocalWalk(root, leave_out, levels, hides).files()
    else:
        files = _walk_store(fs, root, leave_out, levels, hides)
    for file in files:
        if storage.ASIDE_MARK in storage.name_of(file.below):
            leave_out(UNFINISHED, file.below)
        else:
            yield file


def _walk_store(
    fs: Any, root: str, leave_out: LeaveOut, levels: int | None, hides: Callable[[str], bool]
) -> Iterator[Found]:
    hidden: set[str] = set()
    for path, info in iterate_files(fs, root, levels):
        below = path_below(path, root)
        if not below or path.endswith("/") or info.get("type") == "directory":
            continue  # some stores list a mark of the directory itself
        parts = below.split("/")
        first = next((number for number, part in enumerate(parts, 1) if hides(part)), None)
        if first is None:
            yield Found(below, path, info)
            continue
        name = "/".join(parts[:first]) + ("/" if first < len(parts) else "")
        if name not in hidden:
            hidden.add(name)
            leave_out(HIDDEN, name)


class _LocalWalk:
    def __init__(self, root: str, leave_out: LeaveOut, levels: int | None, hides: Callable[[str], bool]) -> None:
        self._root = root
        self._leave_out = leave_out
        self._levels = levels
        self._hides = hides
        real_root = Path(os.path.realpath(root))
        self._seen = {_key(directory.stat()) for directory in (real_root, *real_root.parents)}
        """Directories to read, and the ones that hold the root."""
        self._waiting = deque([root])
        self._linked: deque[str] = deque()

    def files(self) -> Iterator[Found]:
        while self._waiting or self._linked:
            directory = self._waiting.popleft() if self._waiting else self._linked.popleft()
            for entry in self._scan(directory):
                yield from self._visit(entry)

    def _scan(self, directory: str) -> list[os.DirEntry[str]]:
        """The entries of a directory, sorted; empty if it is left out."""
        below = path_below(directory, self._root)
        try:
            key = _key(Path(directory).stat())
            if below and key in self._seen:
                self._leave_out(LINK_LOOP, below)
                return []
            self._seen.add(key)
            with os.scandir(directory) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError:
            if not below:
                raise
            self._leave_out(DIRECTORY_UNREADABLE, below)
            return []

    def _visit(self, entry: os.DirEntry[str]) -> Iterator[Found]:
        below = path_below(entry.path, self._root)
        if self._hides(entry.name):
            self._leave_out(HIDDEN, below + ("/" if entry.is_dir(follow_symlinks=False) else ""))
            return
        try:
            status = entry.stat()
        except OSError:
            self._leave_out(LINK_DANGLING, below)
            return
        if stat.S_ISDIR(status.st_mode):
            if self._levels is None or below.count("/") + 1 < self._levels:
                (self._linked if entry.is_symlink() else self._waiting).append(entry.path)
        elif stat.S_ISREG(status.st_mode):
            yield Found(below, entry.path, {"size": status.st_size, "mtime": status.st_mtime})
        else:
            self._leave_out(NOT_A_FILE, below)


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
