"""Find out how a CSV or TSV is written, from its first block: its delimiter, and whether quotes enclose fields.

Delimiter: the format's own, unless only another one gives the configured columns. open_clip's default layout is a
`.csv` with tabs.

Quotes: in a CSV they enclose fields. With tabs, both occur. Conceptual Captions' lists are raw: a quote is an ordinary
character. pandas and spreadsheets quote fields that hold tabs, quotes or line breaks. `data.quoting` overrides what is
found here.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from laclip_ray.config import DataConfig, Format
from laclip_ray.data.csv_records import Dialect, Record, Width, read_records
from laclip_ray.data.lines import Line
from laclip_ray.data.records import UNCLOSED_QUOTE, decode_text

_DELIMITERS = ("\t", ",", ";", "|")

_MIN_ROWS = 3
"""Fewer rows are no evidence of a habit."""


def detect_dialect(lines: Sequence[Line], file_format: Format, data: DataConfig) -> Dialect:
    """Find the dialect of a CSV or TSV.

    Args:
        lines: the file's first lines.
        file_format: `csv` or `tsv`.
        data: names the configured columns, and may set the meaning of quotes.
    """
    delimiter = _detect_delimiter(lines, file_format, data)
    if data.quoting != "auto":
        return Dialect(delimiter, data.quoting == "standard")
    if delimiter != "\t":
        return Dialect(delimiter, True)
    return Dialect(delimiter, _quotes_enclose_fields(lines, delimiter, data, file_format == "csv"))


def _detect_delimiter(lines: Sequence[Line], file_format: Format, data: DataConfig) -> str:
    own = "," if file_format == "csv" else "\t"
    candidates = [own, *(delimiter for delimiter in _DELIMITERS if delimiter != own)]
    is_quoted = data.quoting != "none"
    if data.columns:
        width = Width.of(data.columns)

        def fitting_rows(delimiter: str) -> int:
            records = read_records(iter(lines), Dialect(delimiter, is_quoted), width)
            return sum(width.fits(fields) for _, fields, _ in records)

        return own if fitting_rows(own) else max(candidates, key=fitting_rows)
    configured = {data.caption_column, data.image_column, data.id_column} - {None}
    for delimiter in candidates:
        header = next(read_records(iter(lines), Dialect(delimiter, is_quoted), None), None)
        if header is not None and configured <= set(header[1]):
            return delimiter
    return own


@dataclass
class _Evidence:
    """Rows of a table that show what quotes mean."""

    enclosing: int = 0
    """Rows that are whole only if quotes enclose fields."""
    ordinary: int = 0
    """Rows with a field that begins with a quote, but does not end with one."""
    enclosed: int = 0
    """Rows with an enclosed field that needs no quotes."""
    rows: int = 0
    commas_enclosed: int = 0
    """Rows with a comma in an enclosed field. Spreadsheets enclose commas even between tabs."""
    commas_bare: int = 0
    """Rows with a comma, but without an enclosed field."""

    def add(self, text: str, record: Record, delimiter: str, width: Width) -> None:
        """Judge a row.

        Args:
            text: the row's lines.
            record: the row, read with quotes that enclose fields.
            delimiter: the table's delimiter.
            width: of the table's rows.
        """
        _, fields, problem = record
        self.rows += 1
        bare = text.split(delimiter)
        if problem is not None:
            self.ordinary += problem == UNCLOSED_QUOTE
        elif fields == bare:
            self.commas_bare += "," in text
        elif '""' in text and any('"' in field for field in fields) and _is_well_formed(text, delimiter):
            self.enclosing += 1
        elif any("\n" in field for field in fields):
            self.enclosing += any(not width.is_row(line, delimiter) for line in text.split("\n"))
        elif not _is_well_formed(text, delimiter):
            self.ordinary += 1
        elif len(bare) != len(fields):
            self.enclosing += 1
        else:
            self.enclosed += 1
            self.commas_enclosed += "," in text

    def decide(self, default: bool) -> bool:
        """Whether quotes enclose fields; `default` where no row shows it."""
        if self.enclosing != self.ordinary:
            return self.enclosing > self.ordinary
        if self.commas_enclosed >= _MIN_ROWS and not self.commas_bare:
            return True
        return default or self.enclosed == self.rows >= _MIN_ROWS


def _quotes_enclose_fields(lines: Sequence[Line], delimiter: str, data: DataConfig, default: bool) -> bool:
    opening = delimiter.encode() + b'"'
    if not any(line is not None and (line.startswith(b'"') or opening in line) for _, line in lines):
        return default
    dialect = Dialect(delimiter, True)
    rest = iter(lines)
    columns = data.columns
    if not columns:
        header = next(rest)[1] or b""
        columns = decode_text(header).split(delimiter)
        if all(name.startswith('"') and name.endswith('"') for name in columns):
            return True
    width = Width.of(columns)
    records = list(read_records(rest, dialect, width))
    number_of = {offset: number for number, (offset, _) in enumerate(lines)}
    bounds = [*(number_of[offset] for offset, _, _ in records), len(lines)]
    texts = ["\n".join(decode_text(line) for _, line in lines[start:end] if line) for start, end in pairwise(bounds)]
    evidence = _Evidence()
    for text, record in zip(texts, records, strict=True):
        evidence.add(text, record, delimiter, width)
    return evidence.decide(default)


def _is_well_formed(text: str, delimiter: str) -> bool:
    """Whether quotes in a row stand at the ends of fields, or are doubled."""
    try:
        lines = (f"{line}\n" for line in text.replace("\r", " ").split("\n"))
        next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return True
