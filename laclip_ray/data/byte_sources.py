"""Bytes of a tar by position: of a plain file, or of one compressed by gzip, bzip2, xz or zstd.

Guarantees: memory grows with the bytes that a file holds, never with a number that it claims. A compressed file that
expands beyond any real tar is given up (`DamagedError`). Errors of the store stay `OSError`; damage of the file's
content is a `DamagedError`.
"""

import bz2
import gzip
import lzma
import tarfile
import tempfile
from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa

_STEP_BYTES = 2**20
"""Larger reads are made in steps of this size, because a buffered file allocates a read's size at once."""

_MAX_EXPANSION = 250
"""Decompressed bytes for each compressed one, at most. Tars of captions alone reach about 100."""
_FREE_BYTES = 256 * 2**20
"""Decompressed bytes to which `_MAX_EXPANSION` does not apply."""

_SPOOL_BYTES = 64 * 2**20
"""A decompressed copy (see `InflatedSource.seek`) is in memory up to this size, then in a temporary file."""


class DamagedError(tarfile.ReadError):
    """The content of a tar ends early or contradicts its header."""


class ByteSource(Protocol):
    """Bytes by position."""

    position: int

    def read(self, size: int) -> bytes:
        """The next bytes: fewer than `size` only at the end."""

    def seek(self, position: int) -> None:
        """Move to a position, which may lie beyond the end."""


class PlainSource:
    """An uncompressed file."""

    def __init__(self, file: Any) -> None:
        """Take a seekable binary file that stands at position 0."""
        self._file = file
        self._size: int | None = getattr(file, "size", None)
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next bytes: fewer than `size` only at the end."""
        content: bytes = self._file.read(size) if size <= _STEP_BYTES else _read_in_steps(self._file.read, size)
        self.position += len(content)
        return content

    def seek(self, position: int) -> None:
        """Move to a position, which may lie beyond the end."""
        if position == self.position:
            return
        try:
            # File systems refuse positions above their largest file.
            self._file.seek(position if self._size is None else min(position, self._size))
            self.position = position
        except ValueError:  # a stream without positions, as some HTTP servers give
            if position < self.position:
                raise
            _skip(self, position)


class InflatedSource:
    """A compressed file. It is decompressed from start to end; only a move backwards makes a decompressed copy."""

    def __init__(self, file: Any, open_stream: Callable[[Any], Any]) -> None:
        """Take a seekable binary file, and a function that opens a decompressing stream on it."""
        self._file = file
        self._open_stream = open_stream
        self._copy: Any = None
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._raw = _CountedFile(self._file)
        self.position = 0
        try:
            self._stream = self._open_stream(self._raw)
        except Exception as error:
            raise self._named(error) from error

    def read(self, size: int) -> bytes:
        """The next bytes: fewer than `size` only at the end."""
        return _read_in_steps(self._read_step, size)

    def _read_step(self, size: int) -> bytes:
        try:
            content: bytes = (self._copy or self._stream).read(size)
        except Exception as error:
            raise self._named(error) from error
        self.position += len(content)
        if self.position > _FREE_BYTES and self.position > _MAX_EXPANSION * self._raw.bytes_read:
            raise DamagedError(f"expands to more than {_MAX_EXPANSION} times its size")
        return content

    def _named(self, error: Exception) -> Exception:
        """The store's own error, or the damage. Decompressors raise `OSError` for damage too."""
        return self._raw.error or DamagedError(f"cannot be decompressed: {error}")

    def seek(self, position: int) -> None:
        """Move to a position. Backwards: make a decompressed copy of the whole file first."""
        if self._copy is None and position < self.position:
            self._make_copy()
        if self._copy is not None:
            self._copy.seek(position)
            self.position = position
        _skip(self, position)

    def _make_copy(self) -> None:
        copy = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - it lives as long as this object
        self._restart()
        try:
            while content := self.read(_STEP_BYTES):
                copy.write(content)
        except DamagedError:
            pass  # the copy ends where reading would have ended
        self._copy = copy


class _CountedFile:
    """The compressed file: counts the bytes read, and keeps an error of the store."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file = file
        self.bytes_read = 0
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            content: bytes = self._file.read(size)
        except Exception as error:
            self.error = error
            raise
        self.bytes_read += len(content)
        return content

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave the file open: its owner closes it."""


def _skip(source: ByteSource, position: int) -> None:
    """Read up to a position, or to the end."""
    while source.position < position and source.read(min(position - source.position, _STEP_BYTES)):
        pass


def _read_in_steps(read: Callable[[int], bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := read(min(size, _STEP_BYTES))):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _open_zstd(file: Any) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


_STREAMS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
"""By the first bytes of a file."""


def decompressed(file: Any, first: bytes) -> ByteSource | None:
    """The decompressed bytes of a file; None if its first bytes are of no known compression."""
    open_stream = next((open_stream for mark, open_stream in _STREAMS.items() if first.startswith(mark)), None)
    return InflatedSource(file, open_stream) if open_stream is not None else None
