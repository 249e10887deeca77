"""Hostile captions stay in their cells of a Markdown table."""

import re

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.tracking.markdown import table_text, values_text
from laclip_ray.tracking.tracker import Picture, Table


@given(st.lists(st.tuples(st.text(), st.floats(), st.none()), max_size=5))
def test_a_table_has_a_line_a_row_and_as_many_cells_as_columns(rows: list[tuple[str, float, None]]) -> None:
    lines = table_text(Table("t", ["caption", "score", "note"], rows)).split("\n")
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 4


@given(st.text())
def test_no_text_is_markup(text: str) -> None:
    cell = table_text(Table("t", ["caption"], [[text]])).split("\n")[2]
    assert "<" not in cell
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]!`]", cell)


def test_a_long_text_is_cut() -> None:
    assert len(values_text({"caption": "x" * 10_000})) < 1_000


def test_pictures_are_left_out() -> None:
    table = Table("t", ["picture", "caption"], [[Picture(b"1"), "a"], [None, "b"]])
    assert table_text(table) == "| caption |\n| --- |\n| a |\n| b |"
