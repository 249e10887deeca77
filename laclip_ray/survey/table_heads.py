"""The columns of a table with the values of its first rows, before a config names any of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import DataConfig, Format
from laclip_ray.data.csv_records import Dialect, Width, read_records
from laclip_ray.data.dialect import detect_dialect
from laclip_ray.data.lines import BLOCK_BYTES, Line, detect_form, split_lines
from laclip_ray.data.parquet import read_footer, read_rows
from laclip_ray.data.parquet_types import is_text
from laclip_ray.data.records import Shard, parse_json
from laclip_ray.errors import UserError
from laclip_ray.survey.columns import Column, lacks_header, name_columns

_ROWS = 200
_PARQUET_ROWS = 32
"""Their images are read too."""
_DELIMITERS = (",", "\t", ";", "|")


class TableHead(NamedTuple):
    """The start of a table."""

    columns: Sequence[Column]
    lacks_header: bool = False
    """CSV and TSV: the names of the columns are made up, and the config must give them."""


def read_head(url: str, file_format: Format) -> TableHead:
    """The columns of a table and their first values.

    Raises:
        UserError: it is no table, or has no rows.
        OSError: the storage failed.
    """
    if file_format == "parquet":
        columns = _parquet_columns(url)
        return TableHead(columns)
    lines = _first_lines(url)
    if file_format == "jsonl":
        rows = [parse_json(line) for _, line in lines if line]
        return TableHead(columns_of([row for row in rows if isinstance(row, Mapping)], url))
    return _csv_head(url, file_format, lines)


def columns_of(rows: Sequence[Mapping[str, Any]], url: str) -> list[Column]:
    """The columns of rows by name.

    Raises:
        UserError: there are no rows.
    """
    if not rows:
        raise UserError(f"data.path: {url} holds no rows; give a table with a row for each picture")
    names = dict.fromkeys(key for row in rows for key in row)
    return [Column(name, [row.get(name) for row in rows]) for name in names]


def _parquet_columns(url: str) -> list[Column]:
    footer = read_footer(url, "data")
    if isinstance(footer, str):
        raise UserError(footer)
    file = Shard(url, url, "parquet", row_count=footer.row_count)
    rows = [row.fields for row in islice(read_rows(file, _texts_and_others), _PARQUET_ROWS) if row.problem is None]
    return columns_of(rows, url)


def _texts_and_others(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The columns, with those that may hold images apart: the reader takes few of them at a time."""
    texts = [field.name for field in schema if is_text(field.type)]
    return texts, [name for name in schema.names if name not in texts]


def _first_lines(url: str) -> list[Line]:
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as file:
        head = file.read(BLOCK_BYTES)
    lines = list(islice(split_lines([head], detect_form(head)), _ROWS + 1))
    return lines[:-1] if len(head) == BLOCK_BYTES and len(lines) <= _ROWS else lines  # the last one may be cut


def _csv_head(url: str, file_format: Format, lines: Sequence[Line]) -> TableHead:
    delimiter = _delimiter(lines, file_format)
    rows = _rows(lines, Dialect(delimiter, True))
    has_none = lacks_header(rows)
    names = name_columns(rows) if has_none else rows[0] if rows else []
    # With the columns known, the readers' own rules decide what quotes mean.
    data = DataConfig(path=url, columns=list(names) or None)
    rows = _rows(lines, Dialect(delimiter, detect_dialect(lines, file_format, data).is_quoted))
    rows = rows[not has_none :]
    fitting = [row for row in rows if Width.of(names).fits(row)] or rows
    return TableHead(columns_of([dict(zip(names, row, strict=False)) for row in fitting], url), has_none)


def _rows(lines: Sequence[Line], dialect: Dialect) -> list[list[str]]:
    return [fields for _, fields, problem in read_records(iter(lines), dialect, None) if problem is None]


def _delimiter(lines: Sequence[Line], file_format: Format) -> str:
    """The delimiter that gives most rows one width of two columns or more; the format's own in doubt."""
    own = "," if file_format == "csv" else "\t"

    def fitting(delimiter: str) -> int:
        widths = Counter(map(len, _rows(lines, Dialect(delimiter, True))))
        del widths[1]
        return max(widths.values(), default=0)

    return max((own, *(each for each in _DELIMITERS if each != own)), key=fitting)
