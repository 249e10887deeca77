"""Scores as Arrow columns: checked before they are stored, merged from several gates, and hashed. Pure functions.

A score is a float32 for each draw of a shard, in the draws' order. Null: the draw has no score.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray.rewriting.tables import LOG_PROBABILITY, SCORES


@dataclass(frozen=True)
class Verdicts:
    """What gates found about a shard's draws."""

    reasons: pa.Array
    """Why each draw is refused; null: accepted."""
    scores: Mapping[str, pa.Array] = field(default_factory=dict)
    """By name, the score of each draw; null: not scored."""
    scorers: Mapping[str, str] = field(default_factory=dict)
    """By score, the fingerprint of what computed it."""

    def refined(self, reasons: pa.Array, scores: Mapping[str, pa.Array], scorers: Mapping[str, str]) -> "Verdicts":
        """These verdicts after one more gate, with its scores beside the earlier ones."""
        return Verdicts(reasons, {**self.scores, **scores}, {**self.scorers, **scorers})


def score_columns(scores: Mapping[str, pa.Array] | None, rows: int) -> dict[str, pa.Array]:
    """All of `SCORES` as columns of `rows` values; a score that is not given is null, and so is a value of NaN."""
    given = scores or {}
    assert not (unknown := given.keys() - set(SCORES)), unknown
    return {name: _column(given[name]) if name in given else pa.nulls(rows, pa.float32()) for name in SCORES}


def _column(score: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(score, pa.ChunkedArray):
        score = score.combine_chunks()
    score = score.cast(pa.float32())
    return pc.if_else(pc.is_nan(score), None, score)


def merged_scores(parts: Iterable[pa.Table], names: Iterable[str]) -> dict[str, pa.Array] | None:
    """Scores of the same draws from several tables: the first value that is not null. None: no table has any.

    Args:
        parts: tables of the same number of rows, each with some of the columns.
        names: the scores to find.
    """
    tables = list(parts)
    if not tables:
        return None
    merged = {}
    for name in names:
        columns = [table.column(name).combine_chunks() for table in tables if name in table.column_names]
        merged[name] = pc.coalesce(*columns) if columns else pa.nulls(tables[0].num_rows, pa.float32())
    return merged


def count_scored(draws: pa.Table, reasons: pa.Array, scores: Mapping[str, pa.Array]) -> dict[str, int]:
    """How many accepted draws have each score; scores that no accepted draw has are left out."""
    accepted = pc.is_null(reasons)
    columns = {LOG_PROBABILITY: draws.column(LOG_PROBABILITY), **scores}
    counts = {name: pc.sum(pc.and_(accepted, pc.is_valid(column))).as_py() for name, column in columns.items()}
    return {name: count for name, count in counts.items() if count}


def bytes_of_scores(scores: Mapping[str, pa.Array | pa.ChunkedArray]) -> bytes:
    """The scores as bytes, to be hashed; empty if every value is null, as in files of earlier versions."""
    parts = []
    for name in sorted(scores):
        column = scores[name]
        if column.null_count < len(column):
            values = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
            # Adding 0 turns -0.0 into 0.0, its equal.
            parts.append(name.encode() + b"\0" + (values.astype(np.float32) + np.float32(0)).tobytes())
    return b"\2".join(parts)


class ScoreRange(NamedTuple):
    """Where the values of a score lie."""

    tenth: float
    """A tenth of the values is smaller."""
    median: float
    ninetieth: float
    """A tenth of the values is larger."""


def score_ranges(shards: Iterable[pa.Table]) -> dict[str, ScoreRange]:
    """The range of each score over the accepted draws of shards, as `RewriteSet.read` gives them.

    Scores that no accepted draw has are left out.
    """
    accepted = [shard.filter(pc.is_null(shard.column("reason"))) for shard in shards]
    ranges = {}
    for name in (*SCORES, LOG_PROBABILITY):
        columns = [pc.drop_null(shard.column(name).combine_chunks()) for shard in accepted]
        values = np.concatenate([column.to_numpy() for column in columns]) if columns else np.empty(0)
        if len(values):
            ranges[name] = ScoreRange(*np.quantile(values, [0.1, 0.5, 0.9]).tolist())
    return ranges
