"""The values of images survive their file, and damaged files are refused with one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.errors import UserError
from laclip_ray.evaluation.per_image import MetricValues, RankedValues, read_per_image, unique_ids, write_per_image
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
    top1, recall, mean = read.metrics.values()
    assert isinstance(top1, MetricValues)
    assert isinstance(recall, MetricValues)
    assert isinstance(mean, MetricValues)
    np.testing.assert_array_equal(top1.values, [1.0, 0.0, np.nan])
    assert top1.weights is None
    assert recall.weights is not None
    np.testing.assert_array_equal(recall.weights, [2.0, 1.0, 3.0])
    assert mean.classes is not None
    np.testing.assert_array_equal(mean.classes, [4, 4, 7])


def test_scores_and_labels_are_read_as_written(tmp_path: Path) -> None:
    path = str(tmp_path / "set.parquet")
    ranked = RankedValues(np.array([[0.1, 2.0, -1e300], [0.3, 0.0, 5.0]]), np.array([[True, False, True], [False] * 3]))
    write_per_image(path, ["a", "b"], {"map": ranked})
    read = read_per_image(path).metrics
    assert list(read) == ["map"]
    assert isinstance(read["map"], RankedValues)
    np.testing.assert_array_equal(read["map"].scores, ranked.scores)
    np.testing.assert_array_equal(read["map"].labels, ranked.labels)
    np.testing.assert_array_equal(ranked.take(np.array([1])).scores, ranked.scores[1:])


def test_the_unit_is_read_as_written_and_is_an_image_without_a_word(tmp_path: Path) -> None:
    path = str(tmp_path / "set.parquet")
    write_per_image(path, ["episode-000000"], {"top1": MetricValues(np.array([1.0]))}, "episode")
    assert read_per_image(path).unit == "episode"
    assert read_per_image(str(table_of(tmp_path))).unit == "image"
    pq.write_table(pa.table({"id": ["a"], "top1": [1.0]}), path)
    assert read_per_image(path).unit == "image"


def test_the_file_has_a_string_column_of_ids_and_a_float_column_a_metric(tmp_path: Path) -> None:
    schema = pq.read_schema(table_of(tmp_path))
    assert (schema.field("id").type, schema.field("top1").type) == (pa.string(), pa.float64())


def lists(*rows: list[Any]) -> pa.Array:
    """A column of lists of one length."""
    kind = pa.bool_() if isinstance(rows[0][0], bool) else pa.float64()
    return pa.array(rows[-1:], pa.list_(kind, len(rows[-1])))


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
        ({"id": ["a"], "map.scores": lists([1.0]), "map.labels": [True]}, "'map.labels' holds bool, not lists of bool"),
        ({"id": ["a"], "map.scores": lists([1.0], [None]), "map.labels": lists([True])}, "not lists of double"),
        ({"id": ["a"], "map.scores": lists([1.0, 2.0]), "map.labels": lists([True])}, "not as many as its labels"),
        ({"id": ["a"], "map.scores": lists([np.nan]), "map.labels": lists([True])}, "not finite"),
        ({"id": ["a"], "map.scores": lists([1.0])}, "have no column 'map.labels'"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=message):
        read_per_image(str(path))
