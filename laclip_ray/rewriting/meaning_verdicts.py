"""Verdicts on a shard's draws by text and by meaning. Pure functions, apart from the encoders that the caller gives.

The checks of `gate` come first. What they accept is scored and then judged by `meaning`. Verdicts are the same as if
each draw had been judged when it was drawn (`generator`).

Guarantees: a draw whose scores are known is not scored again, so a gate with other thresholds needs no encoder.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from laclip_ray.config import MeaningGateConfig
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.draws import judge_draws, judge_text
from laclip_ray.rewriting.gate import Gate
from laclip_ray.rewriting.meaning import MeaningScores, Pair, refusal
from laclip_ray.rewriting.score_columns import Verdicts

MEANING_SCORES = MeaningScores._fields
"""The names of the scores, as columns."""


class ScoresPairs(Protocol):
    """Encoders: a pool of Ray actors, or one in this process."""

    async def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair; other work goes on meanwhile."""

    def score_now(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        """The scores of each pair; blocks."""


@dataclass(frozen=True)
class MeaningGate:
    """The meaning gate with its encoders. Picklable if they are."""

    config: MeaningGateConfig
    scorers: Mapping[str, str]
    """By score, the fingerprint of what computes it."""
    encoders: ScoresPairs


def judge_by_meaning(
    draws: pa.Table, gate: Gate, meaning: MeaningGate | None, known: Mapping[Pair, MeaningScores]
) -> Verdicts:
    """Judge a shard's draws.

    Args:
        draws: rows of `DRAWS_SCHEMA`.
        gate: checks the texts.
        meaning: checks the meaning. None: off, so nothing is scored.
        known: scores that the same scorers computed before.
    """
    if meaning is None:
        return Verdicts(judge_draws(draws, gate))
    pairs = _pairs_to_score(draws, gate)
    missing = [pair for pair in dict.fromkeys(pairs.values()) if pair not in known]
    scores_of = {**known, **dict(zip(missing, meaning.encoders.score_now(missing), strict=True))}
    by_row = {row: scores_of[pair] for row, pair in pairs.items()}
    # A row without scores is refused by its text.
    reasons = judge_draws(draws, gate, lambda row: refusal(by_row[row], meaning.config) if row in by_row else None)
    return Verdicts(reasons, columns_of(by_row, draws.num_rows), meaning.scorers)


def columns_of(scores: Mapping[int, MeaningScores], rows: int) -> dict[str, pa.Array]:
    """Scores as columns of `rows` values, by name; null: not scored."""
    values = [scores.get(row, (None,) * len(MEANING_SCORES)) for row in range(rows)]
    columns = zip(*values, strict=True) if values else [()] * len(MEANING_SCORES)
    return {name: pa.array(column, pa.float32()) for name, column in zip(MEANING_SCORES, columns, strict=True)}


def known_scores(parts: Iterable[pa.Table]) -> dict[Pair, MeaningScores]:
    """The scores in tables with the columns caption, text, meaning and added, by pair."""
    known: dict[Pair, MeaningScores] = {}
    for part in parts:
        columns = (part.column(name).to_pylist() for name in ("caption", "text", *MEANING_SCORES))
        for caption, text, meaning, added in zip(*columns, strict=True):
            if meaning is not None and added is not None:
                known[caption, text] = MeaningScores(meaning, added)
    return known


def _pairs_to_score(draws: pa.Table, gate: Gate) -> dict[int, Pair]:
    """By row, the pair of each draw that passes the checks of its text alone."""
    names = ("outcome", "text", "caption", "truncated", "head")
    columns = (draws.column(name).to_pylist() for name in names)
    pairs = {}
    for row, (outcome, text, caption, truncated, head) in enumerate(zip(*columns, strict=True)):
        if outcome == tables.DRAWN and judge_text(gate, text, caption, truncated, head or 0) is None:
            pairs[row] = (caption, text)
    return pairs
