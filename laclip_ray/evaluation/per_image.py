"""What each image contributed to a metric, in memory and as a Parquet file beside `results.json`.

Intervals and comparisons of checkpoints need the values of the images, not only their mean. The file of a set has a row
an image and these columns:

    id               the image's id (string); equal ids get a number (`a`, `a#2`)
    METRIC           the image's value (float64); NaN where the image has none
    METRIC.weight    its weight in the mean (float64), if the images differ in it: recall of captions has their number
    METRIC.class     its class (int64), if the metric is a mean over classes
    METRIC.scores    instead of METRIC, for a mean average precision: the image's score of each class (float64)
    METRIC.labels    its label of each class (bool)

The rows of few-shot classification are episodes. The file's metadata have `unit`: `image` or `episode`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from laclip_ray import storage
from laclip_ray.errors import UserError

_ID = "id"
_WEIGHT, _CLASS = ".weight", ".class"
_SCORES, _LABELS = ".scores", ".labels"
_UNIT = b"unit"
_WHAT = "the values of the images"
_REMEDY = "Run `laclip evaluate` again."


@dataclass(frozen=True, eq=False)
class MetricValues:
    """The values of N images for one metric. The metric is their mean: plain, weighted, or a mean over classes."""

    values: NDArray[np.float64]
    """[N]; NaN where an image has no value. Such an image counts nowhere."""
    weights: NDArray[np.float64] | None = None
    """[N], not negative. None: all are 1."""
    classes: NDArray[np.int64] | None = None
    """[N]. The metric is the mean over classes of the mean of each class's images. None: the mean over images."""

    def __post_init__(self) -> None:
        assert self.weights is None or self.classes is None
        assert all(part is None or part.shape == self.values.shape for part in (self.weights, self.classes))

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> "MetricValues":
        """The values of some images.

        Args:
            rows: [M], positions.
        """
        return MetricValues(
            self.values[rows],
            None if self.weights is None else self.weights[rows],
            None if self.classes is None else self.classes[rows],
        )


@dataclass(frozen=True, eq=False)
class RankedValues:
    """The scores and labels of N images that may have several labels. The metric is their mean average precision."""

    scores: NDArray[np.float64]
    """[N, C], finite."""
    labels: NDArray[np.bool_]
    """[N, C]."""

    def __post_init__(self) -> None:
        assert self.scores.shape == self.labels.shape
        assert self.scores.ndim == 2

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[np.int64]) -> "RankedValues":
        """The values of some images.

        Args:
            rows: [M], positions.
        """
        return RankedValues(self.scores[rows], self.labels[rows])


Values = MetricValues | RankedValues


@dataclass(frozen=True, eq=False)
class Measurement:
    """Metrics of a set, and each image's contribution to the means over images."""

    metrics: dict[str, Any]
    """Ready for JSON."""
    per_image: dict[str, MetricValues]
    """By metric; the arrays have a row for each image of the set."""


@dataclass(frozen=True, eq=False)
class PerImage:
    """The values of the images of a set, or of its episodes."""

    ids: Sequence[str]
    """N different ids. Images or episodes with the same id in two evaluations are compared."""
    metrics: Mapping[str, Values]
    """By name of the metric, N values each."""
    unit: str = "image"
    """The kind of thing that has an id: `image` or `episode`."""


def unique_ids(ids: Sequence[str]) -> list[str]:
    """Number equal ids in their order: `a`, `a`, `a` become `a`, `a#2`, `a#3`."""
    taken: set[str] = set(ids)
    seen: dict[str, int] = {}
    unique = []
    for own in ids:
        seen[own] = seen.get(own, 0) + 1
        name = own
        while seen[own] > 1 and (name := f"{own}#{seen[own]}") in taken:
            seen[own] += 1
        taken.add(name)
        unique.append(name)
    return unique


def write_per_image(url: str, ids: Sequence[str], metrics: Mapping[str, Values], unit: str = "image") -> None:
    """Commit the values of a set's images.

    Args:
        url: the Parquet file.
        ids: of N images. Equal ids get a number.
        metrics: by name, N values each.
        unit: see `PerImage`.
    """
    columns: dict[str, pa.Array] = {_ID: pa.array(unique_ids(ids), pa.string())}
    for name, metric in metrics.items():
        assert name != _ID
        assert not name.endswith((_WEIGHT, _CLASS, _SCORES, _LABELS)), name
        assert len(metric) == len(ids)
        if isinstance(metric, RankedValues):
            columns[name + _SCORES] = _as_lists(metric.scores, pa.float64())
            columns[name + _LABELS] = _as_lists(metric.labels, pa.bool_())
            continue
        columns[name] = pa.array(metric.values, pa.float64())
        if metric.weights is not None:
            columns[name + _WEIGHT] = pa.array(metric.weights, pa.float64())
        if metric.classes is not None:
            columns[name + _CLASS] = pa.array(metric.classes, pa.int64())
    storage.write_parquet(url, pa.table(columns).replace_schema_metadata({_UNIT: unit.encode()}))


def _as_lists(values: NDArray[Any], wanted: pa.DataType) -> pa.Array:
    """A row of [N, C] a list."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), wanted), values.shape[1])


def read_per_image(url: str) -> PerImage:
    """The values that `write_per_image` wrote.

    Raises:
        UserError: the file does not exist, is damaged, or holds something else.
    """
    try:
        with storage.damage_named(url, _WHAT, _REMEDY):
            return _parse(url, storage.read_parquet(url))
    except FileNotFoundError as error:
        raise UserError(f"{url} does not exist, so there are no values of the images to compare. {_REMEDY}") from error


def _parse(url: str, table: pa.Table) -> PerImage:
    names = set(table.column_names)
    if _ID not in names:
        raise UserError(f"{url}: {_WHAT} have no column {_ID!r} ({', '.join(sorted(names)[:5])}). {_REMEDY}")
    ids = table[_ID].to_pylist()
    if not all(isinstance(own, str) for own in ids) or len(set(ids)) < len(ids):
        raise UserError(f"{url}: the column {_ID!r} must hold a different text for each image. {_REMEDY}")
    metrics: dict[str, Values] = {}
    for name in table.column_names:
        if name.endswith(_SCORES):
            metric = name.removesuffix(_SCORES)
            metrics[metric] = _ranked(url, table, metric)
            continue
        if name == _ID or name.endswith((_WEIGHT, _CLASS, _LABELS)):
            continue
        weights = _column(url, table, name + _WEIGHT, pa.float64()) if name + _WEIGHT in names else None
        classes = _column(url, table, name + _CLASS, pa.int64()) if name + _CLASS in names else None
        if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise UserError(f"{url}: the column {name + _WEIGHT!r} holds weights below 0 or not finite. {_REMEDY}")
        if weights is not None and classes is not None:
            raise UserError(f"{url}: the metric {name!r} has weights and classes; it can have one of them. {_REMEDY}")
        metrics[name] = MetricValues(_column(url, table, name, pa.float64()), weights, classes)
    unit = (table.schema.metadata or {}).get(_UNIT, b"image").decode()
    return PerImage(ids, metrics, unit)


def _ranked(url: str, table: pa.Table, metric: str) -> RankedValues:
    scores = _lists(url, table, metric + _SCORES, pa.float64())
    labels = _lists(url, table, metric + _LABELS, pa.bool_())
    if scores.shape != labels.shape or not np.isfinite(scores).all():
        raise UserError(f"{url}: the scores of {metric!r} are not finite, or not as many as its labels. {_REMEDY}")
    return RankedValues(scores, labels)


def _lists(url: str, table: pa.Table, name: str, wanted: pa.DataType) -> NDArray[Any]:
    """A column of lists of one length, as [N, C]."""
    if name not in table.column_names:
        raise UserError(f"{url}: {_WHAT} have no column {name!r}. {_REMEDY}")
    column = table[name]
    is_list = pa.types.is_fixed_size_list(column.type) and column.type.value_type == wanted
    values = column.combine_chunks().flatten() if is_list and not column.null_count else None
    if values is None or values.null_count:
        raise UserError(f"{url}: the column {name!r} holds {column.type}, not lists of {wanted}. {_REMEDY}")
    content: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return content.reshape(table.num_rows, column.type.list_size)


def _column(url: str, table: pa.Table, name: str, wanted: pa.DataType) -> NDArray[Any]:
    column = table[name]
    if column.type != wanted or (column.null_count and wanted != pa.float64()):
        raise UserError(f"{url}: the column {name!r} holds {column.type}, not {wanted}. {_REMEDY}")
    values: NDArray[Any] = column.to_numpy()
    return values
