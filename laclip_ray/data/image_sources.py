"""Read the images that table rows hold or name. Remote files are fetched in parallel, ahead of their turn."""

import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import IMAGE_MISSING

_FETCH_THREADS = 16
"""Images fetched in parallel."""

_FETCH_AHEAD_ROWS = 32
"""Rows read ahead while an image is fetched."""

Row = TypeVar("Row")


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
    """Reads the images of one table's rows."""

    def __init__(self, table_url: str, data: DataConfig) -> None:
        """Make a source for the table at `table_url`."""
        self._root = data.image_root or posixpath.dirname(table_url)

    def is_remote(self, value: object) -> bool:
        """Whether an image value (`image_value`) names a file that is not on a local file system."""
        return isinstance(value, str) and not storage.is_local(self._url(value))

    def read(self, value: object) -> bytes | str:
        """The encoded image of an image value (`image_value`), or the problem: a name that begins with `image_`."""
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            return IMAGE_MISSING
        try:
            return storage.read_bytes(self._url(value))
        except (OSError, ValueError):  # ValueError: not a valid path or URL
            return IMAGE_MISSING

    def _url(self, path: str) -> str:
        if "://" in path or posixpath.isabs(path):
            return path
        return storage.join(self._root, path)


def images_in_order(
    rows: Iterable[Row], value_of: Callable[[Row], object], source: ImageSource
) -> Iterator[tuple[Row, bytes | str]]:
    """Yield (row, encoded image or problem) of each row, in order. Fetches remote images in parallel.

    Args:
        rows: rows of a table. They are read at most `_FETCH_AHEAD_ROWS` ahead.
        value_of: the image value of a row (`image_value`).
        source: reads the image of a value.

    Raises:
        OSError: the data set's own store failed.
    """
    pool = ThreadPoolExecutor(_FETCH_THREADS, "images")
    pending: deque[tuple[Row, Callable[[], bytes | str]]] = deque()
    try:
        for row in rows:
            value = value_of(row)
            if source.is_remote(value):
                pending.append((row, pool.submit(source.read, value).result))
            else:
                pending.append((row, partial(source.read, value)))
            if len(pending) > _FETCH_AHEAD_ROWS:
                first, read = pending.popleft()
                yield first, read()
        while pending:
            first, read = pending.popleft()
            yield first, read()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
