"""Members of tars are read as `tarfile` reads them, and what a header claims costs nothing."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import tars
from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.tars import HeaderError, NotATarError, TarReader
from tests.cases import case
from tests.unit.data.tar_files import (
    END,
    gnu_sparse,
    hard_link,
    header,
    member,
    pax_sparse,
    symbolic_link,
    with_format,
)

SECTION = "Reading data"
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda content: pa.compress(content, "zstd", asbytes=True),
}
compressions = pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())


def contents(tar: bytes) -> list[tuple[str, bytes]]:
    reader = TarReader(io.BytesIO(tar))
    return [(found.name, reader.read(found)) for found in reader]


def until_damage(tar: bytes) -> tuple[list[tuple[str, int]], DamagedError]:
    """The names and sizes before the damage, which there must be."""
    found: list[tuple[str, int]] = []
    with pytest.raises(DamagedError) as caught:
        found.extend((entry.name, entry.size) for entry in TarReader(io.BytesIO(tar)))
    return found, caught.value


names = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=150).filter(
    lambda name: name not in (".", "..")
)


@given(
    members=st.dictionaries(names, st.binary(max_size=1_200), max_size=5),
    tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    mtime=st.sampled_from([0.0, 1.5]),
)
def test_members_are_those_that_tarfile_reads(members: dict[str, bytes], tar_format: int, mtime: float) -> None:
    tar = with_format(members, tar_format, mtime)
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        expected = [(info.name, opened.extractfile(info).read()) for info in opened]  # type: ignore[union-attr]
    assert contents(tar) == expected == list(members.items())


def test_prefixes_directories_and_other_kinds_are_read_as_tarfile_reads_them() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind in (("d/" * 60 + "x.txt", b"0"), ("d", b"5"), ("old/", b"\0"), ("old", b"\0"), ("c", b"7")):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("/absolute"))
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as opened:
        expected = [info.name for info in opened if info.isfile()]
    assert [name for name, _ in contents(buffer.getvalue())] == expected


@compressions
def test_a_compressed_tar_has_the_same_members(compress: Callable[[bytes], bytes]) -> None:
    tar = b"".join(member(f"{number}.txt", b"x" * number) for number in range(0, 2_000, 100)) + END
    assert contents(compress(tar)) == contents(tar)


@compressions
@case(SECTION, "hard links in a tar", "each has the content of its target")
def test_hard_links_have_the_content_of_an_earlier_member(compress: Callable[[bytes], bytes]) -> None:
    tar = (
        member("1.jpg", b"one") + hard_link("2.jpg", "1.jpg") + member("3.jpg", b"three") + hard_link("4.jpg", "2.jpg")
    )
    assert [content for _, content in contents(compress(tar + END))] == [b"one", b"one", b"three", b"one"]


@compressions
@case(SECTION, "symbolic links in a tar, also to later members", "each has the content of its target")
def test_symbolic_links_are_relative_to_their_directory(compress: Callable[[bytes], bytes]) -> None:
    tar = symbolic_link("./a/1.jpg", "../b/1.jpg") + member("./b/1.jpg", b"one") + symbolic_link("./b/2.jpg", "1.jpg")
    assert [content for _, content in contents(compress(tar + END))] == [b"one", b"one", b"one"]


@pytest.mark.parametrize("target", ["none.jpg", "1.jpg", "../1.jpg", "d", ""])
@case(SECTION, "a link in a tar to no member, to itself, or to a directory", "the member has no content")
def test_a_link_to_nothing_has_no_content(target: str) -> None:
    tar = header("d", 0, tarfile.DIRTYPE) + symbolic_link("1.jpg", target) + member("2.jpg", b"two") + END
    reader = TarReader(io.BytesIO(tar))
    assert [(found.name, found.size, reader.read(found)) for found in reader] == [
        ("1.jpg", -1, b""),
        ("2.jpg", 3, b"two"),
    ]


@pytest.mark.parametrize("make", [gnu_sparse, pax_sparse])
@case(SECTION, "a sparse member in a tar", "its holes are zeros")
def test_sparse_members_are_read_with_their_holes(make: Callable[..., bytes]) -> None:
    sparse = make("s.bin", {0: b"begin", 5_000: b"end"}, 9_000)
    expected = b"begin".ljust(5_000, b"\0") + b"end".ljust(4_000, b"\0")
    tar = member("a", b"a") + sparse + member("b", b"b") + END
    assert contents(tar) == [("a", b"a"), ("s.bin", expected), ("b", b"b")]


@pytest.mark.parametrize("make", [gnu_sparse, pax_sparse])
def test_a_sparse_member_claims_its_whole_size(make: Callable[..., bytes]) -> None:
    (found,) = TarReader(io.BytesIO(make("s.bin", {0: b"begin"}, 2**32) + END))
    assert found.size == 2**32


@compressions
@case(SECTION, "tars that follow one another in a file", "all are read")
def test_joined_tars_are_read_to_the_last(compress: Callable[[bytes], bytes]) -> None:
    first, second = member("1.txt", b"one") + END, member("2.txt", b"two") + END
    padded = first + bytes(10_240 - len(first))
    for tar in (first + second, padded + second, padded + END[:512] + second):
        assert [name for name, _ in contents(compress(tar))][-1] == "2.txt"
    with pytest.raises(HeaderError):
        contents(compress(first + second[:-1_024]))


@given(cut=st.integers(1, 512 * 4))
def test_a_cut_is_noticed_wherever_it_is(cut: int) -> None:
    tar = member("1.txt", b"one") + member("2.txt", b"two")
    with pytest.raises(DamagedError):
        contents((tar + END)[:cut])
    assert len(contents(tar + END[:512])) == 2


@pytest.mark.parametrize("size", [2**33, 2**40, 2**50])
@case(
    SECTION,
    "a tar header that claims 1 TiB",
    "no memory is allocated; the shard ends there",
    counted_as="member_too_large",
)
def test_a_claimed_size_costs_no_memory(size: int) -> None:
    tar = member("1.txt", b"one") + header("2.jpg", size) + b"x" * 2_048
    tracemalloc.start()
    try:
        found, _ = until_damage(tar)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [("1.txt", 3), ("2.jpg", size)]
    assert peak_bytes < 2**20


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@case(SECTION, "an extended tar header of 1 TiB", "the shard ends there", counted_as="shard_truncated")
def test_an_extended_header_of_any_size_costs_no_memory(kind: bytes) -> None:
    found, error = until_damage(member("1.txt", b"one") + header("2", 2**40, kind) + member("2.txt", b"two") + END)
    assert found == [("1.txt", 3)]
    assert "an extended header of 1,099,511,627,776 bytes" in str(error)


def test_a_chain_of_extended_headers_is_read_to_its_end() -> None:
    chain = (header("x", 14, b"x") + b"14 comment=ab\n".ljust(512, b"\0")) * 3_000
    assert contents(chain + member("1.txt", b"one") + END) == [("1.txt", b"one")]


@pytest.mark.parametrize(
    "record", [b"9999 path=x\n", b"path=x\n", b"0 path=x\n", b"-5 path=x\n", b"\xff\xff", b"2 path=x\n"]
)
def test_a_damaged_extended_header_is_damage(record: bytes) -> None:
    tar = header("x", len(record), b"x") + record.ljust(512, b"\0") + member("1.txt", b"one") + END
    with pytest.raises(HeaderError):
        contents(tar)


@case(
    SECTION,
    "a tar that was downloaded into a file of its final size",
    "the rest is reported",
    counted_as="shard_truncated",
)
def test_many_zero_bytes_are_no_end() -> None:
    assert contents(member("1.txt", b"one") + bytes(2**20)) == [("1.txt", b"one")]
    with pytest.raises(HeaderError, match="zero bytes"):
        contents(member("1.txt", b"one") + bytes(2**21))


def test_other_bytes_after_the_end_are_damage() -> None:
    with pytest.raises(HeaderError):
        contents(member("1.txt", b"one") + END + b"garbage" * 100)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page"),
        (b"PAR1" + bytes(600), "a Parquet file"),
        (gzip.compress(b"<html></html>", mtime=0), "a gzip file of an HTML page"),
        (gzip.compress(b"x" * 600, mtime=0)[:11], "a gzip file that cannot be decompressed"),
        (b"\x1f\x8bnot gzip at all", "a gzip file that cannot be decompressed"),
    ],
)
def test_a_file_of_another_kind_is_no_tar(content: bytes, words: str) -> None:
    with pytest.raises(NotATarError, match=f"not a tar, but {words}"):
        contents(content)


@pytest.mark.parametrize("block", [b"\xff" * 512, b"0" * 512, bytes(148) + b"1" * 8 + bytes(356)])
def test_a_block_with_a_wrong_sum_is_no_header(block: bytes) -> None:
    with pytest.raises(NotATarError):
        contents(block + END)


def test_a_sum_of_signed_bytes_is_accepted() -> None:
    block = bytearray(header("\xfc.txt", 0))
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % signed
    assert contents(bytes(block) + END) == [("\xfc.txt", b"")]


@given(position=st.integers(0, 511), byte=st.integers(0, 255))
def test_a_damaged_header_raises_nothing_but_damage(position: int, byte: int) -> None:
    damaged = bytearray(gnu_sparse("s", {0: b"x"}, 100) + member("b", b"b") + END)
    damaged[position] = byte
    damaged[148:156] = b"%06o\0 " % (sum(damaged[:148]) + 256 + sum(damaged[156:512]))
    with contextlib.suppress(DamagedError):
        contents(bytes(damaged))


def test_numbers_of_all_forms_are_read() -> None:
    assert tars._number(b"0000644\0") == tars._number(b"    644 ") == 0o644
    assert tars._number(b"\x80" + (2**40).to_bytes(11, "big")) == 2**40
    assert tars._number(b"\xff" * 12) == -1
    assert tars._number(bytes(12)) == 0


def test_the_first_header_is_found_in_any_part_of_a_tar() -> None:
    tar = member("a.jpg", os.urandom(5_000)) + member("a.txt", b"one") + END
    assert tars.first_header(tar) == 0
    assert tars.first_header(tar[512:]) == 5_120
    assert tars.first_header(tar[7_000 // 512 * 512 :]) is None
