"""Which rewrites each sample of a shard still lacks, and how draws are joined, merged and judged. Pure functions.

Guarantees: an existing rewrite is never asked for again. Equal captions of a shard share one prompt. Every sample keeps
at least one row, in the shard's order.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from laclip_ray.data.records import NO_CAPTION, Sample
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.judging.text import is_wordless
from laclip_ray.rewriting.prompting.prompts import SEPARATOR, choose_head
from laclip_ray.rewriting.row_errors import FirstErrors, is_request_to_stop
from laclip_ray.rewriting.tables import SAMPLES_SCHEMA, WorkUnit, slot_bits, with_columns_of

SEPARATOR_IN_CAPTION = "separator_in_caption"
"""A problem without consequences: the prompt shows the separator in another form."""


def describe_samples(
    samples: Sequence[Sample], max_caption_characters: int, drop_wordless_captions: bool
) -> dict[str, list[Any]]:
    """The columns of `SAMPLES_SCHEMA` that all prompt sets share.

    A longer caption than `max_caption_characters` is not rewritten, and neither is one without a word if
    `drop_wordless_captions`; its outcome says so.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "caption_hash", "caption", "problems", "outcome")}
    for sample in samples:
        outcome = tables.DRAWN
        problems = sample.problems
        if problems and (unusable := NO_CAPTION.intersection(problems)):
            outcome = min(unusable)
        elif len(sample.caption) > max_caption_characters:
            outcome = tables.CAPTION_TOO_LONG
        elif drop_wordless_captions and is_wordless(sample.caption):
            outcome = tables.NOTHING_TO_REWRITE
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
    heads: int,
    seed: int,
    rewrites_per_set: int,
    previous: pa.Table | None = None,
) -> pa.Table:
    """The samples of a shard with the slots to draw for each: a table of `SAMPLES_SCHEMA`.

    Equal captions get one head, chosen by the id of the first, and so are generated once.

    Args:
        described: from `describe_samples`.
        unit: the work; its `retry` names the reasons whose rewrites are drawn again.
        heads: prompt heads of the prompt set.
        seed: decides the heads.
        rewrites_per_set: slots of each sample.
        previous: the existing draws with their `reason`. None: there are no draws yet.
    """
    slots = range(rewrites_per_set)
    head_of_caption: dict[str, int] = {}
    columns = dict(described)
    columns["head"] = []
    for sample_id, caption in zip(described["id"], described["caption"], strict=True):
        head = head_of_caption.get(caption)
        if head is None:
            head = head_of_caption[caption] = choose_head(unit.prompt_set, sample_id, heads, seed)
        columns["head"].append(head)
    count = len(columns["head"])
    columns["slots"] = [slot_bits(slots)] * count
    columns["attempt"] = [0] * count
    columns["others"] = [None] * count
    if previous is not None:
        history_of = _histories(previous)
        for row, key in enumerate(zip(described["id"], described["caption_hash"], strict=True)):
            if history := history_of.get(key):
                columns["slots"][row] = slot_bits(history.missing(slots, unit.retry))
                columns["attempt"][row] = history.attempts
                columns["others"][row] = json.dumps([*history.accepted.values()]) if history.accepted else None
    return pa.table([pa.array(columns[column.name], column.type) for column in SAMPLES_SCHEMA], schema=SAMPLES_SCHEMA)


@dataclass
class _History:
    """The existing draws of a sample."""

    accepted: dict[int, str] = field(default_factory=dict)
    """By slot, the first accepted text."""
    last_reason: dict[int, str | None] = field(default_factory=dict)
    """By slot, the reason of the last draw."""
    attempts: int = 0

    def missing(self, wanted: Iterable[int], retry: Collection[str]) -> set[int]:
        """The slots to draw: wanted slots without a draw, and open slots whose last reason is retried."""
        again = {slot for slot, reason in self.last_reason.items() if slot not in self.accepted and reason in retry}
        return again | {slot for slot in wanted if slot not in self.last_reason}


def _histories(previous: pa.Table) -> dict[tuple[str, str], _History]:
    histories: dict[tuple[str, str], _History] = {}
    names = ("id", "caption_hash", "draw", "attempt", "text", "reason")
    for sample_id, caption_hash, slot, attempt, text, reason in zip(
        *(previous.column(name).to_pylist() for name in names), strict=True
    ):
        history = histories.setdefault((sample_id, caption_hash), _History())
        history.attempts = max(history.attempts, attempt + 1)
        history.last_reason[slot] = reason
        if reason is None:
            history.accepted.setdefault(slot, text)
    return histories


def join_draws(samples: pa.Table, made: pa.Table) -> pa.Table:
    """The draws of a shard: each row of `made` with its sample's columns, in `SCORED_DRAWS_SCHEMA`."""
    rows = samples.take(made.column("row"))
    columns = [(made if name in made.column_names else rows).column(name) for name in tables.SCORED_DRAWS_SCHEMA.names]
    return pa.table(columns, schema=tables.SCORED_DRAWS_SCHEMA)


def merge_draws(samples: pa.Table, before: pa.Table, new: pa.Table) -> pa.Table:
    """Old and new draws of the current samples, in their order. Draws of other samples are dropped."""
    order = {key: row for row, key in enumerate(_keys(samples))}
    schema = tables.SCORED_DRAWS_SCHEMA
    both = pa.concat_tables([with_columns_of(table, schema).select(schema.names) for table in (before, new)])
    slots, attempts = both.column("draw").to_pylist(), both.column("attempt").to_pylist()
    # A new attempt replaces an old row without a text.
    redrawn = {*zip(_keys(new), new.column("draw").to_pylist(), strict=True)}
    textless = [outcome != tables.DRAWN for outcome in before.column("outcome").to_pylist()] + [False] * new.num_rows
    ranked = sorted(
        (order[key], slots[row], attempts[row], row)
        for row, key in enumerate(_keys(both))
        if key in order and not (textless[row] and (key, slots[row]) in redrawn)
    )
    return both.take(pa.array([row for *_, row in ranked], pa.int64()))


def _keys(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table.column("id").to_pylist(), table.column("caption_hash").to_pylist(), strict=True)


_GATE_ERRORS = FirstErrors()
_SHOWN_CHARACTERS = 200
"""Of a text that the gate could not judge, in the log."""


def judge_text(
    gate: Gate, text: str, caption: str, truncated: bool, head: int, others: Sequence[str] = ()
) -> str | None:
    """`Gate.judge`, whose error over one text is that text's reason."""
    try:
        return gate.judge(text, caption, truncated, head, others)
    except BaseException as error:
        if is_request_to_stop(error):
            raise
        _GATE_ERRORS.log(f"the text {text[:_SHOWN_CHARACTERS]!r}", tables.GATE_FAILED, error)
        return tables.GATE_FAILED


def judge_draws(draws: pa.Table, gate: Gate, refuse: Callable[[int], str | None] = lambda _: None) -> pa.Array:
    """The gate's reason to refuse each draw; null: accepted. A caption without a draw has its outcome as the reason.

    Args:
        draws: rows of `DRAWS_SCHEMA`.
        gate: checks the texts.
        refuse: gives a further reason to refuse the draw in a row that the gate accepts.
    """
    reasons: list[str | None] = list(draws.column("outcome").to_pylist())
    names = ("id", "text", "caption", "truncated", "head", "draw", "attempt")
    columns = {name: draws.column(name).to_pylist() for name in names}
    by_sample = groupby(range(draws.num_rows), key=columns["id"].__getitem__)
    for _, rows in by_sample:
        accepted: dict[int, str] = {}
        # In the order of drawing: every first attempt comes before any second one.
        for row in sorted(rows, key=lambda row: (columns["attempt"][row], columns["draw"][row])):
            if reasons[row] != tables.DRAWN:
                continue
            text = columns["text"][row]
            head = columns["head"][row] or 0  # null: imported, and the gate was made without examples
            others = [*accepted.values()]
            reason = judge_text(gate, text, columns["caption"][row], columns["truncated"][row], head, others)
            reason = reasons[row] = reason or refuse(row)
            if reason is None:
                accepted.setdefault(columns["draw"][row], text)  # training reads only the first accepted text of a slot
    return pa.array(reasons, pa.string())
