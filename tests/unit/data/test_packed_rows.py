"""Packed rows are the rows that were given, however they are read."""

import pickle
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import packed_rows
from laclip_ray.data.packed_rows import PackedRows, PlacesByText

SCHEMA = pa.schema([("name", pa.string()), ("path", pa.binary()), ("number", pa.int64())])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PATHS = st.none() | st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80\udcff"), max_size=5)
ROWS = st.lists(st.tuples(NAMES, PATHS, st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=12)


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Any:
    """Parts of three rows, so that few rows are many parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_rows, "_PART_ROWS", 3)
        yield


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - its own


@given(rows=ROWS)
def test_rows_are_read_back_by_number_in_order_and_by_column(rows: list[Any]) -> None:
    packed = PackedRows(SCHEMA, rows)
    assert len(packed) == len(rows)
    assert list(packed) == [packed[number] for number in range(len(rows))] == rows
    for column, name in enumerate(SCHEMA.names):
        assert list(packed.column(name)) == [row[column] for row in rows]
        assert [packed.value(number, column) for number in range(len(rows))] == [row[column] for row in rows]
    with pytest.raises(IndexError):
        packed[len(rows)]


@given(rows=ROWS)
def test_a_table_and_a_pickle_hold_the_same_rows(rows: list[Any]) -> None:
    packed = PackedRows(SCHEMA, rows)
    assert list(PackedRows.of(packed.table())) == list(pickled(packed)) == rows
    more = PackedRows.of(packed.table())
    more.append(("z", None, 1))
    assert list(more) == [*rows, ("z", None, 1)]


def test_a_pickle_of_a_tables_rows_has_their_size() -> None:
    names = [f"{number:050d}" for number in range(400)]
    rows = PackedRows.of(pa.table({"name": names}))
    assert len(pickle.dumps(rows)) < 2 * len(pickle.dumps(names))


@given(rows=ROWS)
def test_drained_rows_come_once(rows: list[Any]) -> None:
    packed = PackedRows(SCHEMA, rows)
    assert list(packed.drained()) == rows
    assert list(packed) == []


@given(rows=ROWS, data=st.data())
def test_rows_are_taken_in_any_order(rows: list[Any], data: st.DataObject) -> None:
    numbers = data.draw(st.permutations(range(len(rows))))
    assert list(PackedRows(SCHEMA, rows).taken(numbers)) == [rows[number] for number in numbers]


@given(rows=ROWS)
def test_rows_are_ordered_as_python_sorts_texts(rows: list[Any]) -> None:
    packed = PackedRows(SCHEMA, rows)
    order = packed.order_by("name")
    names = [row[0] for row in rows]
    assert (order is None) == (names == sorted(names))
    if order is not None:
        assert [row[0] for row in packed.taken(order.tolist())] == sorted(names)


@given(names=st.lists(NAMES, unique=True, max_size=12), other=NAMES)
def test_a_row_is_found_by_its_text_alone(names: list[str], other: str) -> None:
    packed = PackedRows(SCHEMA, ((name, None, 0) for name in names))
    for places in (PlacesByText(packed, "name"), pickled(PlacesByText(packed, "name"))):
        assert [places.find(name) for name in names] == list(range(len(names)))
        assert (places.find(other) is None) == (other not in names)


def test_texts_of_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_rows, "hash", lambda text: 7, raising=False)
    packed = PackedRows(SCHEMA, ((name, None, 0) for name in "abc"))
    assert [PlacesByText(packed, "name").find(name) for name in "abcd"] == [0, 1, 2, None]
