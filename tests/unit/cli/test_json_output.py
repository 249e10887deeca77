"""One valid JSON object on standard output, whatever is in it and whoever else prints."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.cli.json_output import plain, to_text
from laclip_ray.config import DataConfig

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def refuse(constant: str) -> None:
    """Refuse what Python's reader takes and JSON does not have."""
    raise AssertionError(constant)


@given(st.dictionaries(st.text(), VALUES))
def test_any_content_is_valid_json_on_ascii_lines(content: dict[str, Any]) -> None:
    text = to_text(content)
    assert text.isascii()
    assert isinstance(json.loads(text, parse_constant=refuse), dict)


@dataclass
class _Inner:
    value: float


class _Code(IntEnum):
    BAD = 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("inf"), None),
        (_Inner(float("nan")), {"value": None}),
        (Counter(empty=2), {"empty": 2}),
        ({1: (2, 3)}, {"1": [2, 3]}),
        ({"b", "a"}, ["a", "b"]),
        (Path("/runs/a"), "/runs/a"),
        (_Code.BAD, 2),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (DataConfig(path="a").model_dump(mode="json")["path"], "a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_type_has_its_value_of_json(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_a_section_of_the_config_is_an_object() -> None:
    assert plain(DataConfig(path="a"))["path"] == "a"


def test_secrets_do_not_reach_the_object() -> None:
    text = to_text({"hf_token": "hf_abcdef", "url": "https://me:password@host/a?sig=abc", "nested": [{"api_key": "x"}]})
    for secret in ("hf_abcdef", "password", "abc", '"x"'):
        assert secret not in text


NOISE = """
import os, subprocess, sys
from laclip_ray.cli import ending, main, version
finish = ending.finish

def noisy(*arguments):
    print("printed by Python")
    os.write(1, b"printed by a library in C\\n")
    subprocess.run(["echo", "printed by a child"])
    finish(*arguments)

version.finish = noisy
main(["version", *sys.argv[1:]])
print("printed at the end")
"""


def test_what_others_print_goes_to_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", NOISE, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verb"] == "version"
    assert sorted(done.stderr.splitlines()) == [
        "printed at the end",
        "printed by Python",
        "printed by a child",
        "printed by a library in C",
    ]


def test_without_the_option_standard_output_is_as_ever() -> None:
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 5
    assert done.stderr == ""
