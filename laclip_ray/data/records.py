"""Shards and samples, what can be wrong with a sample, and how captions and ids are cleaned."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from laclip_ray.config import CaptionChoice, Format

MAX_ROW_BYTES = 16 * 2**20
"""Upper bound on a row of a text table, and so on its line and its fields, and on a text or JSON member of a tar. A
longer one is not used."""

CAPTION_MISSING = "caption_missing"
"""Problem: the row has no caption, or its caption is not text."""

CAPTION_EMPTY = "caption_empty"
"""Problem: the caption is only white space."""

SHARD_TRUNCATED = "shard_truncated"
"""Problem: the tar ends early. It is reported by one row after the last whole sample."""

SHARD_UNREADABLE = "shard_unreadable"
"""Problem: the shard's file cannot be read at all (`ShardUnreadableError`). It is reported by one row."""

MEMBER_TOO_LARGE = "member_too_large"
"""Problem: the member of a tar that holds the sample's caption has more than `MAX_ROW_BYTES`."""

FIELDS_DIFFER = "fields_differ"
"""Problem: the row of a CSV or TSV has more or fewer fields than the table has columns, so its caption may be wrong."""

UNCLOSED_QUOTE = "unclosed_quote"
"""Problem: a quote opens a field of a CSV or TSV and is not closed. Reading resumes at the next line."""

HEADER_REPEATED = "header_repeated"
"""Problem: the row of a CSV or TSV repeats the column names."""

ROW_TOO_LONG = "row_too_long"
"""Problem: the line of a text table is longer than `MAX_ROW_BYTES`."""

ROW_UNREADABLE = "row_unreadable"
"""Problem: the row is in a damaged part of a Parquet file."""

NO_CAPTION = frozenset(
    {
        CAPTION_MISSING,
        CAPTION_EMPTY,
        SHARD_TRUNCATED,
        SHARD_UNREADABLE,
        MEMBER_TOO_LARGE,
        FIELDS_DIFFER,
        UNCLOSED_QUOTE,
        HEADER_REPEATED,
        ROW_TOO_LONG,
        ROW_UNREADABLE,
    }
)
"""Problems that leave a row without a caption."""

IMAGE_MISSING = "image_missing"
"""Problem: the row has no image, or its image file cannot be read."""

CAPTION_NOT_UTF8 = "caption_not_utf8"
"""Note: bytes of the caption were not UTF-8 and became U+FFFD. The caption is used."""

CAPTION_LINE_BREAK = "caption_line_break"
"""Note: the caption holds a line break. It is used unchanged."""

DUPLICATE_ID = "duplicate_id"
"""Note: an earlier row of the shard has the same id. The row is used, as `id#2`."""

ID_MISSING = "id_missing"
"""Note: the id column of the row is null, NaN or empty. The row is used, with an id as if no column were configured."""


class UniqueIds:
    """Numbers the repeated ids of a shard; a repeat gets the first free number from 2 on: `id#2`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def unique(self, sample_id: str) -> str:
        """The id itself when it comes for the first time, else the id with a number."""
        self._seen[sample_id] += 1
        repeat = self._seen[sample_id]
        if repeat == 1:
            return sample_id
        while (numbered := f"{sample_id}#{repeat}") in self._seen:  # another row's own id may look like this
            repeat += 1
        self._seen[numbered] += 1
        return numbered


class ShardUnreadableError(OSError):
    """No row of a shard can be read: its file is not what its name says. The text names the content."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of samples, or a range of its rows: the unit of scheduling, commit and retry."""

    name: str
    """Unique in the dataset: the file's path below the dataset's root, with the first row if it is a later range."""
    url: str
    format: Format
    start_row: int = 0
    row_count: int | None = None
    """None: all rows of the file, counted when it is read."""
    start_byte: int = 0
    """Text tables: byte offset of row `start_row`."""
    columns: tuple[str, ...] | None = None
    """CSV and TSV: column names."""
    delimiter: str = ","
    """CSV and TSV: the character between fields."""
    is_quoted: bool = True
    """CSV and TSV: fields in double quotes may hold delimiters and line breaks."""
    encoding: str = "utf-8"
    """Text tables: the codec of the file."""
    line_end: str = "\n"
    """Text tables: the last character of a line."""
    file_identity: str = ""
    """Changes when the file is replaced (`storage.identity`)."""
    defect: str = ""
    """Why no row of the file can be used, as a message; empty if there may be usable rows. A dataset whose files all
    have a defect is refused."""
    listed_rows: int | None = None
    """Tars: samples of the file by the dataset index, which reading does not depend on. None: not known."""

    @property
    def size_bytes(self) -> int | None:
        """The size of the file, which starts its identity. None: its store does not tell it."""
        size = self.file_identity.partition("-")[0]
        return int(size) if size.isdigit() else None

    @property
    def known_rows(self) -> int | None:
        """The number of rows, as far as listing or the dataset index tells it."""
        return self.listed_rows if self.row_count is None else self.row_count


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
    caption_number: int = 0
    """Place of the caption among those of its row and image, from 0 (`data.captions: all`)."""
    image_path: str | None = None
    """The path or URL in the row that names the image; None if the row holds the image, or has none."""

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
    """Parse JSON; None if it is invalid. The row has no fields then, so its caption is missing.

    An integer with more digits than Python converts (4,300) becomes its text.
    """
    text = decode_text(raw)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text, parse_int=_parse_integer)
    except (ValueError, RecursionError):
        return None


def _parse_integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def select_captions(value: object, choice: CaptionChoice) -> Sequence[object]:
    """The captions of a row: at least one, each for `clean_caption`.

    Args:
        value: the content of the caption column, or a list of captions.
        choice: `first` takes the first text of a list that is not blank. `all` takes every element.

    >>> select_captions(["", "a cat", "the cat"], "first"), select_captions("a cat", "all")
    (['a cat'], ['a cat'])
    """
    if not isinstance(value, list | tuple):
        return [value]
    if choice == "all":
        return value or [None]
    usable = (text for text in value if isinstance(text, str | bytes) and text.strip())
    return [next(usable, value[0] if value else None)]


def number_id(sample_id: str, caption_number: int) -> str:
    """The id of a row's caption: the row's own for the first one.

    >>> number_id("x", 0), number_id("x", 1)
    ('x', 'x#caption2')
    """
    return f"{sample_id}#caption{caption_number + 1}" if caption_number else sample_id


def id_text(value: object) -> str | None:
    r"""The id as text; None if the value is no id: null, NaN or empty.

    Bytes are decoded, or shown in hexadecimal if they are not UTF-8.

    >>> id_text(7), id_text(b"a7"), id_text(b"\xff\x00"), id_text(float("nan"))
    ('7', 'a7', 'ff00', None)
    """
    if isinstance(value, bytes):
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            return value.hex()
    if value is None or value == "" or value != value:  # NaN differs from itself
        return None
    return str(value)


def clean_caption(value: object) -> tuple[str, tuple[str, ...]]:
    r"""The caption as UTF-8 text without line breaks at its ends, and its problems.

    >>> clean_caption(b"caf\xe9\n")
    ('caf\ufffd', ('caption_not_utf8',))
    """
    if isinstance(value, bytes):
        value = decode_text(value)
    if not isinstance(value, str):
        return "", (CAPTION_MISSING,)
    if not value or value.isspace():
        return "", (CAPTION_EMPTY,)
    problems: list[str] = []
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            value = re.sub(r"[\ud800-\udfff]", "\ufffd", value)
            problems.append(CAPTION_NOT_UTF8)
    value = value.strip("\r\n")
    if "\n" in value or "\r" in value:
        problems.append(CAPTION_LINE_BREAK)
    return value, tuple(problems)


def clean_id(sample_id: str) -> str:
    """The id with surrogates escaped, so it can be stored as UTF-8."""
    return sample_id if sample_id.isascii() else sample_id.encode("utf-8", "backslashreplace").decode()
