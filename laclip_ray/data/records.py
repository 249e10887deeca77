"""Shards, samples, and what can be wrong with a sample."""

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from laclip_ray.config import Format

# What can be wrong with a row. The first three leave it without a usable caption, the next without an image.
CAPTION_MISSING = "caption_missing"

CAPTION_EMPTY = "caption_empty"

SHARD_TRUNCATED = "shard_truncated"

IMAGE_MISSING = "image_missing"

# These are only noted: the caption is used.
CAPTION_NOT_UTF8 = "caption_not_utf8"

CAPTION_LINE_BREAK = "caption_line_break"

DUPLICATE_ID = "duplicate_id"

NO_CAPTION = frozenset({CAPTION_MISSING, CAPTION_EMPTY, SHARD_TRUNCATED})


@dataclass(frozen=True)
class Shard:
    """The unit of scheduling, of commit and of retry."""

    name: str
    """Unique in the dataset: the file's path below the dataset's root, and the first row of a range."""
    url: str
    format: Format
    start_row: int = 0
    row_count: int | None = None
    """None: all rows of the file, counted when it is read."""
    start_byte: int = 0
    """Text tables: where `start_row` begins."""
    columns: tuple[str, ...] | None = None
    """Text tables: the names of the columns."""
    file_identity: str = ""
    """What tells the file from a replacement (`storage.identity`)."""


@dataclass(frozen=True)
class Sample:
    """One row of a shard."""

    row: int
    """Its number in the shard, from 0."""
    id: str
    caption: str
    """Empty where there is none."""
    image: bytes | None
    """The encoded image; None where images were not asked for, or there is none."""
    problems: tuple[str, ...] = ()

    @property
    def caption_hash(self) -> str:
        """Hash of the caption; joins use it, so that an edited caption is seen."""
        return hash_caption(self.caption)


def hash_caption(caption: str) -> str:
    """16 hexadecimal digits that identify a caption's exact text."""
    return blake2b(caption.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def decode_marking(raw: bytes) -> str:
    """UTF-8 text; bytes that are not become surrogates, which `caption_of` finds and replaces."""
    return raw.decode("utf-8", "surrogateescape")


def parse_json(line: bytes) -> Any:
    try:
        return json.loads(decode_marking(line))
    except ValueError:
        return None  # a row without fields: its caption is missing


def caption_of(value: object) -> tuple[str, tuple[str, ...]]:
    """The caption as text, and what is wrong with it."""
    if isinstance(value, bytes):
        value = decode_marking(value)
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
    return sample_id.encode("utf-8", "backslashreplace").decode()
