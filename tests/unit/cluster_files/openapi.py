"""Check a Kubernetes object against the schema of its kind, and refuse fields that the schema does not list.

Kubernetes drops such fields silently, so a misspelt field would have no effect.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Schema = Mapping[str, Any]
"""A node of an OpenAPI v3 schema."""

METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
"""The fields of an object's own metadata that a manifest sets. The schemas leave them to Kubernetes."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C, if PyYAML has it: the schemas have 43,000 lines."""

_IS_OF_TYPE: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}

_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    ("enum", lambda value, allowed: value in allowed),
    ("pattern", lambda value, pattern: re.search(pattern, str(value)) is not None),
    ("minimum", lambda value, bound: value >= bound),
    ("maximum", lambda value, bound: value <= bound),
    ("minLength", lambda value, bound: len(value) >= bound),
    ("maxLength", lambda value, bound: len(value) <= bound),
    ("minItems", lambda value, bound: len(value) >= bound),
)
"""Keyword of a schema, and whether a value of the right type keeps to it."""


@cache
def load_definition(path: Path) -> Mapping[str, Any]:
    """The `spec` of the CustomResourceDefinition in a file."""
    spec: Mapping[str, Any] = yaml.load(path.read_text(), Loader=_LOADER)["spec"]  # noqa: S506 - a safe loader
    return spec


def check_object(content: Mapping[str, Any], definition: Mapping[str, Any]) -> list[str]:
    """Check a manifest, and return all problems, each as `path: problem`.

    Args:
        content: the manifest.
        definition: the result of `load_definition`.
    """
    group, _, version = str(content.get("apiVersion")).partition("/")
    versions = {each["name"]: each["schema"]["openAPIV3Schema"] for each in definition["versions"] if each["served"]}
    if group != definition["group"] or version not in versions:
        return [f"apiVersion: expected {definition['group']}/{' or '.join(versions)}, got {content.get('apiVersion')}"]
    if content.get("kind") != definition["names"]["kind"]:
        return [f"kind: expected {definition['names']['kind']}, got {content.get('kind')}"]
    schema = versions[version]
    closed = {**schema, "properties": {**schema["properties"], "metadata": METADATA}, "required": ["metadata", "spec"]}
    return list(check_value(content, closed, ""))


def check_value(value: Any, schema: Schema, path: str) -> Iterator[str]:
    """All problems of a value and of everything below it.

    Args:
        value: parsed YAML.
        schema: of the value.
        path: of the value: `.spec.rayVersion`.
    """
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        is_right = isinstance(value, int | str) and not isinstance(value, bool)
    else:
        is_right = _IS_OF_TYPE[schema["type"]](value) if "type" in schema else True
    if not is_right:
        yield f"{path}: expected {schema.get('type', 'an integer or a string')}, got {value!r}"
        return
    for keyword, keeps in _BOUNDS:
        if keyword in schema and not keeps(value, schema[keyword]):
            yield f"{path}: {value!r} does not keep to {keyword} {schema[keyword]}"
    if isinstance(value, dict):
        yield from _check_fields(value, schema, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from check_value(item, schema["items"], f"{path}[{number}]")


def _check_fields(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[str]:
    yield from (f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        below = field_schema(schema, name)
        if below is not None:
            yield from check_value(item, below, f"{path}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: unknown field"


def field_schema(schema: Schema, name: str) -> Schema | None:
    """The schema of a field of an object; None if the object has no such field."""
    if name in schema.get("properties", {}):
        listed: Schema = schema["properties"][name]
        return listed
    others = schema.get("additionalProperties")
    if others is True:
        return {}
    return others if isinstance(others, Mapping) else None
