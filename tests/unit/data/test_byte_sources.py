"""Compressed files are read by position, and neither a claim nor a bomb takes memory or time without end."""

import bz2
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import byte_sources
from laclip_ray.data.byte_sources import DamagedError, PlainSource, decompressed
from tests.cases import case

COMPRESSIONS: list[Callable[[bytes], bytes]] = [
    gzip.compress,
    bz2.compress,
    lzma.compress,
    lambda content: bytes(pa.compress(content, "zstd", asbytes=True)),
]
CONTENT = bytes(range(256)) * 40


def read_all(file: io.BytesIO, first: bytes) -> None:
    source = decompressed(file, first)
    assert source is not None
    while source.read(1_000):
        pass


@given(
    compress=st.sampled_from(COMPRESSIONS),
    moves=st.lists(st.tuples(st.integers(0, len(CONTENT) + 9), st.integers(0, 700)), max_size=8),
)
def test_any_position_of_a_compressed_file_can_be_read(
    compress: Callable[[bytes], bytes], moves: list[tuple[int, int]]
) -> None:
    packed = compress(CONTENT)
    source = decompressed(io.BytesIO(packed), packed[:8])
    assert source is not None
    for position, size in moves:
        source.seek(position)
        assert source.read(size) == CONTENT[position : position + size]


def test_an_uncompressed_file_is_not_decompressed() -> None:
    assert decompressed(io.BytesIO(CONTENT), CONTENT[:8]) is None


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_cut_or_changed_compressed_file_is_damage(compress: Callable[[bytes], bytes]) -> None:
    packed = bytearray(compress(bytes(range(256)) * 4_000))
    for damaged in (packed[: len(packed) // 2], packed[:8] + b"x" * 400):
        with pytest.raises(DamagedError):
            read_all(io.BytesIO(damaged), bytes(packed[:8]))


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_an_error_of_the_store_stays_one(compress: Callable[[bytes], bytes]) -> None:
    class Refused(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise PermissionError("403")
            return super().read(min(size or 0, 40) if size and size > 0 else 40)

    packed = compress(CONTENT * 20)
    with pytest.raises(PermissionError, match="403"):
        read_all(Refused(packed), packed[:8])


@pytest.mark.parametrize("compress", COMPRESSIONS)
@case("Reading data", "a compression bomb named .tar", "reading gives it up", counted_as="shard_truncated")
def test_a_bomb_is_given_up(compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_sources, "_FREE_BYTES", 2**20)
    packed = compress(bytes(2**25))
    source = decompressed(io.BytesIO(packed), packed[:8])
    assert source is not None
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="expands to more than 250 times"):
            source.seek(2**40)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**24  # xz has a window of 8 MiB


def test_a_read_beyond_the_end_takes_the_memory_of_what_is_there() -> None:
    source = PlainSource(io.BytesIO(CONTENT))
    tracemalloc.start()
    try:
        assert source.read(2**40) == CONTENT
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**22


def test_a_stream_without_positions_is_read_forwards() -> None:
    class Stream(io.BytesIO):
        def seek(self, position: int, whence: int = 0) -> int:
            raise ValueError("Cannot seek streaming HTTP file")

    source = PlainSource(Stream(CONTENT))
    source.seek(1_000)
    assert source.read(5) == CONTENT[1_000:1_005]
    with pytest.raises(ValueError, match="Cannot seek"):
        source.seek(0)
