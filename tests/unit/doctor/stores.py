"""Stores with one fault each, as fsspec file systems in memory."""

import errno
from datetime import datetime, timedelta
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class ForgetfulStore(MemoryFileSystem):  # type: ignore[misc]
    """Ignores the condition of a put."""

    protocol = "ignoring"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec declares it
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, **kwargs)


class ReadOnlyStore(MemoryFileSystem):  # type: ignore[misc]
    """Refuses writes."""

    protocol = "readonly"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)


class SkewedStore(MemoryFileSystem):  # type: ignore[misc]
    """Has a clock of its own."""

    protocol = "skewed"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    ahead_s = 600.0

    def modified(self, path: str) -> datetime:
        then: datetime = super().modified(path)
        return then + timedelta(seconds=self.ahead_s)


class LateStore(MemoryFileSystem):  # type: ignore[misc]
    """Its listings lack new files."""

    protocol = "late"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        return []


class UndeletableStore(MemoryFileSystem):  # type: ignore[misc]
    """Answers a deletion, and keeps the file."""

    protocol = "keeping"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def rm_file(self, path: str) -> None:
        pass


for kind in (ForgetfulStore, ReadOnlyStore, SkewedStore, LateStore, UndeletableStore):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
