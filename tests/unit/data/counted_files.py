"""A remote store in memory that counts its requests and their bytes, and shards as img2dataset writes them there."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from tests.unit.conftest import tar_bytes


class Request(NamedTuple):
    """A request for a file, or for the bytes [start, end) of it."""

    path: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of the answer."""
        return self.end - self.start


class CountedFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that fetches ranges, behind fsspec's cache."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.get(self.path, start, end)
        return content


class CountedFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Like S3's file system: a file is opened by a request for its size, and reads 50 MiB ahead."""

    protocol = "counted"
    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[Request]] = []
    """Requests for content."""
    sizes: ClassVar[list[str]] = []
    """Requests for the size of a file."""

    def get(self, path: str, start: int, end: int) -> bytes:
        """One request for a range."""
        content = self.files[path][start:end]
        self.requests.append(Request(path, start, start + len(content)))
        return content

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        self.sizes.append(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.files[path]), "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        path = self._strip_protocol(path)
        if path not in self.files:
            self.requests.append(Request(path, 0, 0))
            raise FileNotFoundError(path)
        return self.get(path, start or 0, len(self.files[path]) if end is None else end)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> CountedFile:
        return CountedFile(self, path, mode, block_size=50 * 2**20)


fsspec.register_implementation("counted", CountedFileSystem, clobber=True)


def store(files: Mapping[str, bytes]) -> None:
    """Hold these files and no others, with all counts at zero."""
    CountedFileSystem.files = dict(files)
    CountedFileSystem.requests.clear()
    CountedFileSystem.sizes.clear()


def bytes_read() -> int:
    """Bytes of all files since `store`."""
    return sum(request.size for request in CountedFileSystem.requests)


def requests() -> list[Request]:
    """Requests for content since `store`."""
    return list(CountedFileSystem.requests)


@dataclass
class Shard:
    """A shard as img2dataset writes it: failed rows are only in the table."""

    rows: Sequence[Mapping[str, Any]]
    """Fields of each row: `key`, `status`, `caption` and others."""
    images: Mapping[str, bytes]
    """By key."""
    extension: str = "jpg"
    has_txt: bool = True
    column_types: Mapping[str, pa.DataType] = field(default_factory=dict)

    @property
    def samples(self) -> list[Mapping[str, Any]]:
        """The rows with an image."""
        return [row for row in self.rows if row["status"] == "success"]

    def tar(self) -> bytes:
        """The tar, with the members of a sample sorted by extension."""
        return tar_bytes(member for row in self.samples for member in self._members(row))

    def _members(self, row: Mapping[str, Any]) -> Iterable[tuple[str, bytes]]:
        members = {self.extension: self.images[row["key"]], "json": json.dumps(row, indent=4).encode()}
        if self.has_txt:
            members["txt"] = ("" if row["caption"] is None else row["caption"]).encode()
        return ((f"{row['key']}.{extension}", members[extension]) for extension in sorted(members))

    def table(self) -> bytes:
        """The Parquet file, in row groups of 100."""
        columns = {name: [row.get(name) for row in self.rows] for name in (self.rows[0] if self.rows else {})}
        arrays = {name: pa.array(values, self.column_types.get(name)) for name, values in columns.items()}
        buffer = io.BytesIO()
        pq.write_table(pa.table(arrays), buffer, row_group_size=100)
        return buffer.getvalue()

    def stats(self) -> bytes:
        """The counts."""
        return json.dumps({"count": len(self.rows), "successes": len(self.samples)}).encode()

    def files(self, name: str = "bucket/00000") -> dict[str, bytes]:
        """All three files."""
        return {f"{name}.tar": self.tar(), f"{name}.parquet": self.table(), f"{name}_stats.json": self.stats()}


def make_shard(count: int, image_bytes: int, failures: float = 0.1, seed: int = 0) -> Shard:
    """A shard of images of about this many random bytes each."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    images: dict[str, bytes] = {}
    for number in range(count):
        key = f"{number:09d}"
        has_failed = random.random() < failures
        rows.append(
            {
                "url": f"https://host-{number % 977}.example/{random.bytes(20).hex()}.jpg",
                "caption": f"a photo of thing {random.bytes(12).hex()} number {number}",
                "key": key,
                "status": "failed_to_download" if has_failed else "success",
                "error_message": "HTTP Error 404: Not Found" if has_failed else None,
                "width": None if has_failed else 256,
                "height": None if has_failed else 256,
                "original_width": None if has_failed else int(random.integers(256, 2_000)),
                "original_height": None if has_failed else int(random.integers(256, 2_000)),
                "exif": None if has_failed else "{}",
                "sha256": None if has_failed else random.bytes(32).hex(),
            }
        )
        if not has_failed:
            images[key] = random.bytes(int(random.integers(image_bytes // 2, image_bytes * 3 // 2)))
    return Shard(rows, images)
