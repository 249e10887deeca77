"""Which columns of a table hold the image, the label and the split, and the class names that a column describes."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from laclip_ray.data.parquet_types import is_text
from laclip_ray.data.tar_groups import IMAGE_MEMBERS
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.tally import first_names

LABEL_COLUMNS = ("label", "cls", "fine_label")
"""Where labels are looked for, in this order."""

IMAGE_COLUMN, SPLIT_COLUMN = "image", "split"

_NAMES_SHOWN = 20


class Columns(NamedTuple):
    """The columns of a labelled table."""

    image: str
    label: str
    split: str
    """Empty: the table has none."""


def choose_columns(
    names: Sequence[str],
    candidates: Collection[str],
    image_column: str | None,
    label_column: str | None,
    url: str,
    where: str,
) -> Columns:
    """Choose the columns of a table.

    Args:
        names: all columns.
        candidates: those that can hold images, by their type or first value.
        image_column: as configured.
        label_column: as configured.
        url: the table, for messages.
        where: begins a message.

    Raises:
        UserError: a column is missing, or cannot be told.
    """
    label = label_column or next((name for name in LABEL_COLUMNS if name in names), None)
    if label is None:
        expected = ", ".join(LABEL_COLUMNS)
        raise UserError(f"{where}: {url} has none of the columns {expected}; it has {_list(names)}. Set label_column")
    image = image_column or (IMAGE_COLUMN if IMAGE_COLUMN in names else None)
    if image is None:
        possible = [name for name in candidates if name != label]
        if len(possible) != 1:
            found = f"several columns that may be the image ({_list(possible)})" if possible else "no image column"
            raise UserError(f"{where}: {url} has {found}; its columns are {_list(names)}. Set image_column")
        (image,) = possible
    for key, column in (("image_column", image), ("label_column", label)):
        if (count := list(names).count(column)) != 1:
            what = f"has {count} columns {column!r}" if count else f"has no column {column!r}; it has {_list(names)}"
            near = "" if count else did_you_mean(column, names)
            raise UserError(f"{where}: {key}: {url} {what}{near}")
    split = SPLIT_COLUMN if list(names).count(SPLIT_COLUMN) == 1 and SPLIT_COLUMN not in (image, label) else ""
    return Columns(image, label, split)


def _list(names: Collection[str]) -> str:
    """Column names for a message. In a table without a header, or a binary file, they may be anything."""
    shown = (name if len(name) <= 60 else f"{name[:60]}..." for name in names)
    return first_names((name if name.isprintable() else ascii(name) for name in shown), _NAMES_SHOWN) or "none"


def image_columns(schema: pa.Schema) -> list[str]:
    """The Parquet columns whose type can hold encoded images: bytes, or structs with bytes."""
    return [field.name for field in schema if _holds_bytes(field.type) or _is_image_struct(field.type)]


def _is_image_struct(arrow_type: pa.DataType) -> bool:
    if not pa.types.is_struct(arrow_type):
        return False
    return any(field.name == "bytes" and _holds_bytes(field.type) for field in arrow_type)


def _holds_bytes(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type) or pa.types.is_binary_view(arrow_type)
    )


def path_columns(fields: Mapping[str, Any]) -> list[str]:
    """The columns of a row whose value ends like the name of an image file."""
    endings = tuple(f".{extension}" for extension in IMAGE_MEMBERS)
    return [name for name, value in fields.items()
            if isinstance(value, str) and value.strip().lower().partition("?")[0].endswith(endings)]  # fmt: skip


def is_label_type(arrow_type: pa.DataType) -> bool:
    """Whether a Parquet column of this type can hold labels: numbers or texts, or lists of them."""
    if holds_lists(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return is_text(arrow_type) or bool(
        pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type) or pa.types.is_boolean(arrow_type)
    )


def holds_lists(arrow_type: pa.DataType) -> bool:
    """Whether a Parquet column of this type holds a list in each row."""
    return bool(
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def described_class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """The class names that Hugging Face's `datasets` writes into the metadata of a Parquet file; None without any.

    `{"info": {"features": {"label": {"_type": "ClassLabel", "names": [...]}}}}` under the key `huggingface`. The names
    of a list's elements lie one level deeper.
    """
    try:
        feature: Any = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        for _ in range(2):
            if isinstance(feature, list):
                (feature,) = feature
            if "names" not in feature:
                feature = feature["feature"]
        names = feature["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    is_list = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return [name.strip() for name in names] if is_list else None
