"""Figures of the bytes and requests that captions of a remote tar take, from a store in memory that counts them.

The store behaves as S3's file system: a file is opened by a request for its size, and a plain reader fetches 50 MiB
ahead. The tars are as img2dataset writes them, about 172 MB each: 8,660 images of 17 KB, and 90 images of 2 MB.
"""

from collections.abc import Iterator
from dataclasses import replace

from laclip_ray.config import DataConfig
from laclip_ray.data import captions_beside
from laclip_ray.data.records import Sample, Shard
from laclip_ray.data.shards import read_samples
from tests.figures.figure import Figure
from tests.unit.data.counted_files import CountedFileSystem, bytes_read, make_shard, requests, store

_DATA = DataConfig(path="counted://bucket")
_TAR = "bucket/00000.tar"


def captions_of_a_tar(show: int) -> Iterator[Figure]:
    """Bytes and requests for the captions of a tar, by each way of reading, and rows that differ from the tar's own."""
    files = make_shard(count=8_660, image_bytes=17_000, failures=0.0).files()
    yield Figure(show, "tar of images of 17 KB", len(files[_TAR]) / 1e6, "MB", at_least=170)
    yield from _measure(show, "img2dataset's table", files, most_bytes=0.10)
    yield Figure(show, "tables refused", captions_beside.tables_refused.counts.total(), "tables", 0, 0)
    yield from _measure(show, "images of 17 KB, no table", {_TAR: files[_TAR]})
    large = make_shard(count=90, image_bytes=2_000_000, failures=0.0).tar()
    yield Figure(show, "tar of images of 2 MB", len(large) / 1e6, "MB", at_least=150)
    yield from _measure(show, "images of 2 MB, no table", {_TAR: large}, most_bytes=0.10)


def _measure(show: int, name: str, files: dict[str, bytes], most_bytes: float | None = None) -> Iterator[Figure]:
    size = len(files[_TAR])
    store(files)
    samples = _read(with_images=False)
    yield Figure(show, f"{name}: bytes read for captions over the tar's size", bytes_read() / size, "", most_bytes)
    yield Figure(show, f"{name}: requests for captions", len(requests()) + len(CountedFileSystem.sizes), "requests")
    store({_TAR: files[_TAR]})
    expected = _read(with_images=True)
    yield Figure(show, f"{name}: bytes read with images over the tar's size", bytes_read() / size, "", 1.0, 1.0)
    yield Figure(show, f"{name}: requests with images", len(requests()) + len(CountedFileSystem.sizes), "requests")
    pairs = zip(samples, expected, strict=True)
    differ = sum(sample != replace(other, image=None) for sample, other in pairs)
    yield Figure(show, f"{name}: rows that differ from those read with images", differ, "rows", 0, 0)


def _read(with_images: bool) -> list[Sample]:
    return list(read_samples(Shard("00000.tar", f"counted://{_TAR}", "webdataset"), _DATA, with_images))
