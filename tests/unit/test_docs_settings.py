"""The page of settings has every key of the config, and is what its generator writes."""

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from laclip_ray.config import Experiment, MayChangeOnResume, marked_keys, walk
from tests import settings_page
from tests.plain_types import words_of

ROWS = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \| (.*) \| (.+) \|$", settings_page.page(), re.MULTILINE)
"""Key, value, default, facts and meaning of each row."""


def test_the_page_is_what_the_generator_writes() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run `make docs`"


def test_every_key_is_on_the_page_or_in_a_section_that_names_another_with_the_same_keys() -> None:
    keys = {key for key, *_ in ROWS}
    page = settings_page.page()
    for facts in walk(Experiment):
        if facts.key in keys:
            continue
        section, _, name = facts.key.rpartition(".")
        same = re.search(
            rf"^### {re.escape(section)}\n\n(?:.*\n)*?.*The keys are those of \[`(.+)`\]", page, re.MULTILINE
        )
        assert same, facts.key
        assert f"{same[1]}.{name}" in keys, facts.key


def test_every_row_says_what_the_key_takes_and_means() -> None:
    for key, value, default, facts, meaning in ROWS:
        assert "" not in (value.strip(), default.strip()), key
        assert set(facts.split(", ")) <= {"", "path", "recipe", "gate", "run", "sweep"}, key
        assert meaning.strip().endswith((".", ")")), f"{key}: a docstring is whole sentences"


def test_keys_that_may_change_on_resume_are_not_said_to_be_fixed() -> None:
    fixed = {key for key, _, _, facts, _ in ROWS if "run" in facts.split(", ")}
    assert {"seed", "data.path", "text.p", "train.batch_size", "rewrite.gate.min_words"} <= fixed
    assert not fixed & marked_keys(Experiment, MayChangeOnResume)
    assert not fixed & {"train.workers.max", "train.checkpoint.keep", "rewrite.gate.meaning.batch_size", "output"}


def test_defaults_under_a_preset_stand_beside_the_others() -> None:
    defaults = {key: default for key, _, default, _, _ in ROWS}
    assert defaults["rewrite.heads"] == "`32`; with `paper` `3360`"
    assert defaults["rewrite.sampling.temperature"] == "`0.9`"
    assert defaults["data.max_image_bytes"] == "`67108864` (64 MiB)"
    assert defaults["name"] == "required"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (bool, "`true` or `false`"),
        (Annotated[int, Field(gt=0)] | None, "integer, at least 1, or `null`"),
        (Annotated[float, Field(gt=0.0, le=1.0)], "number, above 0, at most 1"),
        (Annotated[int, Field(ge=1, le=50_000)], "integer from 1 to 50,000"),
        (Literal["a", "b", "c"], "`a`, `b` or `c`"),
        (str | list[str], "text, or list (each item: text)"),
        (Annotated[list[int], Field(min_length=1)], "list, not empty (each item: integer)"),
        (dict[str, Any], "mapping"),
        (tuple[float, float], "list of 2 (each item: number)"),
        (Annotated[str, Field(pattern="^a$")], "text of the form `^a$`"),
    ],
    ids=str,
)
def test_a_type_is_told_in_plain_words(annotation: Any, words: str) -> None:
    assert words_of(annotation) == words
