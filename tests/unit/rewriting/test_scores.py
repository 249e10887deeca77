"""Scores are stored with verdicts, found again by what computed them, and absent from files of earlier versions."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.storing.score_columns import bytes_of_scores, merged_scores, score_columns, score_ranges
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, write_draws
from laclip_ray.rewriting.tables import LOG_PROBABILITY, SCORES
from tests.unit.rewriting.shards import DRAWS, ORIGIN, commit, one, reasons_of, table_of

MEANING = {"meaning": "encoder", "added": "encoder"}
some_values = st.lists(st.none() | st.floats(-1, 1, width=32), min_size=6, max_size=6)


def floats(values: Sequence[float | None]) -> pa.Array:
    return pa.array(values, pa.float32())


def commit_scored(rewrite_set: RewriteSet, values: Sequence[float | None], scorers: dict[str, str] = MEANING) -> None:
    table = table_of(DRAWS)
    write_draws(rewrite_set, "0.tar", 0, table, ORIGIN)
    scores = dict.fromkeys(scorers, floats(values))
    commit_verdicts(rewrite_set, "0.tar", 0, table, reasons_of(DRAWS), ORIGIN, scores, scorers)


def test_a_shard_is_read_with_its_scores(rewrite_set: RewriteSet) -> None:
    commit_scored(rewrite_set, [0.5, None, 1, 0, -1, None])
    draws = rewrite_set.read("0.tar", 0)
    assert draws.column("meaning").to_pylist() == [0.5, None, 1, 0, -1, None]
    assert draws.column("picture").null_count == len(DRAWS)


def test_the_counts_of_a_shard_say_how_many_accepted_draws_have_a_score(rewrite_set: RewriteSet) -> None:
    commit_scored(rewrite_set, [0.5, 0.5, None, 0.5, 0.5, None])  # rows 0, 2, 3 are accepted
    assert rewrite_set.describe({"0.tar": 0})["0.tar"].statistics.scored == {"meaning": 2, "added": 2}


def test_another_gate_finds_the_scores_of_the_same_scorer(rewrite_set: RewriteSet) -> None:
    commit_scored(rewrite_set, [0.5, None, 1, 0, -1, None])
    other = replace(rewrite_set, gate="other thresholds")
    found = other.stored_scores("0.tar", 0, {"meaning": "encoder"})
    assert found is not None
    assert {name: column.to_pylist() for name, column in found.items()} == {"meaning": [0.5, None, 1, 0, -1, None]}


@pytest.mark.parametrize("scorers", [{"meaning": "another encoder"}, {"picture": "encoder"}, {}])
def test_scores_of_another_scorer_are_not_found(rewrite_set: RewriteSet, scorers: dict[str, str]) -> None:
    commit_scored(rewrite_set, [0.5] * 6)
    assert rewrite_set.stored_scores("0.tar", 0, scorers) is None


def test_scores_of_other_draws_are_not_found(rewrite_set: RewriteSet) -> None:
    commit_scored(rewrite_set, [0.5] * 6)
    write_draws(rewrite_set, "0.tar", 0, table_of(DRAWS), replace(ORIGIN, draws_id="other"))
    assert rewrite_set.stored_scores("0.tar", 0, MEANING) is None
    write_draws(rewrite_set, "0.tar", 1, table_of(DRAWS), ORIGIN)
    assert rewrite_set.stored_scores("0.tar", 1, MEANING) is None


def test_a_damaged_file_of_another_gate_hides_only_its_own_scores(rewrite_set: RewriteSet) -> None:
    commit_scored(rewrite_set, [0.5] * 6)
    storage.write_bytes(replace(rewrite_set, gate="damaged").verdicts_url("0.tar", 0), b"PAR1")
    found = rewrite_set.stored_scores("0.tar", 0, MEANING)
    assert found is not None
    assert found["added"].to_pylist() == [0.5] * 6


@given(first=some_values, second=some_values)
def test_scores_of_several_gates_complete_each_other(
    first: Sequence[float | None], second: Sequence[float | None]
) -> None:
    parts = [pa.table({"meaning": floats(values)}) for values in (first, second)]
    merged = merged_scores(parts, ["meaning", "added"])
    assert merged is not None
    assert merged["meaning"].to_pylist() == [
        one if one is not None else other for one, other in zip(first, second, strict=True)
    ]
    assert merged["added"].null_count == 6


def test_a_score_that_is_no_number_is_stored_as_null() -> None:
    columns = score_columns({"added": pa.array([0.5, float("nan"), None])}, 3)
    assert columns["added"].to_pylist() == [0.5, None, None]
    assert [*columns] == [*SCORES]


def test_files_of_earlier_versions_are_read_without_scores(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", DRAWS)
    draws_url, verdicts_url = rewrite_set.draws_url("0.tar", 0), rewrite_set.verdicts_url("0.tar", 0)
    draws, verdicts = storage.read_parquet(draws_url), storage.read_parquet(verdicts_url)
    storage.write_parquet(draws_url, draws.drop_columns([LOG_PROBABILITY]))
    kept = {key: value for key, value in verdicts.schema.metadata.items() if key != b"laclip_ray.scorers"}
    storage.write_parquet(verdicts_url, verdicts.drop_columns([*SCORES]).replace_schema_metadata(kept))
    read = rewrite_set.read("0.tar", 0)
    assert all(read.column(name).null_count == len(DRAWS) for name in (*SCORES, LOG_PROBABILITY))
    assert rewrite_set.stored_scores("0.tar", 0, MEANING) is None


def test_the_digest_of_a_shard_without_scores_is_that_of_earlier_versions(rewrite_set: RewriteSet) -> None:
    commit(rewrite_set, "0.tar", one("a text"))
    assert rewrite_set.describe({"0.tar": 0})["0.tar"].digest == "97139c748a7092df"


@given(first=some_values, second=some_values)
def test_shards_with_other_scores_have_other_bytes(
    first: Sequence[float | None], second: Sequence[float | None]
) -> None:
    columns = [score_columns({"meaning": floats(values)}, 6) for values in (first, second)]
    equal = columns[0]["meaning"].equals(columns[1]["meaning"])
    assert (bytes_of_scores(columns[0]) == bytes_of_scores(columns[1])) == equal


def test_a_table_gets_the_nullable_columns_that_it_lacks() -> None:
    table = table_of(DRAWS).drop_columns([LOG_PROBABILITY])
    assert tables.with_columns_of(table, tables.DRAWS_SCHEMA).schema == tables.DRAWS_SCHEMA


def test_the_range_of_a_score_is_that_of_accepted_draws(rewrite_set: RewriteSet) -> None:
    commit_scored(rewrite_set, [0.0, 9.0, 0.5, 1.0, 9.0, None], {"meaning": "encoder"})  # rows 0, 2, 3 are accepted
    ranges = score_ranges([rewrite_set.read("0.tar", 0)] * 2)
    assert [*ranges] == ["meaning"]
    assert [*ranges["meaning"]] == pytest.approx([0.0, 0.5, 1.0])
    assert score_ranges([]) == {}
