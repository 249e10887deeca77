"""The first rows of a table show its delimiter, and whether quotes enclose fields."""

import csv
import io
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig, Format, Quoting
from laclip_ray.data.csv_records import Dialect
from laclip_ray.data.dialect import detect_dialect
from laclip_ray.data.lines import TextForm, split_lines
from tests.cases import case

RAW = Dialect("\t", is_quoted=False)
QUOTED = Dialect("\t", is_quoted=True)


def detect(content: str, file_format: str = "tsv", **settings: Any) -> Dialect:
    lines = list(split_lines([content.encode()], TextForm("utf-8", "\n")))
    return detect_dialect(lines, cast("Format", file_format), DataConfig(path="x", **settings))


TABS = {
    "nothing in quotes": ("plain\tu\n", RAW),
    "a quote within a field": ('12" vinyl\tu\n', RAW),
    "a caption that begins with a quotation": ('"Hello" he said\tu\n', RAW),
    "a caption that is a quotation": ('"hello"\tu\nplain, with a comma\tu\n', RAW),
    "an opening quote only": ('"hello\tu\nplain\tu\n', RAW),
    "doubled quotes": ('"a ""quoted"" cat"\tu\n', QUOTED),
    "a tab in quotes": ('"a\tb"\tu\n', QUOTED),
    "a line break in the first column": ('"a cat\non two lines"\tu\n', QUOTED),
    "a line break in the last column": ('u\t"a cat\non two lines"\n', QUOTED),
    "a quote for every field": ('"a"\t"u"\n"b"\t"v"\n"c"\t"w"\n', QUOTED),
    "quotes around commas only": ('"a, b"\tu\n"c, d"\tu\n"e, f"\tu\nplain\tu\n', QUOTED),
    "more ordinary quotes than enclosing ones": ('"a ""b"""\tu\n"Hello" he\tu\n"Oh" she\tu\n', RAW),
}


@pytest.mark.parametrize("kind", TABS)
def test_rows_show_whether_quotes_enclose_the_fields_between_tabs(kind: str) -> None:
    rows, expected = TABS[kind]
    assert detect("caption\turl\n" + rows) == expected
    assert detect(rows, columns=["caption", "url"]) == expected


def test_a_header_in_quotes_shows_that_quotes_enclose_fields() -> None:
    assert detect('"caption"\t"url"\n"a"\tu\n') == QUOTED


@given(
    rows=st.lists(
        st.lists(st.text(st.sampled_from('ab "\n\t'), min_size=1), min_size=2, max_size=2), min_size=1, max_size=8
    )
)
def test_a_written_table_is_read_as_it_was_written(rows: list[list[str]]) -> None:
    content = io.StringIO()
    csv.writer(content, delimiter="\t", lineterminator="\n").writerows([["caption", "url"], *rows])
    written = content.getvalue()
    # Without a doubled quote, and with two fields in each line, quotes may be ordinary characters.
    is_ambiguous = '""' not in written and all(line.count("\t") == 1 for line in written.splitlines() if line)
    if not is_ambiguous:
        assert detect(written) == (QUOTED if '"' in written else RAW)


@case("Reading data", "open_clip's default layout: tabs in a file named .csv", "the delimiter is found by the columns")
@pytest.mark.parametrize("delimiter", "\t,;|")
@pytest.mark.parametrize("file_format", ["csv", "tsv"])
def test_the_delimiter_is_the_one_that_gives_the_configured_columns(delimiter: str, file_format: str) -> None:
    content = f"filepath{delimiter}title\nimg/0.jpg{delimiter}a, b; c\n"
    found = detect(content, file_format, caption_column="title", image_column="filepath")
    assert found.delimiter == delimiter
    content = f"img/0.jpg{delimiter}a cat\n" * 3
    assert detect(content, file_format, columns=["filepath", "title"]).delimiter == delimiter


def test_the_formats_own_delimiter_is_kept_if_it_gives_the_columns() -> None:
    assert detect("caption,a\tb\nx,y\tz\n", "csv") == Dialect(",", is_quoted=True)
    assert detect("nosuch,column\n", "csv") == Dialect(",", is_quoted=True)
    assert detect("", "csv") == Dialect(",", is_quoted=True)


@case("Reading data", "data.quoting is set", "the setting decides the meaning of quotes, not the first rows")
@pytest.mark.parametrize("quoting", ["standard", "none"])
@pytest.mark.parametrize(("rows", "found"), TABS.values())
def test_the_setting_overrides_what_the_rows_show(quoting: Quoting, rows: str, found: Dialect) -> None:
    assert detect("caption\turl\n" + rows, quoting=quoting) == Dialect("\t", quoting == "standard")
    assert detect("caption,url\n", "csv", quoting=quoting) == Dialect(",", quoting == "standard")
