"""Lines of text tables: encoding, line ends, and a bound on length. Pure functions over blocks of bytes.

UTF-8 (with or without a byte order mark), UTF-16 and UTF-32 are read; a line ends with a line feed, a line feed after a
carriage return, or, in files of old Macs, a carriage return alone. Lines are given as UTF-8, with the byte offset that
they have in the file.

Guarantees: splitting from the offset of a line gives the same lines from there on. A line of more than `MAX_ROW_BYTES`
is reported without its content, so memory is bounded.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from laclip_ray.data.records import MAX_ROW_BYTES

BLOCK_BYTES = 1 << 20
"""Bytes read at a time."""

Line = tuple[int, bytes | None]
"""Byte offset in the file, and the line in UTF-8 without its end. None: the line is too long."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_MIN_ZERO_SHARE = 0.2
"""UTF-16: least share of zeros among the high bytes. Tables in any script have Latin delimiters, line ends, URLs."""
_MIN_ZERO_SHARE_OF_UTF8 = 0.9
"""The same, if the bytes are UTF-8 too: Latin text in UTF-16, or text with stray zeros."""


class TextForm(NamedTuple):
    """How a text file is written."""

    encoding: str
    """A codec: `utf-8`, or one of UTF-16 and UTF-32 with its byte order."""
    line_end: str
    """The last character of a line."""


def detect_form(head: bytes) -> TextForm:
    r"""Find the encoding and the line ends of a text file.

    Args:
        head: the first block of the file.

    >>> detect_form("a,b\r\n".encode("utf-16"))
    TextForm(encoding='utf-16-le', line_end='\n')
    """
    encoding = _detect_encoding(head)
    text = head if encoding == "utf-8" else _decode(head, encoding).encode("utf-8", "surrogatepass")
    return TextForm(encoding, _detect_line_end(text))


def _detect_encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if len(head) < 4 or 0 not in head:
        return "utf-8"
    zeros = [head[start::4].count(0) / len(head[start::4]) for start in range(4)]
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if min(zeros[2:]) > 0.9:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9:
        return "utf-32-be"
    least = _MIN_ZERO_SHARE_OF_UTF8 if _is_utf8(head) else _MIN_ZERO_SHARE
    if max(even, odd) > 2 * max(min(even, odd), least):
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _detect_line_end(text: bytes) -> str:
    first = re.search(rb"[\r\n]", text)
    if first is None or first[0] == b"\n" or text[first.end() : first.end() + 1] == b"\n":
        return "\n"
    # A stray carriage return may be part of a caption. In a Mac's file, line feeds are rare: parts of quoted fields.
    feeds = text.count(b"\n")
    returns = text.count(b"\r") - text.count(b"\r\n")
    return "\r" if returns > feeds else "\n"


def _decode(content: bytes, encoding: str) -> str:
    """Decode a block that may end within a character."""
    return codecs.getincrementaldecoder(encoding)(_error_handler(encoding)).decode(content)


def _error_handler(encoding: str) -> str:
    # Both keep the text's length in bytes, which the offsets of lines are computed from.
    return "surrogatepass" if encoding.startswith("utf-16") else "replace"


def split_lines(blocks: Iterable[bytes], form: TextForm, start: int = 0) -> Iterator[Line]:
    """Split the content of a file into lines. A byte order mark is left out.

    Args:
        blocks: the file's content from `start` on.
        form: from `detect_form`.
        start: byte offset of a line.
    """
    if form.encoding == "utf-8":
        lines = _split_utf8(blocks, form.line_end.encode(), start)
    else:
        lines = _split_wide(blocks, form, start)
    return lines if start else _without_mark(lines)


def _without_mark(lines: Iterator[Line]) -> Iterator[Line]:
    first = [(offset, line.removeprefix(codecs.BOM_UTF8) if line else line) for offset, line in islice(lines, 1)]
    return chain(first, lines)


def _split_utf8(blocks: Iterable[bytes], end: bytes, start: int) -> Iterator[Line]:
    offset = start
    rest = b""  # of a line that continues in the next block
    dropped_bytes = 0  # of that line, if it is too long
    for block in blocks:
        lines = (rest + block).split(end)
        rest = lines.pop()
        if lines and (dropped_bytes or len(lines[0]) > MAX_ROW_BYTES):
            yield offset, None
            offset += dropped_bytes + len(lines.pop(0)) + 1
            dropped_bytes = 0
        for line in lines:
            yield offset, line.rstrip(b"\r")
            offset += len(line) + 1
        if dropped_bytes or len(rest) > MAX_ROW_BYTES:
            dropped_bytes += len(rest)
            rest = b""
    if rest or dropped_bytes:
        yield offset, None if dropped_bytes else rest.rstrip(b"\r")


def _split_wide(blocks: Iterable[bytes], form: TextForm, start: int) -> Iterator[Line]:
    """Lines of UTF-16 and UTF-32: the text is split as UTF-8, and offsets are computed from the text of each line."""
    handler = _error_handler(form.encoding)
    decoder = codecs.getincrementaldecoder(form.encoding)(handler)
    end = form.line_end
    offset = start
    rest = ""
    dropped_bytes = 0

    def width(text: str) -> int:
        return len(text.encode(form.encoding, "surrogatepass"))

    def encoded(text: str) -> bytes:
        return text.rstrip("\r").encode("utf-8", "surrogatepass")

    for block in blocks:
        lines = (rest + decoder.decode(block)).split(end)
        rest = lines.pop()
        for line in lines:
            is_too_long = dropped_bytes > 0 or width(line) > MAX_ROW_BYTES
            yield offset, None if is_too_long else encoded(line)
            offset += dropped_bytes + width(line + end)
            dropped_bytes = 0
        if dropped_bytes or width(rest) > MAX_ROW_BYTES:
            dropped_bytes += width(rest)
            rest = ""
    if rest or dropped_bytes:
        yield offset, None if dropped_bytes else encoded(rest)
