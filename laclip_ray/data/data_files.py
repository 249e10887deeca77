"""The files of a listing, in some 80 bytes each."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.data.packed_rows import PackedSequence, Row

Info = Mapping[str, Any]
"""fsspec's entry of a file, or a part of it."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a dataset."""

    url: str
    root: str
    """The directory that the name starts from, as a path of the file system."""
    name: str
    """Path below the root."""
    info: Info
    """Size, and what tells a change. Files of a `FileTable` have no more."""
    is_named: bool = False
    """Whether a path names the file itself, not a directory or a glob."""


def identity_of_file(file: DataFile) -> str:
    """The identity of a file, from its listing if that tells it."""
    return storage.known_identity(file.info) or storage.identity(file.url)


@dataclass(frozen=True)
class _Place:
    """What files of a directory share."""

    start: str
    """Of the URL."""
    root: str
    is_named: bool
    has_name: bool
    """Whether the URL ends with the name; else `start` is the URL."""

    @classmethod
    def of(cls, file: DataFile) -> "_Place":
        has_name = file.url.endswith(file.name)
        return cls(file.url.removesuffix(file.name) if has_name else file.url, file.root, file.is_named, has_name)

    def file(self, name: str, size: int | None, change: str) -> DataFile:
        url = self.start + name if self.has_name else self.start
        return DataFile(url, self.root, name, {"size": size, "etag": change}, self.is_named)


_SCHEMA = pa.schema([("name", pa.binary()), ("size", pa.int64()), ("change", pa.string()), ("place", pa.int32())])


class FileTable(PackedSequence[DataFile]):
    """Files as columns. Reading one makes a `DataFile`."""

    def __init__(self, files: Iterable[DataFile] = (), is_distinct: bool = False) -> None:
        """Take the files, in order.

        Args:
            files: their entries are reduced to size and identity.
            is_distinct: whether no file occurs twice.
        """
        super().__init__(_SCHEMA)
        self.is_distinct = is_distinct
        self._places: list[_Place] = []
        self._numbers: dict[_Place, int] = {}
        for file in files:
            self.append(file)

    def append(self, file: DataFile) -> None:
        """Add a file at the end."""
        place = _Place.of(file)
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = len(self._places)
            self._places.append(place)
        change = storage.identity_of(file.info).partition("-")[2]
        self._rows.append((file.name, file.info.get("size"), change, number))

    @property
    def is_of_one_directory(self) -> bool:
        """Whether all URLs are one start and the file's name. Then different files have different names."""
        return len(self._places) == 1 and self.is_distinct

    def drained_by_name(self) -> Iterator[DataFile]:
        """The files sorted by name, without the ones already in this order."""
        order = self._rows.order_by("name")
        return self.drained() if order is None else map(self._of_row, self._rows.taken(order.tolist()))

    def _of_row(self, row: Row) -> DataFile:
        name, size, change, number = row
        place: _Place = self._places[number]
        return place.file(name, size, change)
