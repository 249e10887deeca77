"""A row of any table becomes a sample with its id."""

import json
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import DataConfig
from laclip_ray.data.records import hash_caption
from tests.unit.data.files import ids, read, refused, write_parquet, write_table


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
