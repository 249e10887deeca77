"""Labelled sets as Parquet files of the Hub and as CSV files: columns, splits, classes, and damage."""

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import LabelledConfig
from laclip_ray.data.image_sources import IMAGE_OUTSIDE_ROOT
from laclip_ray.data.records import FIELDS_DIFFER, IMAGE_MISSING, ShardUnreadableError
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets import tables
from laclip_ray.evaluation.sets.labelled_set import open_labelled_set, read_labelled
from tests.cases import case
from tests.unit.conftest import picture
from tests.unit.evaluation.sets.examples import NAMES, images_of, labels_by_id, labels_of, make_csv, make_parquet


def config_of(path: Path, **settings: Any) -> LabelledConfig:
    return LabelledConfig(**{"name": "animals", "path": str(path), "templates": "simple", **settings})


def test_a_file_of_the_hub_has_its_class_names_labels_and_images(tmp_path: Path) -> None:
    make_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [2, 0])
    config = config_of(tmp_path)
    assert open_labelled_set(config).class_names == [[name] for name in NAMES]
    assert labels_of(config) == [(2,), (0,)]
    assert [image.image for image in images_of(open_labelled_set(config))] == [picture(width=10), picture(width=11)]


def test_the_names_of_files_and_directories_tell_the_split(tmp_path: Path) -> None:
    for number, name in enumerate(("test-00000-of-00002", "data/test-00001-of-00002-a1b2", "test/0000", "test")):
        make_parquet(tmp_path / f"{name}.parquet", [number % 3])
    make_parquet(tmp_path / "train-00000-of-00001.parquet", [0] * 5)
    make_parquet(tmp_path / "partial-test" / "0000.parquet", [0] * 5)
    config = config_of(tmp_path, train_split="train", neighbours={})
    assert len(labels_of(config)) == 4
    assert len(labels_of(config, "train")) == 5
    assert len({shard.name for shard in open_labelled_set(config).splits["test"]}) == 4


def test_ids_are_unique_in_a_split_of_several_files(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test-00000-of-00002.parquet", [0, 1])
    make_parquet(tmp_path / "test-00001-of-00002.parquet", [0, 1])
    ids = [image.id for image in images_of(open_labelled_set(config_of(tmp_path)))]
    assert ids == [f"test-0000{file}-of-00002.parquet#row{row}" for file in (0, 1) for row in (0, 1)]


@case("Evaluation", "tables without the split that is read", "refused; the message lists the files", exit_code=2)
def test_files_of_other_splits_only_are_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path / "train-00000-of-00001.parquet", [0, 1])
    with pytest.raises(
        UserError, match=r"no file is named by the split 'test' .*; there are train-00000-of-00001\.parquet"
    ):
        open_labelled_set(config_of(tmp_path))


def test_a_file_whose_path_is_given_is_the_split_that_is_read(tmp_path: Path) -> None:
    path = make_parquet(tmp_path / "train-00000-of-00001.parquet", [0, 1])
    assert labels_of(config_of(path)) == [(0,), (1,)]


def test_files_that_name_no_split_are_the_only_one_that_is_read(tmp_path: Path) -> None:
    make_parquet(tmp_path / "animals.parquet", [0, 1])
    assert labels_of(config_of(tmp_path)) == [(0,), (1,)]
    with pytest.raises(
        UserError, match=r"does not tell the splits test, train: no file is named by one .*, and there is no"
    ):
        open_labelled_set(config_of(tmp_path, train_split="train", neighbours={}))


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("picture", "cls")])
def test_the_columns_of_images_and_labels_are_found(image: str, label: str, tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [1, 2], image=image, label=label)
    assert labels_of(config_of(tmp_path)) == [(1,), (2,)]


def test_configured_columns_are_read(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [1, 2], image="photo", label="kind")
    assert labels_of(config_of(tmp_path, image_column="photo", label_column="kind")) == [(1,), (2,)]


@case("Evaluation", "a table without a label column", "refused; the message lists the columns", exit_code=2)
def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [1], label="kind")
    with pytest.raises(
        UserError, match=r"none of the columns label, cls, fine_label; it has image, kind\. Set label_column"
    ):
        open_labelled_set(config_of(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "kind"}, "label_column: .* has no column 'kind'; it has image, label"),
        ({"image_column": "photo"}, "image_column: .* has no column 'photo'"),
        ({"label_column": "image"}, "column 'image' has type struct.*a label is a number or a text"),
    ],
)
def test_a_configured_column_that_does_not_fit_is_refused(
    settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    make_parquet(tmp_path / "test.parquet", [1])
    with pytest.raises(UserError, match=message):
        open_labelled_set(config_of(tmp_path, **settings))


def test_columns_that_may_both_be_the_image_are_refused(tmp_path: Path) -> None:
    table = pa.table({"a": [b"x"], "b": [b"y"], "label": [0]})
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"several columns that may be the image \(a, b\).*Set image_column"):
        open_labelled_set(config_of(tmp_path))


@pytest.mark.parametrize(
    ("labels", "label_type"),
    [
        ([1, 0], pa.int8()),
        ([1.0, 0.0], pa.float64()),
        (["snow owl", "red fox"], pa.string()),
        ([True, False], pa.bool_()),
    ],
)
def test_labels_may_be_numbers_of_any_type_or_names(labels: list[Any], label_type: Any, tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", labels, label_type=label_type)
    assert labels_of(config_of(tmp_path)) == [(1,), (0,)]


def test_missing_labels_are_not_usable(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [1, None, 0, -1, 3])
    assert labels_of(config_of(tmp_path)) == [(1,), None, (0,), None, None]


def test_labels_that_are_texts_are_the_classes_if_nothing_names_them(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", ["snow_owl", "hare", "snow_owl"], names=None)
    make_parquet(tmp_path / "train.parquet", ["red fox"], names=None)
    config = config_of(tmp_path, train_split="train", neighbours={})
    assert open_labelled_set(config).class_names == [["hare"], ["red fox"], ["snow owl"]]
    assert labels_of(config) == [(2,), (0,), (2,)]


@case("Evaluation", "labels that are numbers, without class names", "refused; the message offers the named lists", 2)
def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [1, 0], names=None)
    with pytest.raises(UserError, match=r"has no class names; set class_names to a named list \(imagenet\)"):
        open_labelled_set(config_of(tmp_path))


def test_more_labels_than_a_set_has_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MOST_CLASSES", 3)
    make_csv(tmp_path / "test.csv", [(f"{number}.png", f"word {number}") for number in range(5)])
    with pytest.raises(
        UserError, match=r"test\.csv has more than 3 different labels; set label_column|has more than 3 "
    ):
        open_labelled_set(config_of(tmp_path))


def test_a_number_too_large_for_a_class_is_refused(tmp_path: Path) -> None:
    make_csv(tmp_path / "test.csv", [("0.png", "0"), ("1.png", "7000000")])
    make_csv(tmp_path / "train.csv", [("2.png", "1")])
    config = config_of(tmp_path, train_split="train", neighbours={}, zero_shot=False, templates=None)
    with pytest.raises(UserError, match=r"has the label 7,000,000; labels count from 0\. Set label_column"):
        open_labelled_set(config)


def test_numbers_without_names_are_classes_if_there_are_no_prompts(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [1, 0], names=None)
    make_parquet(tmp_path / "train.parquet", [3, 0], names=None)
    config = config_of(tmp_path, train_split="train", neighbours={}, zero_shot=False, templates=None)
    assert open_labelled_set(config).class_names == [["0"], ["1"], ["2"], ["3"]]
    assert labels_of(config, "train") == [(3,), (0,)]


def test_files_that_describe_different_classes_are_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test-00000-of-00002.parquet", [0])
    make_parquet(tmp_path / "test-00001-of-00002.parquet", [0], names=["owl", "fox"])
    with pytest.raises(UserError, match="describe different class names; set class_names"):
        open_labelled_set(config_of(tmp_path))


def test_several_labels_an_image_need_the_metric_of_several_labels(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [[2, 0], [], [1], None], label_type=pa.list_(pa.int64()))
    assert labels_of(config_of(tmp_path, metric="map")) == [(0, 2), (), (1,), None]
    with pytest.raises(UserError, match=r"has several labels an image .*; set metric: map"):
        open_labelled_set(config_of(tmp_path))


def test_lists_of_names_are_labels_too(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [["hare", "red fox"], ["badger"]], label_type=pa.list_(pa.string()))
    assert labels_of(config_of(tmp_path, metric="map")) == [(0, 2), None]


@pytest.mark.parametrize("layout", ["parquet", "csv"])
def test_a_table_is_cut_into_shards_that_hold_every_row_once(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS_OF_SHARD", 3)
    if layout == "parquet":
        make_parquet(tmp_path / "test.parquet", [number % 3 for number in range(10)], group_rows=2)
    else:
        make_csv(tmp_path / "test.csv", [(f"{number}.png", NAMES[number % 3]) for number in range(10)])
    config = config_of(tmp_path)
    shards = open_labelled_set(config).splits["test"]
    assert [shard.row_count for shard in shards] == ([4, 4, 2] if layout == "parquet" else [3, 3, 3, 1])
    assert len({shard.name for shard in shards}) == len(shards)
    assert len({*labels_by_id(config)}) == 10
    assert pickle.loads(pickle.dumps(shards)) == shards  # noqa: S301 - written by this test


@given(st.lists(st.integers(0, 30_000), max_size=20))
def test_ranges_of_row_groups_are_ascending_and_cut_only_large_groups(group_rows: list[int]) -> None:
    starts = tables._range_starts(sum(group_rows), group_rows)
    assert starts == sorted(set(starts))
    ends = [*starts[1:], sum(group_rows)]
    assert sum(end - start for start, end in zip(starts, ends, strict=False)) == sum(group_rows)
    if starts:
        assert starts[0] == 0
        assert max(end - start for start, end in zip(starts, ends, strict=True)) < 11_000
    boundaries = {sum(group_rows[:number]) for number in range(len(group_rows) + 1)}
    largest = max(group_rows, default=0)
    assert largest > 10_000 or boundaries.issuperset(starts)


@case(
    "Evaluation", "a broken Parquet file among the files of a split", "the others are measured", "-", "shard_unreadable"
)
def test_a_broken_parquet_file_costs_only_itself(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test-00000-of-00002.parquet", [0, 1])
    broken = make_parquet(tmp_path / "test-00001-of-00002.parquet", [0, 1])
    broken.write_bytes(broken.read_bytes()[:-50])
    first, second = open_labelled_set(config_of(tmp_path)).splits["test"]
    assert len(list(read_labelled(first))) == 2
    with pytest.raises(ShardUnreadableError, match="not readable as Parquet"):
        list(read_labelled(second))


@case("Evaluation", "a labelled set whose Parquet files are all broken", "refused with the first one", exit_code=2)
@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_a_set_of_broken_parquet_files_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"test\.parquet is not readable as Parquet"):
        open_labelled_set(config_of(tmp_path))


@case("Evaluation", "a table without rows", "refused", exit_code=2)
def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [], label_type=pa.int64())
    with pytest.raises(UserError, match="has no rows of split 'test'"):
        open_labelled_set(config_of(tmp_path))


def test_a_changed_table_has_other_shards(tmp_path: Path) -> None:
    make_parquet(tmp_path / "test.parquet", [0, 1])
    before = open_labelled_set(config_of(tmp_path)).splits
    make_parquet(tmp_path / "test.parquet", [0, 1, 1])
    assert open_labelled_set(config_of(tmp_path)).splits != before


def test_a_csv_names_images_and_labels(tmp_path: Path) -> None:
    make_csv(tmp_path / "test.csv", [("pictures/a.png", "owl"), ("pictures/b.png", "fox")])
    config = config_of(tmp_path)
    assert open_labelled_set(config).class_names == [["fox"], ["owl"]]
    assert labels_by_id(config) == {"pictures/a.png": (1,), "pictures/b.png": (0,)}
    assert [image.image for image in images_of(open_labelled_set(config))] == [picture(width=10), picture(width=11)]


def test_the_only_column_of_image_files_is_the_image(tmp_path: Path) -> None:
    make_csv(tmp_path / "test.csv", [("a.png", "x", "owl"), ("b.png", "y", "fox")], ["file", "note", "label"])
    assert labels_by_id(config_of(tmp_path)) == {"a.png": (1,), "b.png": (0,)}


def test_a_column_tells_the_split_if_no_file_does(tmp_path: Path) -> None:
    rows = [("a.png", "owl", "test"), ("b.png", "fox", "train"), ("c.png", "fox", "test"), ("d.png", "hare", "extra")]
    make_csv(tmp_path / "animals.csv", rows, ["image", "label", "split"])
    config = config_of(tmp_path, train_split="train", neighbours={})
    assert labels_by_id(config) == {"a.png": (1,), "c.png": (0,)}
    assert labels_by_id(config, "train") == {"b.png": (0,)}
    assert open_labelled_set(config).class_names == [["fox"], ["owl"]]


@case("Evaluation", "a column `split` without the split that is read", "refused; the message lists its values", 2)
def test_a_split_without_rows_is_refused_with_those_that_have_some(tmp_path: Path) -> None:
    rows = [("a.png", "owl", "val"), ("b.png", "fox", "train")]
    make_csv(tmp_path / "animals.csv", rows, ["image", "label", "split"])
    with pytest.raises(UserError, match="no rows of split 'test'; its splits are train, val"):
        open_labelled_set(config_of(tmp_path))


def test_tab_separated_files_are_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("image\tlabel\na.png\towl\nb.png\tfox\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(picture())
    assert labels_by_id(config_of(tmp_path)) == {"a.png": (1,), "b.png": (0,)}


@case(
    "Evaluation",
    "image paths of a labelled CSV outside its directory (`../`, absolute, links)",
    "not read",
    counted_as=IMAGE_OUTSIDE_ROOT,
)
def test_a_csv_reads_no_file_outside_its_directory(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture())
    root = tmp_path / "set"
    rows = [("a.png", "owl"), ("../secret.png", "fox"), (str(secret), "fox"), ("link.png", "fox")]
    make_csv(root / "test.csv", rows)
    (root / "link.png").unlink()
    (root / "link.png").symlink_to(secret)
    images = images_of(open_labelled_set(config_of(root)))
    assert [image.problem for image in images] == ["", *[IMAGE_OUTSIDE_ROOT] * 3]
    assert [image.image for image in images[1:]] == [None] * 3


def test_missing_images_and_damaged_rows_say_why(tmp_path: Path) -> None:
    path = make_csv(tmp_path / "test.csv", [("a.png", "owl"), ("gone.jpg", "fox")])
    path.write_text(path.read_text() + "b.png\nc.png,fox,more\n")
    images = images_of(open_labelled_set(config_of(tmp_path)))
    assert [image.problem for image in images] == ["", IMAGE_MISSING, FIELDS_DIFFER, FIELDS_DIFFER]


def test_labels_that_are_not_utf8_are_escaped_and_classes_of_their_own(tmp_path: Path) -> None:
    make_csv(tmp_path / "test.csv", [("a.png", "owl"), ("b.png", "fox")])
    (tmp_path / "test.csv").write_bytes(b"image,label\na.png,li\xe8vre\nb.png,\xc3\xa9lan\n")
    labelled = open_labelled_set(config_of(tmp_path))
    assert [name.encode() for (name,) in labelled.class_names]
    assert len({labelled.labels_of(image.label) for image in images_of(labelled)}) == 2


def test_a_repeated_path_gets_a_number(tmp_path: Path) -> None:
    make_csv(tmp_path / "test.csv", [("a.png", "owl"), ("a.png", "fox")])
    assert labels_by_id(config_of(tmp_path)) == {"a.png": (1,), "a.png#2": (0,)}


@case("Evaluation", "a labelled set with a file named .csv and no table", "refused with what it is", exit_code=2)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(UserError, match=r"test\.csv is a Git LFS pointer"):
        open_labelled_set(config_of(tmp_path))
