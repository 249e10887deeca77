"""A missing input is refused before a verb imports its libraries; what only the verb can check is left to it."""

import re
from typing import Any

import pytest

from laclip_ray.cli.inputs import check_inputs
from laclip_ray.config import parse_experiment
from laclip_ray.errors import UserError


def check(sections: tuple[str, ...], **content: Any) -> None:
    check_inputs(parse_experiment({"name": "a", "output": "out", **content}), sections)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"data": {"path": "/no/such/model.json"}}, "data.path"),
        ({"data": {"path": "s3://b/x"}, "model": {"name": "/no/such/model.json"}}, "model.name"),
        (
            {"data": {"path": "s3://b/x"}, "evaluate": {"labelled": [{"name": "a", "path": "/no/such/model.json"}]}},
            "evaluate.labelled[a].path",
        ),
    ],
)
def test_a_missing_path_is_refused_with_its_key_by_verbs_that_read_it(content: dict[str, Any], key: str) -> None:
    message = f"{key}: '/no/such/model.json' does not exist; correct the path"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check(("data", "model", "evaluate"), **content)
    check(("rewrite",), **content)


@pytest.mark.parametrize("path", ["/no/such/*.tar", "/no/{a,b}.tar", "s3://bucket/data", "pipe:cat x"])
def test_patterns_and_urls_are_left_to_the_verb(path: str) -> None:
    check(("data",), data={"path": path})
