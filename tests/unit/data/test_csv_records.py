"""Records are what a CSV writer wrote, and a quote that is never closed costs one row."""

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import csv_records
from laclip_ray.data.csv_records import Dialect, Record, Width, read_records
from laclip_ray.data.lines import TextForm, split_lines
from laclip_ray.data.records import ROW_TOO_LONG, UNCLOSED_QUOTE

COMMAS = Dialect(",", is_quoted=True)
TWO = Width(2, 2)


def read(content: str | bytes, dialect: Dialect = COMMAS, width: Width | None = TWO) -> list[Record]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_records(split_lines([raw], TextForm("utf-8", "\n")), dialect, width))


def fields(records: list[Record]) -> list[list[str]]:
    return [record[1] for record in records]


rows_of_two = st.lists(st.lists(st.text(st.sampled_from('ab,"\n \t')), min_size=2, max_size=2), max_size=6)


@given(rows=rows_of_two, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), delimiter=st.sampled_from(",\t"))
def test_records_are_the_rows_that_were_written(rows: list[list[str]], quoting: int, delimiter: str) -> None:
    content = io.StringIO()
    csv.writer(content, quoting=quoting, delimiter=delimiter, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    assert fields(read(content.getvalue(), Dialect(delimiter, is_quoted=True))) == rows


@given(content=st.text(st.sampled_from('ab,"\n\r'), max_size=60), is_quoted=st.booleans())
def test_records_of_any_text_are_the_same_from_every_record_on(content: str, is_quoted: bool) -> None:
    raw = content.encode()
    dialect = Dialect(",", is_quoted)
    whole = read(raw, dialect)
    only_offsets = read_records(split_lines([raw], TextForm("utf-8", "\n")), dialect, TWO, only_offsets=True)
    assert [record[0] for record in only_offsets] == [record[0] for record in whole]
    for number, (offset, _, _) in enumerate(whole):
        lines = split_lines([raw[offset:]], TextForm("utf-8", "\n"), offset)
        assert list(read_records(lines, dialect, TWO)) == whole[number:]


AFTER = {
    "plain rows": "".join(f"a caption {number},u{number}\n" for number in range(3_000)),
    "a row with quotes": '"a, b",u0\n' + "plain,u1\n" * 20,
    "every row with quotes": '"a","u"\n' * 20,
    "a quote in a later row": "plain,u\n" * 20 + 'size 12",u\n',
    "the end of the file": "",
    "one field a row": "plain\n" * 1_500,
}


@pytest.mark.parametrize("after", AFTER)
def test_an_unclosed_quote_costs_one_row(after: str) -> None:
    opened, *rest = read('"never closed,ub\n' + AFTER[after])
    assert opened == (0, [], UNCLOSED_QUOTE)
    assert fields(rest) == list(csv.reader(io.StringIO(AFTER[after])))
    assert all(problem is None for _, _, problem in rest)


def test_unclosed_quotes_may_follow_one_another() -> None:
    records = read('"one,u\n"two,u\nthree,u\n"four,u\n')
    assert [problem for _, _, problem in records] == [UNCLOSED_QUOTE, UNCLOSED_QUOTE, None, UNCLOSED_QUOTE]


@pytest.mark.parametrize("lines", [2, 500])
def test_a_quoted_field_may_have_many_lines(lines: int) -> None:
    text = "\n".join(f"line {number}, with a comma, or two" for number in range(lines))
    assert fields(read(f'"{text}",u\nb,v\n')) == [[text, "u"], ["b", "v"]]


def test_a_quoted_field_of_more_lines_than_the_bound_is_unclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "MAX_QUOTED_LINES", 3)
    assert fields(read('"a\nb\nc",u\n')) == [["a\nb\nc", "u"]]
    assert [problem for _, _, problem in read('"a\nb\nc\nd",u\n')] == [UNCLOSED_QUOTE, None, None, None]


def test_reading_a_file_takes_no_more_lines_than_the_bound_before_the_first_record() -> None:
    taken = 0

    def lines() -> Iterator[tuple[int, bytes]]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield number, b'"never closed' if number == 0 else b"no delimiter"

    next(read_records(lines(), COMMAS, TWO))
    assert taken <= csv_records.MAX_QUOTED_LINES + 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('12" vinyl,u', ['12" vinyl', "u"]),
        ('"Hello" he said,u', ["Hello he said", "u"]),
        ('a\rb,"c\rd"', ["a\rb", "c\rd"]),
        ('"",u', ["", "u"]),
        ("a\x00b,u", ["a\x00b", "u"]),
    ],
)
def test_quotes_and_returns_within_a_line_are_read_as_spreadsheets_do(line: str, expected: list[str]) -> None:
    assert fields(read(line + "\n")) == [expected]


def test_quotes_are_ordinary_without_quoting() -> None:
    assert fields(read('"a\tb"\n"c\td\n', Dialect("\t", is_quoted=False))) == [['"a', 'b"'], ['"c', "d"]]


@pytest.mark.parametrize("is_quoted", [False, True])
def test_a_line_that_is_too_long_is_one_record(is_quoted: bool) -> None:
    lines = iter([(0, b"a,b"), (4, None), (99, b"c,d")])
    assert list(read_records(lines, Dialect(",", is_quoted), TWO)) == [
        (0, ["a", "b"], None),
        (4, [], ROW_TOO_LONG),
        (99, ["c", "d"], None),
    ]


def test_columns_without_a_name_at_the_end_may_be_missing() -> None:
    width = Width.of(["", "caption", "", ""])
    assert width == (2, 4)
    assert [width.fits(["x"] * count) for count in range(7)] == [False, False, True, True, True, False, False]
    assert width.fits(["x", "x", "", "", ""])
