"""Files of a remote store, read by ranges whose sizes follow what the reader does.

A request takes about 20 ms before its first byte, and a stream then gives about 50 MB/s (S3, same region). So a request
costs as much as 1 MB of content: 20 ms x 50 MB/s. A reader that skips more than `HOLE_BYTES` between two reads gains by
small requests, one after each hole. A reader that skips less gains by large ones, which hold many holes. fsspec's S3
files fetch 50 MiB ahead of any read, after a hole too, so readers of captions would download every image.

Guarantees: no byte that a sequential reader needs is fetched twice. A store that gives fewer bytes than a range has is
an error, never the end of the file.

Not covered: local files, streams without positions, and files that fsspec keeps on disk. They are read as they are.
"""

import io
from collections.abc import Callable, Iterable
from typing import Any

from fsspec.caching import MMapCache
from fsspec.spec import AbstractBufferedFile

HOLE_BYTES = 2**20
"""Skipping more bytes than this is worth a request."""

FIRST_BYTES = 2**18
"""Size of the first request of a file."""

_AFTER_HOLE_BYTES = 2**16
"""Size of a request after a hole: the texts of a sample and the next header."""

_FOOTER_BYTES = 2**20
"""Fetched from the end of a large Parquet file: img2dataset writes 100 row groups, whose footer has some 100 KB."""

Fetch = Callable[[int, int], bytes]
"""The bytes of a range: [start, end)."""


def with_ranges(file: Any, most_ahead_bytes: int) -> Any:
    """A file that reads by ranges, if `file` is a remote one that can; else `file` itself.

    Args:
        file: from fsspec, open for reading.
        most_ahead_bytes: see `RangedFile`.
    """
    fetch = fetcher_of(file)
    return RangedFile(fetch, file.size, most_ahead_bytes) if fetch is not None else file


def fetcher_of(file: Any) -> Fetch | None:
    """fsspec's own request for a range of a file, below its cache; None if the file has no ranges."""
    if not isinstance(file, AbstractBufferedFile) or not file.size or isinstance(file.cache, MMapCache):
        return None
    request: Fetch = file.cache.fetcher

    def fetch(start: int, end: int) -> bytes:
        content = request(start, end)
        if len(content) < end - start:
            raise OSError(f"{file.path}: the store gave {len(content):,} of {end - start:,} bytes from {start:,}")
        return content[: end - start]

    return fetch


class RangedFile:
    """A file that fetches ranges: small ones after holes, growing ones while it is read on."""

    def __init__(self, fetch: Fetch, size: int, most_ahead_bytes: int) -> None:
        """Start at position 0, without a request.

        Args:
            fetch: requests a range.
            size: bytes of the file.
            most_ahead_bytes: size of the largest request, unless a single read is larger.
        """
        self.size = size
        self.requests = 0
        self._request = fetch
        self._most_ahead_bytes = most_ahead_bytes
        self._ahead_bytes = 0
        self._start, self._content = 0, b""
        """The last range, and its start."""
        self.position = 0
        self._last_end = 0
        """Where the last read ended."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes after the position that need no request."""
        return max(self._start + len(self._content) - self.position, 0)

    def seek(self, position: int) -> None:
        """Move to a position. It costs nothing."""
        self.position = position

    def read(self, size: int = -1) -> bytes:
        """The next bytes: fewer than `size` only at the end."""
        start, end = self.position, self.size if size < 0 else min(self.position + size, self.size)
        if start >= end:
            return b""
        known_end = self._start + len(self._content)
        content = b""
        if self._start <= start < known_end:
            content = self._content[start - self._start : end - self._start]
        if (missing := end - start - len(content)) > 0:
            self._fetch_ahead(end - missing, end)
            content += self._content[:missing]
        self.position = self._last_end = end
        return content

    def fetch(self, start: int, end: int) -> bytes:
        """The bytes of a range, without moving."""
        self.requests += 1
        return self._request(start, end)

    def _fetch_ahead(self, start: int, end: int) -> None:
        """Replace the last range by one from `start` to `end`, or further."""
        if not 0 <= start - self._last_end <= HOLE_BYTES:
            self._ahead_bytes = _AFTER_HOLE_BYTES
        else:
            self._ahead_bytes = min(2 * self._ahead_bytes or FIRST_BYTES, self._most_ahead_bytes)
        self._content = self.fetch(start, min(max(end, start + self._ahead_bytes), self.size))
        self._start = start


class SparseFile(io.RawIOBase):
    """A file with some of its ranges in memory. Others are fetched when they are read."""

    def __init__(self, size: int, first: bytes, fetch: Fetch | None = None) -> None:
        """Take the size of the file, its first bytes, and what requests a range; None if these are all bytes."""
        self._size = size
        self._fetch = fetch
        self._ranges = [(0, first)]
        self._position = 0

    def add_footer(self) -> None:
        """Fetch the end of the file."""
        self._add(max(self._size - _FOOTER_BYTES, 0), self._size)

    def add(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch ranges, those with a hole of at most `HOLE_BYTES` between them by one request."""
        joined: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if joined and start - joined[-1][1] <= HOLE_BYTES:
                joined[-1] = joined[-1][0], max(end, joined[-1][1])
            else:
                joined.append((start, end))
        for start, end in joined:
            self._add(start, end)

    def _add(self, start: int, end: int) -> None:
        """Fetch a range, without the parts at both ends already in memory."""
        for known_start, content in self._ranges:
            known_end = known_start + len(content)
            if known_start <= start < known_end:
                start = known_end
            if known_start < end <= known_end:
                end = known_start
        if start < end:
            self._request(start, end)

    def _request(self, start: int, end: int) -> None:
        assert self._fetch is not None
        self._ranges.append((start, self._fetch(start, end)))

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes: fewer than `size` only at the end."""
        end = self._size if size < 0 else min(self._position + size, self._size)
        parts: list[bytes] = []
        while self._position < end:
            part = self._here(end)
            if not part:
                self._request(self._position, end)
                part = self._here(end)
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def _here(self, end: int) -> bytes:
        """The bytes from the position to `end`, or to the end of one range."""
        for start, content in self._ranges:
            if start <= self._position < start + len(content):
                return content[self._position - start : end - start]
        return b""
