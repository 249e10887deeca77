"""The choice of columns: content decides what a column can be, its name decides among several."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.survey.columns import Column, Kind, choose_columns, kind_of, lacks_header, name_columns
from tests.unit.conftest import picture

TEXT = ["a red fox in the snow", "an owl", "two hares on a hill"]
URLS = [f"https://h/{number}.jpg" for number in range(3)]
PATHS = [f"a/{number}.PNG" for number in range(3)]
BYTES = [picture("JPEG")] * 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (TEXT, Kind.TEXTS),
        (URLS, Kind.URLS),
        (PATHS, Kind.PATHS),
        (BYTES, Kind.IMAGES),
        ([{"bytes": BYTES[0], "path": None}], Kind.IMAGES),
        ([TEXT, TEXT], Kind.LISTS),
        ([1, 2, 3], Kind.OTHER),
        ([b"\x00\x01", b"\x02"], Kind.OTHER),
        ([None, None], Kind.OTHER),
        ([None, *TEXT], Kind.TEXTS),
    ],
)
def test_kinds_are_told_by_values(values: list[Any], kind: Kind) -> None:
    assert kind_of(Column("x", values)) is kind


@pytest.mark.parametrize(
    ("columns", "caption", "image", "sample_id"),
    [
        ({"caption": TEXT, "url": URLS}, "caption", "url", None),
        ({"url": URLS, "TEXT": TEXT, "title": TEXT}, "TEXT", "url", None),
        ({"a": ["x", "y", "z"], "b": TEXT}, "b", None, None),
        ({"text": TEXT, "image": BYTES, "url": URLS}, "text", "image", None),
        ({"text": TEXT, "image": BYTES, "id": [1, 2, 3]}, "text", "image", "id"),
        ({"text": TEXT, "image": BYTES, "id": [1, 1, 2]}, "text", "image", None),
        ({"text": TEXT, "image_path": PATHS, "id": [1, 2, 3]}, "text", "image_path", None),
        ({"number": [1, 2, 3]}, None, None, None),
    ],
)
def test_columns_are_chosen(
    columns: dict[str, list[Any]], caption: str | None, image: str | None, sample_id: str | None
) -> None:
    chosen = choose_columns([Column(name, values) for name, values in columns.items()])
    names = [choice and choice.name for choice in (chosen.caption, chosen.image, chosen.id)]
    assert names == [caption, image, sample_id]


@given(st.permutations(["caption", "text", "title", "url", "image", "id"]))
def test_the_choice_does_not_depend_on_the_order_of_columns(names: list[str]) -> None:
    values: dict[str, list[Any]] = {"url": URLS, "image": BYTES, "id": [1, 2, 3]}
    chosen = choose_columns([Column(name, values.get(name, TEXT)) for name in names])
    assert chosen.caption is not None
    assert chosen.image is not None
    assert (chosen.caption.name, chosen.image.name) == ("caption", "image")
    assert chosen.caption.alternatives == ("text", "title")


@pytest.mark.parametrize(
    ("rows", "has_none"),
    [
        ([["caption", "url"], ["a cat", URLS[0]]], False),
        ([["a cat", URLS[0]], ["a dog", URLS[1]]], True),
        ([["a cat sits on a mat", "1"], ["a dog", "2"]], True),
        ([["text"], ["a cat"]], False),
        ([], False),
    ],
)
def test_a_missing_header_is_noticed(rows: list[list[str]], has_none: bool) -> None:
    assert lacks_header(rows) is has_none


def test_columns_without_a_header_get_names() -> None:
    rows = [["1", text, url] for text, url in zip(TEXT, URLS, strict=True)]
    assert name_columns(rows) == ["column1", "caption", "url"]
