"""Read the images that table rows hold or name. Remote files are fetched in parallel, ahead of their turn.

A table is text from anywhere, so what its rows may name is limited: URLs with an allowed scheme, hosts with a public
address, and local files below `data.image_root` (or the table's directory), links followed.

An image that cannot be read is a problem of its row, with a name that says why. The dataset's own store is different:
the host or bucket of the table or of `data.image_root`, or the local disk. If it refuses access or fails, its images
are not missing, and the whole shard fails with a `StoreError`.

Guarantees: at most `data.max_image_bytes` of an image are read, and ahead of their turn at most `_AHEAD_BYTES`.
"""

import errno
import os
import posixpath
import socket
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.http_images import (
    IMAGE_CONNECTION_FAILED,
    IMAGE_SCHEME_REFUSED,
    IMAGE_TIMEOUT,
    IMAGE_URL_INVALID,
    HttpError,
    HttpFetcher,
    HttpRules,
    TooLargeError,
    host_and_port,
)
from laclip_ray.data.hub_addresses import resolve_hub_address
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE
from laclip_ray.data.records import IMAGE_MISSING
from laclip_ray.redaction import redact

IMAGE_OUTSIDE_ROOT = "image_outside_root"
"""Problem: the image's path, with links followed, is not below `data.image_root` or the table's directory."""

IMAGE_REFUSED = "image_refused"
"""Problem: this process may not read the image's local file."""

_FETCH_THREADS = 16
"""Images fetched in parallel."""

_FETCH_AHEAD_ROWS = 32
"""Rows read ahead while an image is fetched."""

_AHEAD_BYTES = 8 * 2**20
"""Larger images are fetched in their turn, so the images that wait in memory have at most `_FETCH_AHEAD_ROWS` times
this."""

_HTTP = frozenset(("http", "https"))
_GONE = frozenset(("image_http_404", "image_http_410"))
_REFUSED_OR_FAILED = frozenset(
    ("image_http_401", "image_http_403", "image_http_407", IMAGE_TIMEOUT, IMAGE_CONNECTION_FAILED)
)
"""Answers of the dataset's own HTTP server that do not tell whether it has the image, besides transient ones."""

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: a named pipe does not make the reader wait."""
_NOT_A_FILE = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO)
)
"""Errors of a local path that names no file. ELOOP: a link to itself. ENXIO: a socket."""
_NOT_ALLOWED = frozenset((errno.EACCES, errno.EPERM))

Row = TypeVar("Row")


class StoreError(OSError):
    """The store of a dataset's images refused access or failed, so it is unknown which images it holds."""


class Place(NamedTuple):
    """The location of an image."""

    scheme: str
    """Empty for a local path."""
    url: str
    is_own: bool
    """Whether it is in the dataset's own store."""


def image_value(fields: Mapping[str, Any], column: str | None) -> object:
    """The image's bytes, or the path or URL of its file; None if the row has neither.

    Args:
        fields: a row's values by column name.
        column: `data.image_column`.
    """
    value = fields.get(column) if column else None
    if isinstance(value, Mapping):  # Hugging Face's image feature: {"bytes": ..., "path": ...}
        value = value.get("bytes") or value.get("path")
    return value


class ImageSource:
    """Reads the images of one table's rows. Threads may share it."""

    def __init__(self, table_url: str, data: DataConfig) -> None:
        """Make a source for the table at `table_url`."""
        self._root = resolve_hub_address(data.image_root or posixpath.dirname(table_url))
        self._max_bytes = data.max_image_bytes
        self._own = frozenset(map(_store_of, (table_url, self._root)))
        self._schemes = frozenset((*map(str.lower, data.image_schemes), *(scheme for scheme, _ in self._own)))
        known_hosts = frozenset(host_and_port(url) for url in (table_url, self._root) if _store_of(url)[0] in _HTTP)
        self._http = HttpFetcher(HttpRules(self._schemes, data.private_hosts, known_hosts))
        self._files = _LocalFiles(self._root) if storage.is_local(self._root) else None

    def locate(self, value: object) -> Place | bytes | str:
        """The place of a row's image, or the image itself, or the problem that forbids reading it.

        Args:
            value: the row's image value (`image_value`).
        """
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            return IMAGE_MISSING
        scheme, mark, rest = value.partition("://")
        if not mark:
            return self._locate_below_root(value)
        scheme = scheme.lower()
        if scheme not in self._schemes:
            return IMAGE_SCHEME_REFUSED
        if scheme == "file":
            return self._locate_below_root(rest)
        if _is_chain(value, scheme):
            return IMAGE_URL_INVALID
        return Place(scheme, value, _store_of(value) in self._own)

    def _locate_below_root(self, path: str) -> Place | str:
        if self._files is not None:
            return Place("", path, True)
        if posixpath.isabs(path) or posixpath.normpath(path).split("/")[0] == "..":
            return IMAGE_OUTSIDE_ROOT
        scheme = _store_of(self._root)[0]
        return IMAGE_URL_INVALID if _is_chain(path, scheme) else Place(scheme, storage.join(self._root, path), True)

    def read(self, place: Place) -> bytes | str:
        """The encoded image at a place, or its problem.

        Raises:
            StoreError: the dataset's own store refused access, or failed.
        """
        try:
            return self._read(place, self._max_bytes)
        except TooLargeError:
            return IMAGE_TOO_LARGE

    def read_ahead(self, place: Place) -> bytes | str | None:
        """As `read`, but None for an image too large to wait in memory."""
        try:
            return self._read(place, min(self._max_bytes, _AHEAD_BYTES))
        except TooLargeError as error:
            return IMAGE_TOO_LARGE if (error.declared_bytes or 0) > self._max_bytes else None

    def close(self) -> None:
        """Cancel the running requests of other threads."""
        self._http.close()

    def _read(self, place: Place, most_bytes: int) -> bytes | str:
        if not place.scheme:
            assert self._files is not None
            return self._files.read(place.url, most_bytes)
        try:
            if place.scheme in _HTTP:
                return self._http.fetch(place.url, most_bytes, is_patient=place.is_own)
            return _read_object(place.url, most_bytes)
        except TooLargeError:
            raise
        except HttpError as error:
            return _http_problem(place, error)
        except Exception as error:  # noqa: BLE001 - each file system has its own errors
            return _object_problem(place, error)


def _store_of(url: str) -> tuple[str, str]:
    """Scheme and host or bucket of a URL, in lower case; `file` and an empty text for a local path."""
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() == "file":
        return "file", ""
    return scheme.lower(), rest.partition("/")[0].rpartition("@")[2].lower()


def _is_chain(text: str, scheme: str) -> bool:
    """Whether fsspec would read the text as a chain of file systems, which could lead anywhere."""
    return "::" in text and scheme not in _HTTP


def _read_object(url: str, most_bytes: int) -> bytes:
    """The content of a file on any fsspec file system, in one request."""
    fs, path = storage.filesystem(url)
    try:
        content: bytes = fs.cat_file(path, start=0, end=most_bytes + 1)
    except OSError as error:
        is_certain = isinstance(error, FileNotFoundError | PermissionError | TimeoutError | ConnectionError)
        if not is_certain and error.errno in (None, errno.EINVAL) and _is_empty(fs, path):
            return b""  # object stores refuse a range of an empty object
        raise
    if len(content) > most_bytes:
        raise TooLargeError(None)
    return content


def _is_empty(fs: Any, path: str) -> bool:
    try:
        return not fs.info(path)["size"]
    except Exception:  # noqa: BLE001 - the first error tells more
        return False


def _http_problem(place: Place, error: HttpError) -> str:
    if not place.is_own:
        return error.reason
    if error.reason in _GONE:
        return IMAGE_MISSING
    if error.is_transient or error.reason in _REFUSED_OR_FAILED:
        raise _store_error(place, error) from error
    return error.reason


def _object_problem(place: Place, error: Exception) -> str:
    is_missing = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    if not place.is_own:
        # Named as the answers of an HTTP server: these stores are such servers.
        is_timeout, is_refused = isinstance(error, TimeoutError), isinstance(error, PermissionError)
        reasons = ((is_missing, "image_http_404"), (is_refused, "image_http_403"), (is_timeout, IMAGE_TIMEOUT))
        return next((reason for applies, reason in reasons if applies), IMAGE_CONNECTION_FAILED)
    answer = getattr(error.__cause__, "response", None) or {}  # botocore's, below s3fs's error
    if is_missing and answer.get("Error", {}).get("Code") != "NoSuchBucket":
        return IMAGE_MISSING
    raise _store_error(place, error) from error


def _store_error(place: Place, error: Exception) -> StoreError:
    cause = error.reason if isinstance(error, HttpError) else " ".join(f"{type(error).__name__}: {error}".split())
    what = redact(f"{place.url} could not be read ({cause})")
    return StoreError(f"data.image_column: {what}. Check the store and the credentials for it")


class _LocalFiles:
    """Reads files below a directory."""

    def __init__(self, root_url: str) -> None:
        self._root = os.path.realpath(Path(root_url.removeprefix("file://")).expanduser())
        self._prefix = self._root.rstrip("/") + "/"
        self._real_directories: dict[str, str] = {}

    def read(self, path: str, most_bytes: int) -> bytes | str:
        """The content of a file, or its problem.

        Args:
            path: absolute, or relative to the root.
            most_bytes: the largest file.
        """
        try:
            descriptor = self._open(posixpath.join(self._root, path))
            if descriptor is None:
                return IMAGE_OUTSIDE_ROOT
            try:
                return _content_of(descriptor, most_bytes)
            finally:
                os.close(descriptor)
        except ValueError:  # a zero byte, or a lone surrogate
            return IMAGE_MISSING
        except OSError as error:
            return self._problem(path, error)

    def _open(self, path: str) -> int | None:
        """Open a file; None if it is not below the root. Each directory is resolved only once."""
        if self._prefix == "/":
            return os.open(path, _OPEN_FLAGS)
        directory, name = os.path.split(path)
        real = self._real_directories.get(directory)
        if real is None:
            real = self._real_directories[directory] = os.path.realpath(directory)
        if not f"{real}/".startswith(self._prefix):
            return None
        try:
            return os.open(f"{real}/{name}", _OPEN_FLAGS | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        target = os.path.realpath(f"{real}/{name}")
        return os.open(target, _OPEN_FLAGS | os.O_NOFOLLOW) if target.startswith(self._prefix) else None

    def _problem(self, path: str, error: OSError) -> str:
        if error.errno in _NOT_ALLOWED:
            return IMAGE_REFUSED
        if error.errno not in _NOT_A_FILE:
            raise _store_error(Place("", path, True), error) from error
        if not Path(self._root).is_dir():
            raise StoreError(f"data.image_root: {self._root} does not exist on {socket.gethostname()}") from error
        return IMAGE_MISSING


def _content_of(descriptor: int, most_bytes: int) -> bytes | str:
    """The content of an open file, or its problem."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return IMAGE_MISSING
    if status.st_size > most_bytes:
        raise TooLargeError(status.st_size)
    content = os.read(descriptor, status.st_size)
    while more := os.read(descriptor, status.st_size - len(content)):
        content += more
    return content


def images_in_order(
    rows: Iterable[Row], value_of: Callable[[Row], object], source: ImageSource
) -> Iterator[tuple[Row, bytes | str]]:
    """Yield (row, encoded image or problem) of each row, in order. Fetches remote images in parallel.

    Args:
        rows: rows of a table. They are read at most `_FETCH_AHEAD_ROWS` ahead.
        value_of: the image value of a row (`image_value`).
        source: reads the image of a value.

    Raises:
        StoreError: the dataset's own store refused access, or failed.
    """
    pool = ThreadPoolExecutor(_FETCH_THREADS, "images")
    pending: deque[tuple[Row, Callable[[], bytes | str]]] = deque()
    try:
        for row in rows:
            pending.append((row, _reader(source.locate(value_of(row)), source, pool)))
            if len(pending) > _FETCH_AHEAD_ROWS:
                first, read = pending.popleft()
                yield first, read()
        while pending:
            first, read = pending.popleft()
            yield first, read()
    finally:
        source.close()
        pool.shutdown(wait=False, cancel_futures=True)


def _reader(place: Place | bytes | str, source: ImageSource, pool: ThreadPoolExecutor) -> Callable[[], bytes | str]:
    """The function that gives the image at a place in its turn."""
    if not isinstance(place, Place):
        return lambda: place
    if not place.scheme:
        return partial(source.read, place)
    ahead = pool.submit(source.read_ahead, place)

    def read() -> bytes | str:
        content = ahead.result()
        return source.read(place) if content is None else content

    return read
