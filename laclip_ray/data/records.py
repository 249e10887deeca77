"""Shards and samples, what can be wrong with a sample, and how captions and ids are cleaned."""

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from laclip_ray.config import Format

CAPTION_MISSING = "caption_missing"
"""Problem: the row has no caption, or its caption is not text."""

CAPTION_EMPTY = "caption_empty"
"""Problem: the caption is only white space."""

SHARD_TRUNCATED = "shard_truncated"
"""Problem: the tar ends early. It is reported by one row after the last whole sample."""

NO_CAPTION = frozenset({CAPTION_MISSING, CAPTION_EMPTY, SHARD_TRUNCATED})
"""Problems that leave a row without a caption."""

IMAGE_MISSING = "image_missing"
"""Problem: the row has no image, or its image file cannot be read."""

CAPTION_NOT_UTF8 = "caption_not_utf8"
"""Note: bytes of the caption were not UTF-8 and became U+FFFD. The caption is used."""

CAPTION_LINE_BREAK = "caption_line_break"
"""Note: the caption holds a line break. It is used unchanged."""

DUPLICATE_ID = "duplicate_id"
"""Note: an earlier row of the shard has the same id. The row is used, as `id#2`."""


@dataclass(frozen=True)
class Shard:
    """A file of samples, or a range of its rows: the unit of scheduling, commit and retry."""

    name: str
    """Unique in the dataset: the file's path below the dataset's root, with the first row if it is a range."""
    url: str
    format: Format
    start_row: int = 0
    row_count: int | None = None
    """None: all rows of the file, counted when it is read."""
    start_byte: int = 0
    """Text tables: byte offset of row `start_row`."""
    columns: tuple[str, ...] | None = None
    """CSV and TSV: column names."""
    file_identity: str = ""
    """Changes when the file is replaced (`storage.identity`)."""


@dataclass(frozen=True)
class Sample:
    """One row of a shard."""

    row: int
    """Row number in the shard, from 0."""
    id: str
    caption: str
    """Empty if the row has no caption."""
    image: bytes | None
    """The encoded image; None if the row has no image, or images are not read."""
    problems: tuple[str, ...] = ()
    """Problems and notes, by the names above."""

    @property
    def caption_hash(self) -> str:
        """Hash of the caption. Rewrites are joined by it, so an edited caption does not get stale rewrites."""
        return hash_caption(self.caption)


def hash_caption(caption: str) -> str:
    """16 hexadecimal digits that identify a caption's exact text."""
    return blake2b(caption.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def decode_text(raw: bytes) -> str:
    """Decode UTF-8. Invalid bytes become surrogates, which `clean_caption` finds and replaces."""
    return raw.decode("utf-8", "surrogateescape")


def parse_json(raw: bytes) -> Any:
    """Parse JSON; None if it is invalid. The row has no fields then, so its caption is missing."""
    try:
        return json.loads(decode_text(raw))
    except ValueError:
        return None


def clean_caption(value: object) -> tuple[str, tuple[str, ...]]:
    r"""The caption as UTF-8 text without line breaks at its ends, and its problems.

    >>> clean_caption(b"caf\xe9\n")
    ('caf\ufffd', ('caption_not_utf8',))
    """
    if isinstance(value, bytes):
        value = decode_text(value)
    if not isinstance(value, str):
        return "", (CAPTION_MISSING,)
    problems: list[str] = []
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        value = re.sub(r"[\ud800-\udfff]", "\ufffd", value)
        problems.append(CAPTION_NOT_UTF8)
    if not value.strip():
        return "", (CAPTION_EMPTY,)
    value = value.strip("\r\n")
    if "\n" in value or "\r" in value:
        problems.append(CAPTION_LINE_BREAK)
    return value, tuple(problems)


def clean_id(sample_id: str) -> str:
    """The id with surrogates escaped, so it can be stored as UTF-8."""
    return sample_id.encode("utf-8", "backslashreplace").decode()
