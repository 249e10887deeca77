"""Records survive their way through a row of the stream, and every column of a schema is documented."""

import ast
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import MAX_REWRITES_PER_SET
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.tables import (
    SAMPLES_SCHEMA,
    STREAM_SCHEMA,
    Origin,
    WorkUnit,
    origin_of,
    slot_bits,
    slot_numbers,
    stream_row,
    table_from_bytes,
    table_to_bytes,
)
from tests.unit.rewriting.shards import some_draws, table_of

SCHEMAS = [name for name in vars(tables) if name.endswith("_SCHEMA")]

units = st.builds(
    WorkUnit,
    st.text(),
    st.text(),
    st.integers(0),
    st.none() | st.integers(0),
    st.lists(st.text(), max_size=3).map(tuple),
)
seconds = st.floats(0, 1e9)
origins = st.builds(Origin, st.text(), st.text(), st.integers(1), seconds, seconds, st.text())


@given(slots=st.sets(st.integers(0, MAX_REWRITES_PER_SET - 1)))
def test_slots_survive_their_bits_in_a_table(slots: set[int]) -> None:
    bits = pa.array([slot_bits(slots)], SAMPLES_SCHEMA.field("slots").type)
    assert slot_numbers(bits[0].as_py()) == tuple(sorted(slots))


@given(unit=units, origin=origins)
def test_units_and_origins_survive_json(unit: WorkUnit, origin: Origin) -> None:
    assert WorkUnit.from_json(unit.to_json()) == unit
    assert Origin.from_json(origin.to_json()) == origin


@given(draws=some_draws.map(table_of))
def test_a_table_survives_its_bytes(draws: pa.Table) -> None:
    assert table_from_bytes(table_to_bytes(draws)).equals(draws)


@given(unit=units, origin=origins, draws=some_draws.map(table_of))
def test_a_stream_row_holds_its_unit_origin_and_samples(unit: WorkUnit, origin: Origin, draws: pa.Table) -> None:
    table = stream_row(unit, origin, draws)
    assert table.schema.equals(STREAM_SCHEMA)
    (row,) = table.to_pylist()
    assert WorkUnit.from_json(row["unit"]) == unit
    assert origin_of(row) == origin
    assert table_from_bytes(row["samples"]).equals(draws)
    assert {name: row[name] for name in ("made", "failure", "engine", "engine_start_failure", "engine_s")} == {
        "made": None,
        "failure": None,
        "engine": None,
        "engine_start_failure": None,
        "engine_s": 0.0,
    }


@given(unit=units, failure=st.text())
def test_a_failure_travels_in_the_place_of_samples(unit: WorkUnit, failure: str) -> None:
    (row,) = stream_row(unit, failure=failure).to_pylist()
    assert (WorkUnit.from_json(row["unit"]), row["failure"], row["samples"]) == (unit, failure, None)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_of_a_schema_is_documented(name: str) -> None:
    statements = ast.parse(Path(tables.__file__).read_text()).body
    number = next(
        number
        for number, statement in enumerate(statements)
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name
    )
    documentation = ast.literal_eval(ast.unparse(statements[number + 1]))
    words = documentation.replace(",", " ").split()
    assert [column for column in getattr(tables, name).names if column not in words] == []
