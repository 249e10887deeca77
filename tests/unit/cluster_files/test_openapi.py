"""The walker over a Kubernetes schema refuses unknown fields, wrong types and values out of bounds."""

from typing import Any

import pytest

from tests.unit.cluster_files.openapi import check_object

SPEC = {
    "type": "object",
    "required": ["groups"],
    "properties": {
        "groups": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
                    "replicas": {"type": "integer", "minimum": 0},
                    "mode": {"type": "string", "enum": ["Default", "Aggressive"]},
                    "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    "nothing": {"type": "object"},
                    "suspended": {"type": "boolean", "nullable": True},
                },
            },
        }
    },
}
DEFINITION = {
    "group": "example.io",
    "names": {"kind": "Example"},
    "versions": [
        {
            "name": "v1",
            "served": True,
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "spec": SPEC},
                }
            },
        }
    ],
}


def example(**group: Any) -> dict[str, Any]:
    spec = {"groups": [{"name": "first", **group}]}
    return {"apiVersion": "example.io/v1", "kind": "Example", "metadata": {"name": "one"}, "spec": spec}


def test_a_right_object_has_no_problems() -> None:
    content = example(
        replicas=2, mode="Default", port="http", labels={"any/key": "x"}, anything={"a": 1}, nothing={}, suspended=None
    )
    assert check_object(content, DEFINITION) == []


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ({"replica": 1}, ".spec.groups[0].replica: unknown field"),
        ({"nothing": {"a": 1}}, ".spec.groups[0].nothing.a: unknown field"),
        ({"replicas": "1"}, ".spec.groups[0].replicas: expected integer, got '1'"),
        ({"replicas": True}, ".spec.groups[0].replicas: expected integer, got True"),
        ({"replicas": -1}, ".spec.groups[0].replicas: -1 does not keep to minimum 0"),
        ({"mode": "default"}, ".spec.groups[0].mode: 'default' does not keep to enum"),
        ({"name": "First"}, ".spec.groups[0].name: 'First' does not keep to pattern"),
        ({"name": "abcdefghi"}, ".spec.groups[0].name: 'abcdefghi' does not keep to maxLength 8"),
        ({"name": None}, ".spec.groups[0].name: expected string, got None"),
        ({"port": 1.5}, ".spec.groups[0].port: expected an integer or a string, got 1.5"),
        ({"labels": {"key": 1}}, ".spec.groups[0].labels.key: expected string, got 1"),
    ],
)
def test_a_wrong_group_is_refused_with_its_path(group: dict[str, Any], problem: str) -> None:
    (found,) = check_object(example(**group), DEFINITION)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"apiVersion": "example.io/v2"}, "apiVersion: expected example.io/v1, got example.io/v2"),
        ({"kind": "Exampl"}, "kind: expected Example, got Exampl"),
        ({"metadata": {"nam": "one"}}, ".metadata.name: missing"),
        ({"spec": {}}, ".spec.groups: missing"),
        ({"spec": {"groups": []}}, ".spec.groups: [] does not keep to minItems 1"),
        ({"speck": {}}, ".speck: unknown field"),
    ],
)
def test_a_wrong_object_is_refused(changes: dict[str, Any], problem: str) -> None:
    assert check_object({**example(), **changes}, DEFINITION)[0] == problem
