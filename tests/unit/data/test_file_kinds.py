"""A file's first bytes are named in words."""

import bz2
import gzip
import io
import lzma

import pyarrow as pa
import pytest

from laclip_ray.data.file_kinds import describe_start
from tests.unit.conftest import picture, tar_bytes


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"", "an empty file"),
        (bytes(512), "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"\xef\xbb\xbf\n <!doctype HTML>", "an HTML page"),
        (b"<html lang=en>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML document"),
        (b"PAR1\x15", "a Parquet file"),
        (gzip.compress(b"x", mtime=0), "a gzip file"),
        (bz2.compress(b"x"), "a bzip2 file"),
        (lzma.compress(b"x"), "an xz file"),
        (zstd(b"x"), "a zstd file"),
        (picture("JPEG"), "a JPEG image"),
        (picture("PNG"), "a PNG image"),
        (tar_bytes([("a", b"x")])[:512], "a tar"),
        (b'{"a": 1}', "JSON that begins with"),
        (b"a,b\n1,2\n", "text that begins with"),
        (b"\x00\x1b[2J", "bytes that begin with"),
    ],
)
def test_a_kind_is_recognised(first: bytes, words: str) -> None:
    assert describe_start(first).startswith(words)


def test_bytes_are_shown_without_control_characters() -> None:
    assert describe_start(b"\x1b[2Jtext\n").isprintable()


def test_a_parquet_file_is_recognised() -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), buffer)
    assert describe_start(buffer.getvalue()) == "a Parquet file"
