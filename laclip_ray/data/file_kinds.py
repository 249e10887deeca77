"""The kind of a file by its first bytes, in words for messages."""

_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer; `git lfs pull` fetches the file"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
)

_SHOWN_BYTES = 24


def describe_start(first: bytes) -> str:
    r"""Name the kind of a file.

    Args:
        first: the file's first bytes; 512 are enough. Empty: the file is empty.

    >>> describe_start(b"<!DOCTYPE html><html>")
    'an HTML page'
    >>> describe_start(b"\x00\x01binary")
    "bytes that begin with b'\\x00\\x01binary'"
    """
    if not first:
        return "an empty file"
    if not first.strip(b"\x00"):
        return "zero bytes"
    for mark, words in _MARKS:
        if first.startswith(mark):
            return words
    if first[257:262] == b"ustar":
        return "a tar"
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:14].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith(b"<?xml") or text.startswith(b"<Error>"):
        return "an XML document, perhaps an error message of the store"
    shown = first[:_SHOWN_BYTES]
    if text.startswith((b"{", b"[")):
        return f"JSON that begins with {shown!r}"
    if all(byte >= 0x20 or byte in b"\t\r\n" for byte in first):
        return f"text that begins with {shown!r}"
    return f"bytes that begin with {shown!r}"
