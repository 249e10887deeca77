"""What is to be drawn for each sample of a shard, and what becomes of the draws: pure functions over tables.

Guarantees: a rewrite that is there is never asked for again; equal captions of a shard have one prompt; every sample
keeps at least one row, in the shard's order.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from laclip_ray.config import Experiment
from laclip_ray.data.records import NO_CAPTION, Sample
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.gate import Gate
from laclip_ray.rewriting.prompts import SEPARATOR, choose_head
from laclip_ray.rewriting.tables import SAMPLES_SCHEMA, WorkUnit, slot_bits

SEPARATOR_IN_CAPTION = "separator_in_caption"
"""A problem that is only noted: the prompt shows the separator in another form."""


def describe_samples(samples: Sequence[Sample], experiment: Experiment) -> dict[str, list[Any]]:
    """What all prompt sets are told of a shard's samples: columns of `SAMPLES_SCHEMA`."""
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "caption_hash", "caption", "problems", "outcome")}
    for sample in samples:
        outcome = tables.DRAWN
        problems = sample.problems
        if problems and (unusable := NO_CAPTION.intersection(problems)):
            outcome = min(unusable)
        elif len(sample.caption) > experiment.rewrite.max_caption_characters:
            outcome = tables.CAPTION_TOO_LONG
        elif SEPARATOR in sample.caption:
            problems = (*problems, SEPARATOR_IN_CAPTION)
        columns["id"].append(sample.id)
        columns["caption_hash"].append(sample.caption_hash)
        columns["caption"].append(sample.caption)
        columns["problems"].append(",".join(problems))
        columns["outcome"].append(outcome)
    return columns


def build_samples(
    described: Mapping[str, list[Any]],
    unit: WorkUnit,
    experiment: Experiment,
    rewrites_per_set: int,
    previous: pa.Table | None = None,
) -> pa.Table:
    """The samples of a shard and what is to be drawn for each: a table of `SAMPLES_SCHEMA`.

    Equal captions get one head, by the id of the first, so that they are generated once.

    Args:
        described: from `describe_samples`.
        unit: what is done; its `retry` names the reasons whose rewrites are drawn again.
        experiment: the configuration.
        rewrites_per_set: how many rewrites each sample is to have.
        previous: the draws that there are, with their `reason`; None: none.
    """
    rewrite = experiment.rewrite
    everything = range(rewrites_per_set)
    head_of: dict[str, int] = {}
    heads = []
    for sample_id, caption in zip(described["id"], described["caption"], strict=True):
        head = head_of.get(caption)
        if head is None:
            head = head_of[caption] = choose_head(unit.prompt_set, sample_id, rewrite.heads, experiment.seed)
        heads.append(head)
    count = len(heads)
    draws = [slot_bits(everything)] * count
    attempts = [0] * count
    others: list[str | None] = [None] * count
    if previous is not None:
        kept = _kept_draws(previous)
        for row, key in enumerate(zip(described["id"], described["caption_hash"], strict=True)):
            if key in kept:
                draws[row] = slot_bits(kept[key].missing(everything, unit.retry))
                attempts[row] = kept[key].attempts
                others[row] = json.dumps([*kept[key].accepted.values()]) if kept[key].accepted else None
    columns = {**described, "head": heads, "draws": draws, "attempt": attempts, "others": others}
    return pa.table([pa.array(columns[each.name], each.type) for each in SAMPLES_SCHEMA], schema=SAMPLES_SCHEMA)


@dataclass
class _Kept:
    """The draws that there are for a sample."""

    accepted: dict[int, str] = field(default_factory=dict)
    last_reason: dict[int, str | None] = field(default_factory=dict)
    attempts: int = 0

    def missing(self, wanted: Iterable[int], retry: Collection[str]) -> set[int]:
        """Numbers of the draws to make: those that are wanted and not there, and those to be drawn again."""
        again = {draw for draw, reason in self.last_reason.items() if draw not in self.accepted and reason in retry}
        return again | {draw for draw in wanted if draw not in self.last_reason}


def _kept_draws(previous: pa.Table) -> dict[tuple[str, str], _Kept]:
    kept: dict[tuple[str, str], _Kept] = {}
    names = ("id", "caption_hash", "draw", "attempt", "text", "reason")
    for sample_id, caption_hash, draw, attempt, text, reason in zip(
        *(previous.column(name).to_pylist() for name in names), strict=True
    ):
        known = kept.setdefault((sample_id, caption_hash), _Kept())
        known.attempts = max(known.attempts, attempt + 1)
        known.last_reason[draw] = reason
        if reason is None:
            known.accepted.setdefault(draw, text)
    return kept


def join_draws(samples: pa.Table, made: pa.Table) -> pa.Table:
    """The draws table of a shard: each draw with its sample's columns."""
    rows = samples.take(made.column("row"))
    columns = [(made if name in made.column_names else rows).column(name) for name in tables.DRAWS_SCHEMA.names]
    return pa.table(columns, schema=tables.DRAWS_SCHEMA)


def merge_draws(samples: pa.Table, before: pa.Table, new: pa.Table) -> pa.Table:
    """Old and new draws of the samples that there are now, in their order; draws of other samples are dropped."""
    order = {key: row for row, key in enumerate(_keys(samples))}
    both = pa.concat_tables([before.select(tables.DRAWS_SCHEMA.names), new])
    draws, attempts = both.column("draw").to_pylist(), both.column("attempt").to_pylist()
    # Where there was no text, the next attempt takes its place.
    redrawn = {*zip(_keys(new), new.column("draw").to_pylist(), strict=True)}
    textless = [outcome != tables.DRAWN for outcome in before.column("outcome").to_pylist()] + [False] * new.num_rows
    ranked = sorted(
        (order[key], draws[row], attempts[row], row)
        for row, key in enumerate(_keys(both))
        if key in order and not (textless[row] and (key, draws[row]) in redrawn)
    )
    return both.take(pa.array([row for *_, row in ranked], pa.int64()))


def _keys(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table.column("id").to_pylist(), table.column("caption_hash").to_pylist(), strict=True)


def judge_draws(draws: pa.Table, gate: Gate) -> pa.Array:
    """The reason why each draw is refused, or null; a caption without a draw has its outcome as the reason."""
    reasons: list[str | None] = list(draws.column("outcome").to_pylist())
    names = ("id", "text", "caption", "truncated", "head", "draw", "attempt")
    columns = {name: draws.column(name).to_pylist() for name in names}
    by_sample = groupby(range(draws.num_rows), key=columns["id"].__getitem__)
    for _, rows in by_sample:
        accepted: dict[int, str] = {}
        # As they were made: every first attempt comes before any second one.
        for row in sorted(rows, key=lambda row: (columns["attempt"][row], columns["draw"][row])):
            if reasons[row] != tables.DRAWN:
                continue
            text = columns["text"][row]
            head = columns["head"][row] or 0  # null: imported, and the gate was made without examples
            others = [*accepted.values()]
            reason = gate.judge(text, columns["caption"][row], columns["truncated"][row], head, others)
            reasons[row] = reason
            if reason is None:
                accepted.setdefault(columns["draw"][row], text)  # only the first one of a draw is read
    return pa.array(reasons, pa.string())
