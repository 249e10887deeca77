"""Byte ranges of a text table give every record once."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.shards import list_shards, read_samples
from tests.cases import case
from tests.unit.data.files import captions, ids, read, refused, write_table


def test_csv_with_quoted_line_breaks_gives_whole_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('caption,url\n"one\ntwo, ""three""",u1\n\nfour,u2\n', encoding="utf-8")
    first, second = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert (first.id, first.caption, first.problems) == ("u1", 'one\ntwo, "three"', (records.CAPTION_LINE_BREAK,))
    assert (second.id, second.caption, second.problems) == ("u2", "four", ())


def test_tsv_without_a_header_takes_its_columns_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('one "quoted\tu1\ntwo\tu2\n', encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path), columns=["caption", "url"]), with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [("u1", 'one "quoted'), ("u2", "two")]


def test_tsv_with_a_header_takes_its_columns_from_it(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("url\tcaption\nu1\tone\n", encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [("u1", "one")]


def test_json_lines_have_a_row_for_each_line_that_has_text(tmp_path: Path) -> None:
    lines = ['{"caption": "one", "url": "u1"}', "", "{broken", "[1]", '{"caption": "é"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert captions(samples) == ["one", "", "", "é"]
    assert [sample.problems[:1] for sample in samples] == [
        (),
        (records.CAPTION_MISSING,),
        (records.CAPTION_MISSING,),
        (),
    ]


table_texts = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1).filter(
        lambda text: text.strip() != ""
    )
    | st.sampled_from(["a\nb", 'a "quoted", b', '"', "é\n\n=> \u2028 x"]),
    min_size=1,
    max_size=12,
)


@given(texts=table_texts, kind=st.sampled_from(["csv", "tsv", "jsonl"]), at_most=st.integers(1, 5))
def test_byte_ranges_of_a_table_give_all_rows_of_the_file(
    texts: list[str], kind: str, at_most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if kind == "tsv":
        texts = [text.replace("\n", " ") for text in texts]
    data = write_table(tmp_path_factory.getbasetemp() / f"table.{kind}", kind, texts)
    whole = read(data, with_images=False)
    assert captions(whole) == texts
    assert ids(whole) == [f"u{number}" for number in range(len(texts))]
    cut = data.model_copy(update={"max_rows_per_shard": at_most})
    assert [(sample.id, sample.caption) for sample in read(cut, with_images=False)] == [
        (sample.id, sample.caption) for sample in whole
    ]
    assert [shard.row_count for shard in list_shards(cut)] == [
        min(at_most, len(texts) - start) for start in range(0, len(texts), at_most)
    ]


ROWS_THAT_ARE_LEFT_OUT = {
    "more fields than columns": (b"u,a cat, black and white\n", records.FIELDS_DIFFER),
    "fewer fields than columns": (b"too few\n", records.FIELDS_DIFFER),
    "an unclosed quote": (b'u,"never closed\n', records.UNCLOSED_QUOTE),
    "the column names again": (b"url,caption\n", records.HEADER_REPEATED),
    "the column names again, after a byte order mark": (codecs.BOM_UTF8 + b"url,caption\n", records.HEADER_REPEATED),
    "more bytes than the bound": (b"u," + b"x" * records.MAX_ROW_BYTES + b"\n", records.ROW_TOO_LONG),
}


@case(
    "Reading data", "a CSV row with more or fewer fields than the header", "the row is left out", "-", "fields_differ"
)
@case(
    "Reading data",
    "a CSV with an unclosed quote",
    "one row is left out; reading resumes after it",
    "-",
    "unclosed_quote",
)
@case("Reading data", "concatenated CSVs, each with its header", "the headers are left out", "-", "header_repeated")
@case(
    "Reading data", "a row of a text table over 16 MiB", "the row is left out, in bounded memory", "-", "row_too_long"
)
@pytest.mark.parametrize("kind", ROWS_THAT_ARE_LEFT_OUT)
def test_a_row_without_its_fields_is_left_out_and_named(kind: str, tmp_path: Path) -> None:
    bad, reason = ROWS_THAT_ARE_LEFT_OUT[kind]
    (tmp_path / "a.csv").write_bytes(b"url,caption\nu0,first\n" + bad + b"u2,last\n")
    for at_most in (1, 2, 10):
        samples = read(DataConfig(path=str(tmp_path), max_rows_per_shard=at_most), with_images=False)
        assert captions(samples) == ["first", "", "last"]
        assert [sample.problems for sample in samples] == [(), (reason,), ()]
        assert ids(samples) == ["u0", "a.csv#row1", "u2"]
        assert reason in records.NO_CAPTION


def test_a_row_is_left_out_with_and_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image,caption\na.jpg,one\nb.jpg\n"c.jpg,two\n', encoding="utf-8")
    data = DataConfig(path=str(tmp_path), image_column="image")
    assert ids(read(data)) == ids(read(data, with_images=False)) == ["a.jpg", "a.csv#row1", "a.csv#row2"]


@case("Reading data", "an unclosed quote before thousands of rows", "only its own row is lost", "-", "unclosed_quote")
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_an_unclosed_quote_does_not_swallow_the_rows_after_it(kind: str, tmp_path: Path) -> None:
    tab = "," if kind == "csv" else "\t"
    rows = [f"a caption number {number}{tab}u{number}\n" for number in range(5_000)]
    rows[7] = f'"never closed{tab}u7\n'
    rows[4_000] = f'"a caption with {tab} in quotes"{tab}u4000\n'
    (tmp_path / f"a.{kind}").write_text(f"caption{tab}url\n" + "".join(rows), encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path), quoting="standard"), with_images=False)
    assert len(samples) == 5_000
    assert [sample.row for sample in samples if sample.problems == (records.UNCLOSED_QUOTE,)] == [7]
    assert [sample.row for sample in samples if sample.problems] == [7]
    assert samples[4_000].caption == f"a caption with {tab} in quotes"


@pytest.mark.parametrize("row", ["a dog,u,,", "a dog,u"])
def test_empty_fields_at_the_end_of_a_row_do_not_count(row: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"caption,url,\n{row}\n", encoding="utf-8")
    (sample,) = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert (sample.id, sample.caption, sample.problems) == ("u", "a dog", ())


@case("Reading data", "a field of more than 128 KiB in a CSV", "the row is read, up to 16 MiB")
def test_a_large_field_is_read(tmp_path: Path) -> None:
    content = f'caption,image,url\na cat,{"A" * 200_000},u0\n"a, dog",{"B" * 2_000_000},u1\n'
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert [(sample.id, sample.caption, sample.problems) for sample in samples] == [
        ("u0", "a cat", ()),
        ("u1", "a, dog", ()),
    ]


def test_a_carriage_return_in_a_row_is_part_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"caption,url\nfoo\rbar,u0\nplain,u1\n")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert [(sample.caption, sample.problems) for sample in samples] == [
        ("foo\rbar", (records.CAPTION_LINE_BREAK,)),
        ("plain", ()),
    ]


@case(
    "Reading data", "a TSV that pandas or a spreadsheet wrote", "quoted tabs, quotes and line breaks are read as meant"
)
def test_a_tsv_with_quoted_fields_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = 'caption\turl\n"a ""quoted"" cat"\tu0\n"a cat\non two lines"\tu1\n12"" vinyl\tu2\n"a\ttab"\tu3\n'
    (tmp_path / "a.tsv").write_text(content.replace('12""', '12"'), encoding="utf-8")
    data = DataConfig(path=str(tmp_path))
    assert captions(read(data, False)) == ['a "quoted" cat', "a cat\non two lines", '12" vinyl', "a\ttab"]
    raw = data.model_copy(update={"quoting": "none"})
    assert read(raw, False)[0].caption == '"a ""quoted"" cat"'


@case("Reading data", "open_clip's CSV: tabs, quoted titles", "titles are read as pandas reads them")
def test_open_clips_layout_is_read(tmp_path: Path) -> None:
    content = 'filepath\ttitle\nimg/0.jpg\t"a sign ""stop"""\nimg/1.jpg\tplain\nimg/2.jpg\t"two\nlines"\n'
    (tmp_path / "train.csv").write_text(content, encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "train.csv"), image_column="filepath", caption_column="title")
    samples = read(data, with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [
        ("img/0.jpg", 'a sign "stop"'),
        ("img/1.jpg", "plain"),
        ("img/2.jpg", "two\nlines"),
    ]


@case("Reading data", "a table in UTF-16 or UTF-32, with or without a byte order mark", "its text is read")
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_tables_in_wide_encodings_are_read_by_ranges(kind: str, encoding: str, tmp_path: Path) -> None:
    texts = ["one", "zwei Stühle", "三 只猫", "\U0001f34e", "five"]
    data = write_table(tmp_path / f"a.{kind}", kind, texts)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    samples = read(data.model_copy(update={"max_rows_per_shard": 2}), with_images=False)
    assert captions(samples) == texts
    assert ids(samples) == [f"u{number}" for number in range(len(texts))]


@case("Reading data", "a table with the line ends of old Macs", "its rows are read")
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_carriage_return_alone_may_end_lines(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    data = write_table(path, kind, ["one", "two", "three"])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    samples = read(data.model_copy(update={"max_rows_per_shard": 2}), with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [("u0", "one"), ("u1", "two"), ("u2", "three")]


@case("Reading data", "a table without its header among ones with it", "refused; data.columns is named", exit_code=2)
def test_a_table_without_its_header_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,url\none,u0\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("a dog,\x1b[31mhttp://h/1\na cat,http://h/2\n", encoding="utf-8")
    message = refused(DataConfig(path=str(tmp_path)))
    assert (
        f"data.caption_column: {tmp_path}/b.csv has no column 'caption'; it has a dog, '\\x1b[31mhttp://h/1'" in message
    )
    assert "If its first row holds data, name the columns in data.columns" in message


@case(
    "Reading data",
    "a table with its header, while data.columns is set",
    "the header is left out",
    "-",
    "header_repeated",
)
def test_a_header_is_not_read_as_a_row_where_columns_are_set(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,url\none,u0\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("two,u1\n", encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path), columns=["caption", "url"]), with_images=False)
    assert [(sample.caption, sample.problems) for sample in samples] == [
        ("", (records.HEADER_REPEATED,)),
        ("one", ()),
        ("two", ()),
    ]


@case("Reading data", "two columns with the configured name", "refused", exit_code=2)
def test_two_columns_of_the_configured_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,url,caption\na,u,b\n", encoding="utf-8")
    assert "data.caption_column: " in (message := refused(DataConfig(path=str(tmp_path))))
    assert "has 2 columns 'caption'" in message


NO_TABLES = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n",
    "an HTML page": b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n",
    "a gzip file": b"\x1f\x8b\x08\x00" + bytes(range(256)),
    "a zip archive": b"PK\x03\x04" + bytes(range(256)) + b"\n\n",
    "an XML document": b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>\n",
}


@case(
    "Reading data", "a Git LFS pointer, HTML page or gzip file named as a table, alone", "refused; named", exit_code=2
)
@case("Reading data", "such a file among tables", "the file is a failed shard; the others are read", exit_code=3)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("columns", [None, ["caption", "url"]])
@pytest.mark.parametrize("what", NO_TABLES)
def test_a_file_that_is_no_table_is_named(what: str, columns: list[str] | None, kind: str, tmp_path: Path) -> None:
    if kind == "jsonl" and columns:
        return
    (tmp_path / f"a.{kind}").write_bytes(NO_TABLES[what])
    data = DataConfig(path=str(tmp_path), columns=columns)
    message = refused(data)
    assert message.startswith(f"data.path: {tmp_path}/a.{kind} is {what}")
    assert message.endswith(", not a table")
    write_table(tmp_path / f"b.{kind}", kind, ["one"])
    bad, good = list_shards(data)
    assert bad.defect == message
    assert captions(read_samples(good, data, False))[-1] == "one"
    with pytest.raises(records.ShardUnreadableError, match="not a table"):
        next(read_samples(bad, data, False))


@case("Reading data", "a table whose rows all have another number of fields than its header", "refused", exit_code=2)
def test_a_header_that_no_row_fits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,url\n1,a cat,u0\n2,a dog,u1\n", encoding="utf-8")
    assert "names 2 columns, but no row has as many fields (fields_differ); its first row has 3" in refused(
        DataConfig(path=str(tmp_path))
    )


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption\n", encoding="utf-8")
    assert "holds no rows" in refused(DataConfig(path=str(tmp_path)))


def test_more_names_than_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\tu1\n", encoding="utf-8")
    message = refused(DataConfig(path=str(tmp_path), columns=["caption", "url", "more"]))
    assert "2 columns in its first row, 3 are named" in message


JSON_LINES = {
    "the first line is broken": '{"caption": "a c\n{"caption": "fine", "url": "u1"}\n',
    "the first line lacks the key": '{"other": 1}\n{"caption": "fine", "url": "u1"}\n',
    "the first line is no object": '[1]\n{"caption": "fine", "url": "u1"}\n',
    "the first line is nested too deeply": "[" * 20_000 + '\n{"caption": "fine", "url": "u1"}\n',
}


@case(
    "Reading data",
    "JSON lines whose first line is broken, or lacks the key",
    "the others are read",
    "-",
    "caption_missing",
)
@case("Reading data", "a JSON value nested 10,000 deep", "its row is left out", "-", "caption_missing")
@pytest.mark.parametrize("kind", JSON_LINES)
def test_the_first_json_line_does_not_decide_for_the_others(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(JSON_LINES[kind], encoding="utf-8")
    bad, good = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert (bad.caption, bad.problems) == ("", (records.CAPTION_MISSING,))
    assert (good.id, good.caption, good.problems) == ("u1", "fine", ())


@case("Reading data", "an integer of 5,000 digits in a JSON line", "the row is read")
def test_a_huge_integer_in_another_field_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"caption": "one", "n": {"9" * 5_000}, "m": NaN}}\n', encoding="utf-8")
    assert captions(read(DataConfig(path=str(tmp_path)), with_images=False)) == ["one"]


@case("Reading data", "JSON lines whose captions are all numbers, objects or null", "refused", exit_code=2)
@pytest.mark.parametrize(
    ("value", "named"), [("7", "a number"), ("null", "null"), ('{"en": "a"}', "an object"), ("[]", "null")]
)
def test_json_lines_without_a_text_are_refused(value: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"caption": {value}}}\n' * 3, encoding="utf-8")
    message = refused(DataConfig(path=str(tmp_path)))
    assert message == f"data.caption_column: {tmp_path}/a.jsonl: 'caption' is {named} in every row, not text"
    (tmp_path / "b.jsonl").write_text('{"caption": "one"}\n', encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert captions(samples) == ["", "", "", "one"]


@case("Reading data", "a JSON array in a file named .jsonl", "refused", exit_code=2)
@pytest.mark.parametrize("content", ['[{"caption": "a"}]\n', '[\n{"caption": "a"},\n]\n', "text\n"])
def test_a_file_without_json_objects_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    assert "holds no JSON object; JSON lines have one in each line" in refused(DataConfig(path=str(tmp_path)))


@case("Reading data", "data.columns with JSON lines, Parquet or WebDataset", "refused", exit_code=2)
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "webdataset"])
def test_only_columns_of_csv_and_tsv_can_be_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"caption": "one", "url": "u"}\n', encoding="utf-8")
    data = DataConfig.model_validate({"path": str(tmp_path / "a"), "format": kind, "columns": ["caption", "url"]})
    message = refused(data)
    assert message.startswith("data.columns: names the columns of CSV and TSV files without a header; ")
    assert f"is of format {kind}" in message


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"caption,url\na boat,http://x/1\n")
    data = DataConfig(path=str(path))
    (shard,) = list_shards(data)
    assert [(sample.id, sample.caption) for sample in read_samples(shard, data, False)] == [("http://x/1", "a boat")]
