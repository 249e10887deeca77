"""Lists of class names and templates: named ones, files, and JSON files with keys."""

import json
from pathlib import Path
from typing import Any

import pytest
from open_clip.zero_shot_metadata import (
    IMAGENET_CLASSNAMES,
    OPENAI_IMAGENET_TEMPLATES,
    SIMPLE_IMAGENET_TEMPLATES,
)

from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.class_lists import load_class_names
from laclip_ray.evaluation.sets.template_lists import load_templates
from tests.cases import case


def json_file(directory: Path, content: Any) -> str:
    path = directory / "lists.json"
    path.write_text(json.dumps(content))
    return str(path)


def text_file(directory: Path, content: str) -> str:
    path = directory / "list.txt"
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_imagenet_is_the_list_of_open_clip() -> None:
    assert load_class_names("imagenet", "here") == [[name] for name in IMAGENET_CLASSNAMES]


@pytest.mark.parametrize(
    ("name", "functions", "count"),
    [("openai", OPENAI_IMAGENET_TEMPLATES, 80), ("simple", SIMPLE_IMAGENET_TEMPLATES, 7)],
)
def test_named_templates_make_the_prompts_of_open_clip(name: str, functions: Any, count: int) -> None:
    templates = load_templates(name, "here")
    assert len(templates) == count
    assert [template.replace("{c}", "tench") for template in templates] == [function("tench") for function in functions]


def test_lines_are_classes_and_tabs_separate_their_names(tmp_path: Path) -> None:
    path = text_file(tmp_path, "red fox\tvixen\n\n hare \t\n")
    assert load_class_names(path, "here") == [["red fox", "vixen"], [""], ["hare"]]


def test_a_key_of_a_json_file_names_a_list(tmp_path: Path) -> None:
    path = json_file(tmp_path, {"stl10": ["airplane", "bird"], "fer2013": [["angry"], ["happy", "smiling"]]})
    assert load_class_names(f"{path}#stl10", "here") == [["airplane"], ["bird"]]
    assert load_class_names(f"{path}#fer2013", "here") == [["angry"], ["happy", "smiling"]]


def test_a_json_file_may_be_the_list_itself(tmp_path: Path) -> None:
    assert load_class_names(json_file(tmp_path, ["a", ["b", "c"]]), "here") == [["a"], ["b", "c"]]


def test_a_number_sign_in_another_name_is_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "no#1.txt").write_text("fox\nowl\n")
    assert load_class_names(str(tmp_path / "no#1.txt"), "here") == [["fox"], ["owl"]]


def test_both_marks_of_the_name_are_taken(tmp_path: Path) -> None:
    assert load_templates(text_file(tmp_path, "a {}.\n\nthe {c}\n"), "here") == ["a {c}.", "the {c}"]
    assert load_templates(f"{json_file(tmp_path, {'x': ['a {}, {}']})}#x", "here") == ["a {c}, {c}"]


@case("Evaluation", "a list of class names or templates that does not exist", "refused with the named lists", 2)
def test_a_missing_list_is_refused_with_the_named_ones(tmp_path: Path) -> None:
    message = r"^here: there is no file .*imagnet; .* name of a list: imagenet; did you mean imagenet\?$"
    with pytest.raises(UserError, match=message):
        load_class_names(str(tmp_path / "imagnet"), "here")
    with pytest.raises(
        UserError, match=r"^here: there is no file .*; give a file, or the name of a list: openai, simple$"
    ):
        load_templates(str(tmp_path), "here")


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ({"a": ["x"], "b": ["y"]}, "", r"holds several lists \(a, b\); give .*lists\.json#KEY"),
        ({"a": ["x"]}, "#c", "has no key 'c'; it has a"),
        (["x"], "#c", "holds no keys; leave out #c"),
        ({"a": {"x": 1}}, "#a", "#a is an object; it must be a list"),
        ("x", "", "is a text; it must be a list"),
        (None, "", "is a number or null; it must be a list"),
        ([], "", "is empty"),
        ([1], "", "entry 0 is 1; a class is a name or a list of names"),
        ([["x", None]], "", "entry 0 is .*; a class is a name or a list of names"),
    ],
)
def test_json_of_another_form_is_refused(content: Any, key: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_class_names(json_file(tmp_path, content) + key, "here")


@pytest.mark.parametrize("content", [b"[" * 100_000, b'["a"', b"\xff[]"])
def test_a_damaged_json_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_bytes(content)
    with pytest.raises(UserError, match=r"lists\.json is not (JSON|UTF-8)"):
        load_class_names(str(tmp_path / "lists.json"), "here")


@case("Evaluation", "a template without a place for the class name", "refused with the template", exit_code=2)
def test_a_template_without_a_place_for_the_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the template 'a photo' has no \{c\}"):
        load_templates(text_file(tmp_path, "a {}\na photo\n"), "here")


def test_prompts_of_single_classes_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a template is a text\. Prompts of single classes are given as class_names"):
        load_templates(json_file(tmp_path, [{"tench": ["a fish"]}]), "here")


def test_templates_that_are_all_blank_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^here: all templates are blank; give texts with \{c\} for the class name$"):
        load_templates(json_file(tmp_path, ["", " "]), "here")
