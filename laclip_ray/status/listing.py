"""Directories of an output, listed with the times of their files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laclip_ray import storage

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
"""Keys of fsspec's entries that hold the time of the last write, by store. `created` is the memory file system's."""


@dataclass(frozen=True)
class ListedFile:
    """A file of a listing."""

    path: str
    """Below the listed directory."""
    size_bytes: int
    modified_s: float | None
    """By the clock of the store. None: the store does not say it."""


@dataclass(frozen=True)
class Directory:
    """What lies directly in a directory."""

    files: Mapping[str, ListedFile]
    """By name."""
    directories: tuple[str, ...]
    """Names, sorted."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no entry."""
        return not self.files and not self.directories


def list_directory(url: str) -> Directory | None:
    """List a directory, not the ones in it. Unfinished files are left out.

    Returns:
        None if there is no such directory.
    """
    fs, path = storage.filesystem(url)
    fs.invalidate_cache()
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    # An object store lists a key as itself, and may have one for the directory.
    own = path.rstrip("/")
    below = [entry for entry in entries if entry["name"].rstrip("/") != own]
    if len(below) < len(entries) and not below and entries[0]["type"] != "directory":
        return None
    files = {
        name: _listed(name, entry)
        for entry in below
        if entry["type"] != "directory" and storage.ASIDE_MARK not in (name := storage.name_of(entry["name"]))
    }
    names = {storage.name_of(entry["name"]) for entry in below if entry["type"] == "directory"}
    return Directory(files, tuple(sorted(names)))


def list_below(url: str) -> Iterator[ListedFile]:
    """Every complete file below a directory, by one listing. A missing directory has no files."""
    for path, entry in storage.list_entries(url).items():
        yield _listed(path, entry)


def _listed(path: str, entry: Mapping[str, Any]) -> ListedFile:
    return ListedFile(path, int(entry.get("size") or 0), _time_s(entry))


def _time_s(entry: Mapping[str, Any]) -> float | None:
    """When a file was last written, by its entry."""
    for key in _TIMES:
        value = entry.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return None
