"""What a look refuses, and what it says about ambiguous data."""

import json
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from laclip_ray.survey.describing import describe
from laclip_ray.survey.facts import Facts
from laclip_ray.survey.looking import look
from tests import layouts
from tests.unit.conftest import picture, write_tar


def facts_of(path: Path | str, tmp_path: Path) -> Facts:
    return look(str(path), str(tmp_path / "pairs.jsonl"))


def refusal(path: Path, tmp_path: Path) -> str:
    with pytest.raises(UserError) as caught:
        facts_of(path, tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_without_captions_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "set" / f"class{number}").mkdir(parents=True)
        (tmp_path / "set" / f"class{number}" / "a.jpg").write_bytes(picture("JPEG"))
    message = refusal(tmp_path / "set", tmp_path)
    assert "pictures (3) without captions; put a text file beside each" in message
    assert "evaluate.labelled" in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("captions.json", "write JSON arrays as JSON lines"),
        ("captions.csv.gz", "unpack compressed tables"),
        ("notes.md", "it holds 1 .md"),
    ],
)
def test_files_of_no_format_are_refused_with_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_text("[]")
    assert message in refusal(tmp_path / "set", tmp_path)


def test_tars_of_labels_are_refused_with_their_members(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("a.jpg", picture("JPEG")), ("a.cls", b"0")])
    message = refusal(path, tmp_path)
    assert "members: jpg, cls" in message
    assert "evaluate.labelled" in message


def test_tars_without_a_caption_are_refused_with_the_reasons(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("a.jpg", picture("JPEG")), ("a.txt", b" "), ("b.jpg", b"x"), ("b.txt", b"")])
    message = refusal(path, tmp_path)
    assert message == (
        "data: none of the 2 rows looked at has a caption (2 caption_empty, 1 image_unreadable); give data with "
        "captions"
    )


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_a_table_without_rows_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"caption": pa.array([], pa.string())}), path)
    else:
        path.write_text("url,caption\n" if path.suffix == ".csv" else "\n")
    assert f"data.path: {path} holds no rows; give a table with a row for each picture" in refusal(path, tmp_path)


def test_a_broken_parquet_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    assert "rows.parquet is not readable as Parquet" in refusal(tmp_path / "rows.parquet", tmp_path)


def test_a_table_without_texts_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"width": [1, 2], "height": [3, 4]}), tmp_path / "a.parquet")
    assert "no column of texts (columns: width, height)" in refusal(tmp_path / "a.parquet", tmp_path)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none", tmp_path)


def test_the_format_of_most_bytes_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    layouts.hugging_face_parquet(tmp_path / "set")
    (tmp_path / "set" / "notes.csv").write_text("a,b\n1,2\n")
    facts = facts_of(tmp_path / "set", tmp_path)
    assert facts.data.format == "parquet"
    assert any("also holds csv" in note for note in facts.notes)


def with_split(path: Path, name: str) -> None:
    """A further split with the pictures of the first."""
    content = (path / "train-00000-of-00001.parquet").read_bytes()
    (path / f"{name}-00000-of-00001.parquet").write_bytes(content)


def test_the_split_for_training_is_read_and_the_one_for_tests_measured(tmp_path: Path) -> None:
    layouts.hugging_face_parquet(tmp_path / "set")
    with_split(tmp_path / "set", "test")
    facts = facts_of(tmp_path / "set", tmp_path)
    assert facts.rows.count == layouts.PAIRS
    assert facts.data.path == str(tmp_path / "set" / "train-*.parquet")
    assert facts.evaluated is not None
    assert (facts.evaluated.name, facts.evaluated.rows.count) == ("test", layouts.PAIRS)
    assert facts.evaluated.data == facts.data.model_copy(update={"path": str(tmp_path / "set" / "test-*.parquet")})


def test_paths_of_a_measured_split_start_from_its_own_directory(tmp_path: Path) -> None:
    layouts.imagefolder(tmp_path / "set")
    shutil.copytree(tmp_path / "set" / "train", tmp_path / "set" / "validation")
    facts = facts_of(tmp_path / "set", tmp_path)
    assert facts.evaluated is not None
    (shard,) = list_shards(facts.evaluated.data)
    assert all(sample.image for sample in read_samples(shard, facts.evaluated.data, with_images=True))
    assert shard.url.startswith(str(tmp_path / "set" / "validation"))


def test_splits_beside_files_of_none_are_read_together_and_named(tmp_path: Path) -> None:
    layouts.hugging_face_parquet(tmp_path / "set")
    for name in ("test", "more"):
        with_split(tmp_path / "set", name)
    facts = facts_of(tmp_path / "set", tmp_path)
    assert (facts.rows.count, facts.evaluated) == (3 * layouts.PAIRS, None)
    told = f"read together (test, train); give the one to train on, such as {tmp_path / 'set' / 'train-*.parquet'}"
    assert any(told in note for note in facts.notes)


def test_names_that_images_carry_are_ids(tmp_path: Path) -> None:
    layouts.hugging_face_parquet(tmp_path / "set")
    assert facts_of(tmp_path / "set", tmp_path).data.id_column == "image.path"


def test_other_columns_that_could_be_meant_are_named(tmp_path: Path) -> None:
    table = {"url": ["http://h/1.jpg"] * 3, "caption": ["a cat sits"] * 3, "title": ["a cat"] * 3}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    lines = [*describe(facts_of(tmp_path / "a.parquet", tmp_path))]
    assert any("'caption': by its name (others: 'title')" in line for line in lines)


def test_image_paths_that_do_not_exist_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": "gone.jpg", "caption": "a cat"}) + "\n")
    facts = facts_of(tmp_path / "a.jsonl", tmp_path)
    assert any("set data.image_root" in note for note in facts.notes)


def test_names_from_data_are_printed_escaped(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption\x1b[31m": ["a cat sits", "a dog sits"]}), tmp_path / "a.parquet")
    assert not any("\x1b" in line for line in describe(facts_of(tmp_path / "a.parquet", tmp_path)))


def test_pictures_that_img2dataset_wrote_as_files_are_preferred_to_their_urls(tmp_path: Path) -> None:
    layouts.pictures_with_texts(tmp_path / "set")
    layouts.parquet_of_urls(tmp_path / "set")
    facts = facts_of(tmp_path / "set", tmp_path)
    assert facts.data.path == str(tmp_path / "pairs.jsonl")
    assert any("not read: parquet" in note for note in facts.notes)


def test_a_table_that_names_the_pictures_is_preferred_to_text_files(tmp_path: Path) -> None:
    layouts.pictures_with_texts(tmp_path / "set")
    layouts.imagefolder(tmp_path / "set")
    facts = facts_of(tmp_path / "set", tmp_path)
    assert facts.data.image_column == "file_name"
    assert any("a text file beside them, which are not read: 24" in note for note in facts.notes)


def test_lonely_pictures_and_texts_are_counted(tmp_path: Path) -> None:
    directory = Path(layouts.pictures_with_texts(tmp_path / "set")) / "a"
    (directory / "lonely.jpg").write_bytes(picture("JPEG"))
    (directory / "readme.txt").write_text("no caption")
    notes = "\n".join(facts_of(tmp_path / "set", tmp_path).notes)
    assert "pictures without a text file of their name, which are not read: 1" in notes
    assert "text files without a picture of their name, which are not read: 1" in notes


@pytest.mark.parametrize("layout", [layouts.webdataset, layouts.csv_of_paths, layouts.pictures_with_texts],
                         ids=lambda layout: layout.__name__)  # fmt: skip
def test_urls_are_looked_at_like_local_paths(layout: layouts.Layout, tmp_path: Path) -> None:
    given = Path(layout(tmp_path / "set")).relative_to(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path / 'set'}/", "/survey/set", recursive=True)
    try:
        facts = facts_of(f"memory://survey/{given}", tmp_path)
        images = [
            sample.image
            for shard in list_shards(facts.data)
            for sample in read_samples(shard, facts.data, with_images=True)
        ]
    finally:
        memory.rm("/survey", recursive=True)
    assert {*images} == {layouts.picture(number) for number in range(layouts.PAIRS)}


def test_many_tars_are_counted_by_the_bytes_of_some(tmp_path: Path) -> None:
    for shard in range(20):
        members = [(f"{row}.{kind}", picture("JPEG") if kind == "jpg" else b"a cat") for row in range(5)
                   for kind in ("jpg", "txt")]  # fmt: skip
        write_tar(tmp_path / "set" / f"{shard:02}.tar", members)
    rows = facts_of(tmp_path / "set", tmp_path).rows
    assert (rows.count, rows.is_exact) == (100, False)
    assert rows.describe() == "about 100 samples (estimated from 8 of 20 tars)"
