"""A row of any table becomes a sample with its id."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.records import Shard, hash_caption
from laclip_ray.data.shards import list_shards
from laclip_ray.data.table_rows import refuse_defects
from laclip_ray.errors import UserError
from tests.cases import case
from tests.unit.data.files import captions, ids, read, refused, write_parquet, write_table


@pytest.mark.parametrize(
    ("fields", "id_column", "expected"),
    [
        ({"key": 7, "image": "x.png", "url": "u"}, "key", "7"),
        ({"key": None, "image": "x.png", "url": "u"}, "key", "x.png"),
        ({"key": "", "image": None, "url": "u"}, "key", "u"),
        ({"key": 0, "image": "x.png", "url": "u"}, "key", "0"),
        ({"image": "x.png", "url": "u"}, None, "x.png"),
        ({"image": None, "url": "u"}, None, "u"),
        ({"image": None, "url": ""}, None, hash_caption("one")),
        ({"key": float("nan"), "image": None, "url": "u"}, "key", "u"),
        ({"key": 7.5, "image": "x.png"}, "key", "7.5"),
    ],
)
def test_the_id_is_the_first_candidate_with_a_value(
    fields: dict[str, Any], id_column: str | None, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": "one", **fields}), encoding="utf-8")
    data = DataConfig(path=str(tmp_path), image_column="image", id_column=id_column)
    assert ids(read(data)) == [expected] == ids(read(data, with_images=False))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("key", ["caption_column", "image_column", "id_column"])
def test_a_missing_column_is_refused_with_the_present_columns(kind: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, {"caption": ["one"], "url": ["u"]})
    else:
        write_table(path, kind, ["one"])
    message = refused(DataConfig(path=str(path)).model_copy(update={key: "nosuch"}))
    assert message.startswith(f"data.{key}: ")
    assert "no column 'nosuch'; it has caption, url" in message


@case(
    "Reading data",
    "a null, NaN or empty id",
    "the row gets the id it would have without the setting",
    "-",
    "id_missing",
)
@pytest.mark.parametrize("value", ["null", "NaN", '""'])
def test_a_row_without_its_id_is_used_and_noted(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        f'{{"caption": "one", "key": {value}, "url": "u"}}\n{{"caption": "two", "key": 1}}\n', encoding="utf-8"
    )
    without, with_id = read(DataConfig(path=str(tmp_path), id_column="key"), with_images=False)
    assert (without.id, without.caption, without.problems) == ("u", "one", (records.ID_MISSING,))
    assert (with_id.id, with_id.problems) == ("1", ())


def lists_of_captions(directory: Path, kind: str, captions: list[Any]) -> DataConfig:
    """A table with the columns `caption` and `image`; of each row the image exists."""
    for number in range(len(captions)):
        (directory / f"{number}.jpg").write_bytes(b"picture %d" % number)
    paths = [f"{number}.jpg" for number in range(len(captions))]
    if kind == "parquet":
        data = write_parquet(directory / "a.parquet", {"caption": captions, "image": paths})
    else:
        rows = [json.dumps({"caption": value, "image": path}) for value, path in zip(captions, paths, strict=True)]
        (directory / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
        data = DataConfig(path=str(directory / "a.jsonl"))
    return data.model_copy(update={"image_column": "image"})


@case("Reading data", "a list of captions with data.captions: first", "its first text with a word is used")
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_first_text_of_a_list_is_the_caption(kind: str, tmp_path: Path) -> None:
    data = lists_of_captions(tmp_path, kind, [["a cat", "the cat"], ["", None, "a dog"], [], None, [" "]])
    samples = read(data)
    assert captions(samples) == ["a cat", "a dog", "", "", ""]
    assert ids(samples) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert [sample.problems for sample in samples] == [
        (),
        (),
        (records.CAPTION_MISSING,),
        (records.CAPTION_MISSING,),
        (records.CAPTION_EMPTY,),
    ]


@case("Reading data", "a list of captions with data.captions: all", "a row for each caption, with a common image")
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_caption_of_a_list_is_a_row_with_the_common_image(kind: str, tmp_path: Path) -> None:
    data = lists_of_captions(tmp_path, kind, [["a cat", "the cat"], ["a dog"], ["a bird", "", "birds"], []])
    data = data.model_copy(update={"captions": "all"})
    samples = read(data)
    assert [(sample.row, sample.id, sample.caption, sample.caption_number) for sample in samples] == [
        (0, "0.jpg", "a cat", 0),
        (1, "0.jpg#caption2", "the cat", 1),
        (2, "1.jpg", "a dog", 0),
        (3, "2.jpg", "a bird", 0),
        (4, "2.jpg#caption2", "", 1),
        (5, "2.jpg#caption3", "birds", 2),
        (6, "3.jpg", "", 0),
    ]
    assert [sample.image for sample in samples[:4]] == [b"picture 0", b"picture 0", b"picture 1", b"picture 2"]
    assert {sample.image_path for sample in samples[:2]} == {"0.jpg"}
    assert [sample.problems for sample in samples] == [
        (), (), (), (), (records.CAPTION_EMPTY,), (), (records.CAPTION_MISSING,)
    ]  # fmt: skip
    without = read(data, with_images=False)
    assert [(sample.row, sample.id, sample.caption) for sample in samples] == [
        (sample.row, sample.id, sample.caption) for sample in without
    ]


@pytest.mark.parametrize("choice", ["first", "all"])
def test_one_text_is_one_row_even_with_several_lines(choice: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": "a cat\\nthe cat", "url": "u"}\n', encoding="utf-8")
    (sample,) = read(DataConfig.model_validate({"path": str(tmp_path), "captions": choice}), with_images=False)
    assert (sample.id, sample.caption, sample.problems) == ("u", "a cat\nthe cat", (records.CAPTION_LINE_BREAK,))


@case(
    "Reading data", "a table that grows past max_rows_per_shard", "its first range keeps the file's name and rewrites"
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_growing_table_keeps_the_names_of_its_ranges(kind: str, tmp_path: Path) -> None:
    def names(rows: int) -> list[str]:
        texts = [f"caption {number}" for number in range(rows)]
        if kind == "parquet":
            data = write_parquet(tmp_path / "a.parquet", {"caption": texts})
        else:
            data = write_table(tmp_path / f"a.{kind}", kind, texts)
        return [shard.name for shard in list_shards(data.model_copy(update={"max_rows_per_shard": 10}))]

    assert names(10) == [f"a.{kind}"]
    assert names(11) == [f"a.{kind}", f"a.{kind}.000000010"]
    assert names(30) == [f"a.{kind}", f"a.{kind}.000000010", f"a.{kind}.000000020"]


@case("Reading data", "one file of a data set has a defect", "the other files are read")
def test_only_a_data_set_whose_files_all_have_a_defect_is_refused() -> None:
    bad = Shard("a.csv", "/a.csv", "csv", defect="data.path: a.csv is broken")
    good = Shard("b.csv", "/b.csv", "csv")
    refuse_defects([bad, good])
    with pytest.raises(UserError, match=r"a\.csv is broken$"):
        refuse_defects([bad])
    with pytest.raises(UserError, match=r"a\.csv is broken\. The other files \(1\) cannot be used either"):
        refuse_defects([bad, replace(bad, name="b.csv", url="/b.csv")])
