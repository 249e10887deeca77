"""Types of config fields in plain words."""

import typing
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal

import annotated_types
from pydantic.fields import FieldInfo

from laclip_ray.config import Section

Bounds = Mapping[str, Any]
"""Limits of a value by name: `ge`, `gt`, `le`, `lt`, `min_length`, `pattern`."""

_NAMES = {bool: "`true` or `false`", int: "integer", float: "number", str: "text", NoneType: "`null`", Any: "any value"}
_SIGNS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def words_of(annotation: Any, bounds: Bounds | None = None) -> str:
    """A type in plain words.

        >>> words_of(Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] | None)
        'number, above 0, at most 1, or `null`'

    Args:
        annotation: of a config field.
        bounds: those of the field itself.
    """
    bounds = bounds or {}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return words_of(arguments[0], {**bounds, **bounds_of(arguments[1:])})
    if origin is Literal:
        return _either([f"`{value}`" for value in arguments])
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping (each value: {words_of(arguments[1])})"
    if origin is tuple:
        return f"list of {len(arguments)} (each item: {words_of(arguments[0])})"
    if origin is list:
        return f"list{', not empty' if bounds.get('min_length') else ''} (each item: {words_of(arguments[0])})"
    if arguments:
        return ", or ".join(dict.fromkeys(words_of(argument, bounds) for argument in arguments))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return _NAMES[annotation] + _limits(annotation, bounds)


def bounds_of(metadata: Iterable[Any]) -> dict[str, Any]:
    """The limits among a type's annotations."""
    found: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, FieldInfo):
            found |= bounds_of(item.metadata)
        elif isinstance(item, annotated_types.BaseMetadata):
            found |= {name: getattr(item, name) for name in (*_SIGNS, "min_length", "pattern") if hasattr(item, name)}
    return found


def _either(choices: list[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if choices[1:] else choices)


def _limits(kind: type, bounds: Bounds) -> str:
    if kind is str:
        return (
            f" of the form `{bounds['pattern']}`" if "pattern" in bounds else ", not empty" * ("min_length" in bounds)
        )
    if kind not in (int, float):
        return ""
    if kind is int and bounds.get("gt") == 0:
        bounds = {"ge": 1, **{name: value for name, value in bounds.items() if name != "gt"}}
    if "ge" in bounds and "le" in bounds:
        return f" from {number(bounds['ge'])} to {number(bounds['le'])}"
    return "".join(f", {words} {number(bounds[name])}" for name, words in _SIGNS.items() if name in bounds)


def number(value: float) -> str:
    """A number as people write it: `50,000,000`, `0.05`."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
