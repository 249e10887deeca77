"""Byte ranges of a text table give every record once."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.shards import list_shards, read_samples
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


@pytest.mark.parametrize("bad", [b"foo\rbar,u\n", b"x" * 140_000 + b",u\n", b"too few\n"])
def test_reading_continues_after_an_invalid_csv_row(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"url,caption\n" + bad + b"v,good\n")
    for at_most in (1, 10):
        data = DataConfig(path=str(tmp_path), max_rows_per_shard=at_most)
        samples = read(data, with_images=False)
        assert [sample.problems for sample in samples] == [(records.CAPTION_MISSING,), ()]
        assert samples[1].caption == "good"


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption\n", encoding="utf-8")
    assert "holds no rows" in refused(DataConfig(path=str(tmp_path)))


def test_more_names_than_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\tu1\n", encoding="utf-8")
    message = refused(DataConfig(path=str(tmp_path), columns=["caption", "url", "more"]))
    assert "2 columns in its first row, 3 are named" in message


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"caption,url\na boat,http://x/1\n")
    data = DataConfig(path=str(path))
    (shard,) = list_shards(data)
    assert [(sample.id, sample.caption) for sample in read_samples(shard, data, False)] == [("http://x/1", "a boat")]
