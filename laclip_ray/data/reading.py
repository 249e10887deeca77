"""The reading of a shard: every setting that decides which rows it has, and their ids and captions.

What was made from a shard keeps the reading beside the file's identity. If either differs later, the rows may differ.
"""

from collections.abc import Mapping
from typing import Any

from laclip_ray.config import DataConfig, Format
from laclip_ray.data.records import Shard

_ALL_FORMATS = ("caption_column", "id_column", "captions")
_TABLES = (*_ALL_FORMATS, "image_column")  # an image path is the sample's id
_TEXT_TABLES = (*_TABLES, "columns", "quoting")

SETTINGS: dict[Format, tuple[str, ...]] = {
    "webdataset": _ALL_FORMATS,
    "parquet": _TABLES,
    "jsonl": _TABLES,
    "csv": _TEXT_TABLES,
    "tsv": _TEXT_TABLES,
}
"""By format, the keys of `data` that decide a shard's rows, ids and captions. `max_rows_per_shard` is in its range."""

Reading = Mapping[str, Any]
"""A JSON object: the settings of the format, `format`, and of a table `rows`: [first row, number of rows]."""


def reading_of(shard: Shard, data: DataConfig) -> Reading:
    """How a shard is read now."""
    settings = {key: getattr(data, key) for key in SETTINGS[shard.format]}
    rows = {} if shard.row_count is None else {"rows": [shard.start_row, shard.row_count]}
    return {"format": shard.format, **settings, **rows}


_NEWER = frozenset({"captions", "quoting"})
"""Settings that did not exist when readings were not recorded."""


def unrecorded(now: Reading) -> Reading:
    """The reading of a shard when it was not recorded yet: taken for the present one, without later settings."""
    return {key: value for key, value in now.items() if key not in _NEWER}


def differences(before: Reading, now: Reading) -> dict[str, tuple[Any, Any]]:
    """The values that differ between two readings, before and now, by their keys.

    A setting that `before` lacks is newer, and had the effect of its default.
    """
    if before == now:
        return {}
    fields = DataConfig.model_fields
    defaults = {key: fields[key].get_default() for key in now if key in fields and key != "format"}
    return {key: (value, now.get(key)) for key, value in {**defaults, **before}.items() if value != now.get(key)}


def describe_differences(before: Reading, now: Reading) -> str:
    """The differences of two readings, for messages; empty without any.

    >>> old, new = {"caption_column": "text", "rows": [0, 10]}, {"caption_column": "caption", "rows": [0, 5]}
    >>> describe_differences(old, new)
    "data.caption_column was 'text' and is 'caption', 10 rows from row 0 became 5 rows from row 0"
    """
    return ", ".join(_describe(key, *values) for key, values in differences(before, now).items())


def _describe(key: str, before: Any, now: Any) -> str:
    if key == "rows" and before and now:
        return f"{before[1]:,} rows from row {before[0]:,} became {now[1]:,} rows from row {now[0]:,}"
    return f"data.{key} was {_text(before)} and is {_text(now)}"


def _text(value: Any) -> str:
    return "not set" if value is None else repr(value)
