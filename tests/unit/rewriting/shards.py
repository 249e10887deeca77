"""Makers of a shard's draws, their tables, and committed shards."""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from laclip_ray.config import RewriteConfig
from laclip_ray.data.records import hash_caption
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.prompting.head_choice import HeadNumbers, unaligned_heads
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from laclip_ray.rewriting.recipe import build_recipe
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, open_for_writing, write_draws
from laclip_ray.rewriting.tables import Origin

ORIGIN = Origin(file_identity="10-1.5", inputs="abc", rewrites_per_set=3, engine_s=2.5, gpu_s=5.0)


class Draw(NamedTuple):
    """A row of a draws table and the gate's answer to it."""

    id: str
    caption: str
    text: str | None
    reason: str | None = None
    slot: int = 0
    attempt: int = 0
    problems: str = ""
    output_tokens: int = 2


A, B, C = (("a", hash_caption("caption a")), ("b", hash_caption("caption b")), ("c", hash_caption("")))
DRAWS = [
    Draw("a", "caption a", "first a"),
    Draw("a", "caption a", "a", "too_short", slot=1),
    Draw("a", "caption a", "second a", slot=1, attempt=1),
    Draw("a", "caption a", "third a", slot=2),
    Draw("b", "caption b", "b", "too_short", problems="duplicate_id"),
    Draw("c", "", None, "caption_empty", problems="caption_empty,image_missing", output_tokens=0),
]
"""A shard of three samples."""
ACCEPTED = {A: ["first a", "second a", "third a"], B: [], C: []}
"""The accepted rewrites of `DRAWS`."""

reasons = st.none() | st.sampled_from(["too_short", "looping"])
some_draws = st.lists(
    st.tuples(st.sampled_from("ab"), st.lists(st.lists(reasons, min_size=1, max_size=3), min_size=1, max_size=3)),
    max_size=4,
).map(
    lambda samples: [
        Draw(f"k{row}", f"caption {caption}", f"text {row} {slot} {attempt}", reason, slot, attempt)
        for row, (caption, slots) in enumerate(samples)
        for slot, attempts in enumerate(slots)
        for attempt, reason in enumerate(attempts)
    ]
)


def table_of(draws: Sequence[Draw]) -> pa.Table:
    """A table of `DRAWS_SCHEMA`."""
    rows = [
        {
            "id": draw.id,
            "caption_hash": hash_caption(draw.caption),
            "caption": draw.caption,
            "problems": draw.problems,
            "draw": draw.slot,
            "attempt": draw.attempt,
            "head": 3,
            "outcome": draw.reason if draw.text is None else tables.DRAWN,
            "text": draw.text,
            "truncated": False,
            "prompt_tokens": 10,
            "cached_tokens": 6,
            "output_tokens": draw.output_tokens,
        }
        for draw in draws
    ]
    return pa.Table.from_pylist(rows, schema=tables.DRAWS_SCHEMA)


def reasons_of(draws: Sequence[Draw]) -> pa.Array:
    """The gate's answers."""
    return pa.array([draw.reason for draw in draws], pa.string())


def one(text: str) -> list[Draw]:
    """The draws of a shard with one sample."""
    return [Draw("a", "caption a", text)]


def commit(
    rewrite_set: RewriteSet, shard: str, draws: Sequence[Draw], revision: int = 0, origin: Origin = ORIGIN
) -> Statistics:
    """Write a shard's draws and verdicts."""
    table = table_of(draws)
    write_draws(rewrite_set, shard, revision, table, origin)
    return commit_verdicts(rewrite_set, shard, revision, table, reasons_of(draws), origin)


def recipe(
    seed: int = 0, prompt_set: str = "cleaned", chosen: HeadNumbers | None = None, **changes: Any
) -> dict[str, Any]:
    """The recipe of a model on the hub, with changed settings of rewriting."""
    rewrite = RewriteConfig(**{"model": "org/model", **changes})
    loaded = load_prompt_set(prompt_set)
    return build_recipe(rewrite, loaded, seed, chosen or unaligned_heads(loaded, rewrite.heads, seed))


def claimed() -> RewriteSet:
    """An empty rewrite set in memory."""
    location = f"memory://unit-{uuid.uuid4().hex}/cleaned"
    return open_for_writing(location, recipe(), "gate", "rewrite.output")
