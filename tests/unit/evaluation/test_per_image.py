"""The values of images survive their file, and damaged files are refused with one sentence."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.errors import UserError
from laclip_ray.evaluation.per_image import MetricValues, read_per_image, unique_ids, write_per_image
from tests.cases import case


def table_of(directory: Path) -> Path:
    """A file with a plain, a weighted and a per-class metric."""
    path = directory / "set.parquet"
    metrics = {
        "top1": MetricValues(np.array([1.0, 0.0, np.nan])),
        "text_to_image_r1": MetricValues(np.array([0.5, 1.0, 0.0]), weights=np.array([2.0, 1.0, 3.0])),
        "mean_per_class": MetricValues(np.array([1.0, 0.0, 1.0]), classes=np.array([4, 4, 7])),
    }
    write_per_image(str(path), ["a", "b", "a"], metrics)
    return path


def test_values_weights_and_classes_are_read_as_written(tmp_path: Path) -> None:
    read = read_per_image(str(table_of(tmp_path)))
    assert read.ids == ["a", "b", "a#2"]
    assert list(read.metrics) == ["top1", "text_to_image_r1", "mean_per_class"]
    np.testing.assert_array_equal(read.metrics["top1"].values, [1.0, 0.0, np.nan])
    assert read.metrics["top1"].weights is None
    assert read.metrics["text_to_image_r1"].weights is not None
    np.testing.assert_array_equal(read.metrics["text_to_image_r1"].weights, [2.0, 1.0, 3.0])
    assert read.metrics["mean_per_class"].classes is not None
    np.testing.assert_array_equal(read.metrics["mean_per_class"].classes, [4, 4, 7])


def test_the_file_has_a_string_column_of_ids_and_a_float_column_a_metric(tmp_path: Path) -> None:
    schema = pq.read_schema(table_of(tmp_path))
    assert (schema.field("id").type, schema.field("top1").type) == (pa.string(), pa.float64())


@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", ""])))
def test_unique_ids_are_different_and_keep_those_that_were(ids: list[str]) -> None:
    unique = unique_ids(ids)
    assert len(set(unique)) == len(ids) == len(unique)
    assert all(new == old for new, old in zip(unique, ids, strict=True) if ids.count(old) == 1)
    assert all(new.startswith(old) for new, old in zip(unique, ids, strict=True))
    first = {own: ids.index(own) for own in ids}
    assert all(unique[row] == own for own, row in first.items())


def test_some_images_can_be_taken() -> None:
    metric = MetricValues(np.array([1.0, 2.0, 3.0]), weights=np.array([4.0, 5.0, 6.0])).take(np.array([2, 0]))
    assert metric.weights is not None
    assert (metric.values.tolist(), metric.weights.tolist()) == ([3.0, 1.0], [6.0, 4.0])


@case("Evaluation", "a comparison with results that have no values of the images", "the message names the file", 2)
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.parquet does not exist.*Run `laclip evaluate` again"):
        read_per_image(str(tmp_path / "none.parquet"))


@case("Evaluation", "a cut file of the values of the images", "the message names the file", exit_code=2)
def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = table_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"set\.parquet: the values of the images cannot be read"):
        read_per_image(str(path))


@case("Evaluation", "another Parquet file in place of the values of the images", "it is refused", exit_code=2)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": ["a"]}, "have no column 'id'"),
        ({"id": ["a", "a"], "top1": [1.0, 0.0]}, "different text for each image"),
        ({"id": [1, 2], "top1": [1.0, 0.0]}, "different text for each image"),
        ({"id": ["a"], "top1": ["1"]}, "'top1' holds string, not double"),
        ({"id": ["a"], "r1": [1.0], "r1.weight": [-1.0]}, "weights below 0"),
        ({"id": ["a"], "r1": [1.0], "r1.weight": [float("nan")]}, "weights below 0 or not finite"),
        ({"id": ["a"], "r1": [1.0], "r1.class": pa.array([None], pa.int64())}, "holds int64, not int64|'r1.class'"),
        ({"id": ["a"], "r1": [1.0], "r1.class": [1], "r1.weight": [1.0]}, "has weights and classes"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=message):
        read_per_image(str(path))
