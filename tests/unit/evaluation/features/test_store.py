"""Committed features are found again, and only complete units count as done."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.features.rows import FEATURES_SCHEMA, TEXTS_SCHEMA
from laclip_ray.evaluation.features.store import FeatureStore, digest_of, is_complete


def part(name: str) -> pa.Table:
    row = {"id": name, "problem": "", "label": "", "caption": "", "row_problems": [], "place": "", "picture": b"p"}
    return pa.Table.from_pylist([{**row, "embedding": b"1234", "backbone": None}], FEATURES_SCHEMA)


def test_parts_are_listed_and_read_in_order(tmp_path: Path) -> None:
    store = FeatureStore(str(tmp_path))
    assert store.images_done() == {}
    for number in (2, 0, 1):
        store.commit_part("ab", number, number == 2, part(f"row{number}"))
    store.commit_part("cd", 0, False, part("other"))
    done = store.images_done()
    assert done == {"ab": {0: False, 1: False, 2: True}, "cd": {0: False}}
    tables = list(store.read_parts("ab", done["ab"]))
    assert [table.column("id").to_pylist() for table in tables] == [["row0"], ["row1"], ["row2"]]
    assert tables[0].schema.equals(FEATURES_SCHEMA)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, False),
        ({0: True}, True),
        ({0: False}, False),
        ({1: True}, False),
        ({0: False, 1: True}, True),
        ({0: False, 2: True}, False),
    ],
)
def test_a_unit_is_complete_with_all_parts_up_to_the_last(parts: dict[int, bool], expected: bool) -> None:
    assert is_complete(parts) == expected


def test_texts_are_read_in_the_order_of_their_units(tmp_path: Path) -> None:
    store = FeatureStore(str(tmp_path))
    for unit in ("b1", "a2"):
        row = {"text": unit, "tokens": b"t", "is_cut": False, "embedding": b"1234"}
        store.commit_texts(unit, pa.Table.from_pylist([row], TEXTS_SCHEMA))
    assert store.texts_done() == {"a2", "b1"}
    texts = [table.column("text").to_pylist() for table in store.read_texts(["b1", "a2"])]
    assert texts == [["b1"], ["a2"]]


@given(st.lists(st.text()), st.lists(st.text()))
def test_other_texts_have_another_digest(first: list[str], second: list[str]) -> None:
    assert (digest_of(*first) == digest_of(*second)) == (first == second)
