"""Verdicts on a shard's draws by text and by meaning. Pure functions, apart from the encoders that the caller gives.

The checks of `gate` come first. What they accept is scored and then judged by `meaning`. Verdicts are the same as if
each draw had been judged when it was drawn (`generator`).

Guarantees: a draw whose scores are known is not scored again, so a gate with other thresholds needs no encoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from laclip_ray.config import MeaningGateConfig
from laclip_ray.rewriting.draws import judge_draws, judge_text
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.judging.meaning import MeaningScores, Pair, refusal
from laclip_ray.rewriting.storing.score_columns import Verdicts
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import (
    DRAWN,
    LOG_PROBABILITY,
    MEANING_SCORES,
    SCORED_DRAWS_SCHEMA,
    VERDICTS_SCHEMA,
    with_columns_of,
)


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


def read_scored_draws(rewrite_set: RewriteSet, shard: str, revision: int, meaning: MeaningGate | None) -> pa.Table:
    """The draws of a shard with the scores that any gate stored, if they are of the same scorers.

    Returns:
        A table of `SCORED_DRAWS_SCHEMA`.

    Raises:
        UserError: the file is damaged.
        FileNotFoundError: the shard has no draws of this revision.
    """
    draws = rewrite_set.read_draws(shard, revision)
    stored = rewrite_set.stored_scores(shard, revision, meaning.scorers) if meaning else None
    for name, scores in (stored or {}).items():
        draws = draws.append_column(VERDICTS_SCHEMA.field(name), scores)
    return with_columns_of(draws, SCORED_DRAWS_SCHEMA)


def verdicts_of(made: pa.Table, meaning: MeaningGate | None) -> Verdicts:
    """The verdicts that the generator gave: in a table of `MADE_SCHEMA`."""
    scores = {name: made.column(name).combine_chunks() for name in MEANING_SCORES} if meaning else {}
    return Verdicts(made.column("reason").combine_chunks(), scores, meaning.scorers if meaning else {})


def judge_by_meaning(draws: pa.Table, gate: Gate, meaning: MeaningGate | None) -> Verdicts:
    """Judge a shard's draws.

    Args:
        draws: rows of `SCORED_DRAWS_SCHEMA`.
        gate: checks the texts.
        meaning: checks the meaning. None: off, so nothing is scored.
    """
    if meaning is None:
        return Verdicts(judge_draws(draws, gate))
    known = _known_scores(draws)
    pairs = _pairs_to_score(draws, gate)
    missing = [pair for pair in dict.fromkeys(pairs.values()) if pair not in known]
    if missing:
        known.update(zip(missing, meaning.encoders.score_now(missing), strict=True))
    by_row = {row: known[pair] for row, pair in pairs.items()}
    likelihoods = draws.column(LOG_PROBABILITY).to_pylist()

    def refuse(row: int) -> str | None:
        # A row without scores is refused by its text.
        return refusal(by_row[row], meaning.config, likelihoods[row]) if row in by_row else None

    reasons = judge_draws(draws, gate, refuse)
    return Verdicts(reasons, _columns_of(by_row, draws.num_rows), meaning.scorers)


def _columns_of(scores: Mapping[int, MeaningScores], rows: int) -> dict[str, pa.Array]:
    """Scores as columns of `rows` values, by name; null: not scored."""
    values = [scores.get(row, (None,) * len(MEANING_SCORES)) for row in range(rows)]
    columns = zip(*values, strict=True) if values else [()] * len(MEANING_SCORES)
    return {name: pa.array(column, pa.float32()) for name, column in zip(MEANING_SCORES, columns, strict=True)}


def _known_scores(draws: pa.Table) -> dict[Pair, MeaningScores]:
    """The scores in draws, by pair."""
    columns = (draws.column(name).to_pylist() for name in ("caption", "text", *MEANING_SCORES))
    return {
        (caption, text): MeaningScores(meaning, added)
        for caption, text, meaning, added in zip(*columns, strict=True)
        if meaning is not None and added is not None
    }


def _pairs_to_score(draws: pa.Table, gate: Gate) -> dict[int, Pair]:
    """By row, the pair of each draw that passes the checks of its text alone."""
    names = ("outcome", "text", "caption", "truncated", "head")
    columns = (draws.column(name).to_pylist() for name in names)
    pairs = {}
    for row, (outcome, text, caption, truncated, head) in enumerate(zip(*columns, strict=True)):
        if outcome == DRAWN and judge_text(gate, text, caption, truncated, head or 0) is None:
            pairs[row] = (caption, text)
    return pairs
