"""Ranges follow what the reader does, give the file's bytes, and none of them twice to a sequential reader."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import ranged_file
from laclip_ray.data.ranged_file import FIRST_BYTES, HOLE_BYTES, RangedFile, SparseFile, with_ranges
from tests.unit.data import counted_files
from tests.unit.data.counted_files import CountedFileSystem, bytes_read, requests, store

MIB = 2**20
CONTENT = os.urandom(40_000)


def opened(content: bytes, most_ahead_bytes: int = 4 * MIB) -> RangedFile:
    store({"bucket/file": content})
    file = with_ranges(CountedFileSystem().open("counted://bucket/file"), most_ahead_bytes)
    assert isinstance(file, RangedFile)
    return file


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some KB are large enough for all rules."""
    monkeypatch.setattr(ranged_file, "FIRST_BYTES", 512)
    monkeypatch.setattr(ranged_file, "HOLE_BYTES", 1_000)
    monkeypatch.setattr(ranged_file, "_AFTER_HOLE_BYTES", 100)
    monkeypatch.setattr(ranged_file, "_FOOTER_BYTES", 300)


reads = st.lists(st.tuples(st.none() | st.integers(0, len(CONTENT) + 9), st.integers(0, 3_000)), max_size=12)


@pytest.mark.usefixtures("small_requests")
@given(moves=reads)
def test_any_sequence_of_reads_gives_the_bytes_of_the_file(moves: list[tuple[int | None, int]]) -> None:
    file, expected = opened(CONTENT, 2_000), io.BytesIO(CONTENT)
    for position, size in moves:
        if position is not None:
            file.seek(position)
            expected.seek(position)
        assert file.read(size) == expected.read(size)


@given(sizes=st.lists(st.integers(0, 3 * MIB), max_size=6))
def test_a_sequential_reader_gets_each_byte_once(sizes: list[int]) -> None:
    content = bytes(5 * MIB)
    file = opened(content)
    for size in sizes:
        file.read(size)
    assert len(file.read()) == max(len(content) - sum(sizes), 0)
    assert bytes_read() == len(content)


def test_requests_grow_while_a_file_is_read_on() -> None:
    file = opened(bytes(20 * MIB))
    while file.read(1_000):
        pass
    sizes = [request.size for request in requests()]
    assert sizes[:6] == [FIRST_BYTES, 2 * FIRST_BYTES, MIB, 2 * MIB, 4 * MIB, 4 * MIB]


def test_a_small_request_follows_a_hole_that_is_worth_one() -> None:
    file = opened(bytes(20 * MIB))
    for start in range(0, 20 * MIB, 2 * MIB):
        file.seek(start)
        file.read(700)
    assert [request.size for request in requests()] == [FIRST_BYTES] + [2**16] * 9


def test_smaller_holes_are_read_through() -> None:
    file = opened(bytes(60 * MIB))
    for start in range(0, 60 * MIB, HOLE_BYTES // 2):
        file.seek(start)
        file.read(700)
    assert len(requests()) < 20


def test_a_short_answer_is_an_error_of_the_store() -> None:
    file = opened(bytes(1_000))
    CountedFileSystem.files["bucket/file"] = bytes(900)
    with pytest.raises(OSError, match=r"bucket/file: the store gave 900 of 1,000 bytes from 0"):
        file.read(10)


def test_other_files_are_read_as_they_are() -> None:
    local = io.BytesIO(CONTENT)
    assert with_ranges(local, MIB) is local
    store({"bucket/empty": b""})
    empty = CountedFileSystem().open("counted://bucket/empty")
    assert with_ranges(empty, MIB) is empty


spans = st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 5_000)).map(
    lambda span: (span[0], min(span[0] + span[1], len(CONTENT)))
)


@pytest.mark.usefixtures("small_requests")
@given(first=st.integers(0, 3_000), has_footer=st.booleans(), added=st.lists(spans, max_size=5), moves=reads)
def test_a_sparse_file_gives_the_bytes_of_the_file(
    first: int, has_footer: bool, added: list[tuple[int, int]], moves: list[tuple[int | None, int]]
) -> None:
    file = SparseFile(len(CONTENT), CONTENT[:first], lambda start, end: CONTENT[start:end])
    expected = io.BytesIO(CONTENT)
    if has_footer:
        file.add_footer()
    file.add(added)
    for position, size in moves:
        if position is not None:
            assert file.seek(position) == expected.seek(position)
        assert file.read(size) == expected.read(size)
    assert file.seek(-5, io.SEEK_END) == len(CONTENT) - 5
    assert file.read() == CONTENT[-5:]


def test_a_sparse_file_joins_ranges_with_small_holes_and_fetches_no_part_twice() -> None:
    fetched: list[tuple[int, int]] = []
    size = 20 * MIB

    def fetch(start: int, end: int) -> bytes:
        fetched.append((start, end))
        return bytes(end - start)

    file = SparseFile(size, bytes(1_000), fetch)
    file.add_footer()
    file.add([(500, 2_000), (5_000, 6_000), (9 * MIB, 9 * MIB + 10), (size - 2 * MIB, size)])
    for start in (0, 5_500, 9 * MIB, size - 3):
        file.seek(start)
        file.read(3)
    footer = (size - MIB, size)
    assert fetched == [footer, (1_000, 6_000), (9 * MIB, 9 * MIB + 10), (size - 2 * MIB, size - MIB)]


def test_the_counting_store_reads_ahead_as_s3_does() -> None:
    counted_files.store({"bucket/file": bytes(60 * MIB)})
    CountedFileSystem().open("counted://bucket/file").read(1)
    assert bytes_read() == 50 * MIB + 1
