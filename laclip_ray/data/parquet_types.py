"""Which Arrow types hold captions, members of structs as columns, and rows whose texts need not be UTF-8."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from laclip_ray.data.records import decode_text


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def holds_captions(arrow_type: pa.DataType) -> bool:
    """Whether a column of this type can hold captions: texts, bytes, or lists of them."""
    if isinstance(arrow_type, pa.BaseExtensionType):
        arrow_type = arrow_type.storage_type
    if _is_list(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return is_text(arrow_type) or bool(
        pa.types.is_binary(arrow_type)
        or pa.types.is_large_binary(arrow_type)
        or pa.types.is_binary_view(arrow_type)
        or pa.types.is_fixed_size_binary(arrow_type)
    )


def has_member(schema: pa.Schema, column: str) -> bool:
    """Whether a column is a member of a struct: `image.path` of Hugging Face's `image: {bytes, path}`."""
    if column in schema.names:
        return False
    top, _, member = column.partition(".")
    if not member or schema.names.count(top) != 1:
        return False
    arrow_type = schema.field(top).type
    return bool(pa.types.is_struct(arrow_type) and arrow_type.get_field_index(member) >= 0)


def lift_members(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Give rows that were read for some columns each member of a struct under its own name, in place of the struct.

    Args:
        rows: decoded rows, changed in place.
        columns: the names asked for; `image.path` is a member if no column has this name.
    """
    if not rows:
        return
    for column in [each for each in columns if each not in rows[0]]:
        top, _, member = column.partition(".")
        for row in rows:
            row[column] = (row.pop(top, None) or {}).get(member)


def decode_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch by column name. Invalid UTF-8, which some Parquet writers let pass, becomes surrogates."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        columns = {}
        for field, column in zip(batch.schema, batch.columns, strict=True):
            values = column.cast(_as_bytes(field.type)).to_pylist()
            columns[field.name] = [_decode(value, field.type) for value in values]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


def _is_list(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def _as_bytes(arrow_type: pa.DataType) -> pa.DataType:
    """The type with bytes in place of text."""
    if is_text(arrow_type):
        return pa.large_binary()
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.list_(_as_bytes(arrow_type.value_type), arrow_type.list_size)
    if _is_list(arrow_type):
        make = pa.large_list if pa.types.is_large_list(arrow_type) else pa.list_
        return make(_as_bytes(arrow_type.value_type))
    if pa.types.is_struct(arrow_type):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in arrow_type])
    return arrow_type


def _decode(value: Any, arrow_type: pa.DataType) -> Any:
    """A value read as `_as_bytes(arrow_type)`, with its texts decoded."""
    if value is None:
        return None
    if is_text(arrow_type):
        return decode_text(value)
    if _is_list(arrow_type):
        return [_decode(item, arrow_type.value_type) for item in value]
    if pa.types.is_struct(arrow_type):
        return {field.name: _decode(value[field.name], field.type) for field in arrow_type}
    return value
