"""The engine actor: tables of prompts in, tables of draws out; and the rows that travel to it and from it.

A row of the stream is the work of one shard for one prompt set, as an Arrow table in a binary column, so that no
block splitting can tear it.

Guarantees: equal prompts are answered once; an error of one prompt is recorded as its outcome; when the engine dies,
the death is charged in storage to every shard in hand, the actor is gone, and no process of the engine is left.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting import store
from laclip_ray.rewriting.engine import Engine, EngineDiedError, RequestError, kill_children_when_gone
from laclip_ray.rewriting.prompts import parse_completion
from laclip_ray.rewriting.store import RewriteSet

logger = logging.getLogger(__name__)

BuildEngine = Callable[[RewriteConfig, int], Engine]

_REQUESTS_IN_FLIGHT = 1024
_DIED = "{deaths} engines died while working on it; to try again, raise rewrite.max_engine_deaths"
STREAM_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("prompt_set", pa.string()),
        ("payload", pa.large_binary()),  # an Arrow table; empty where `failure` is not
        ("failure", pa.string()),
        ("engine", pa.string()),
    ]
)


def stream_row(
    shard: str, prompt_set: str, table: pa.Table | None, failure: str | None = None, engine: str | None = None
) -> pa.Table:
    """A row of the stream: a table for a shard and a prompt set, or the failure why there is none."""
    payload = b""
    if table is not None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        payload = sink.getvalue().to_pybytes()
    row = {"shard": shard, "prompt_set": prompt_set, "payload": payload, "failure": failure, "engine": engine}
    return pa.Table.from_pylist([row], schema=STREAM_SCHEMA)


def payload_of(row: dict[str, Any]) -> pa.Table:
    """The table in a row of the stream."""
    return pa.ipc.open_stream(row["payload"]).read_all()


class RewritingActor:
    """Ray Data actor that holds an engine and turns tables of prompts into tables of draws."""

    def __init__(self, rewrite: RewriteConfig, seed: int, sets: dict[str, RewriteSet], build: BuildEngine) -> None:
        self._rewrite = rewrite
        self._sets = sets
        self._name = uuid.uuid4().hex[:12]
        self._in_hand: set[tuple[str, str]] = set()
        self._request_slots = asyncio.Semaphore(_REQUESTS_IN_FLIGHT)
        kill_children_when_gone()
        self._engine = build(rewrite, seed)

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Generate for one stream row."""
        (row,) = batch.to_pylist()
        if row["failure"]:
            yield batch
            return
        shard, prompt_set = row["shard"], row["prompt_set"]
        deaths = self._read_deaths(prompt_set, shard)
        if deaths >= self._rewrite.max_engine_deaths:
            yield stream_row(shard, prompt_set, None, failure=_DIED.format(deaths=deaths))
            return
        self._in_hand.add((prompt_set, shard))
        try:
            draws = await self._draw(payload_of(row), f"{prompt_set}/{shard}")
        except EngineDiedError:
            self._die()
        self._in_hand.discard((prompt_set, shard))
        yield stream_row(shard, prompt_set, draws, engine=self._name)

    def __del__(self) -> None:
        """Ray Data drops the instance when the pool lets the actor go."""
        if hasattr(self, "_engine"):
            self._engine.close()

    async def _draw(self, prompts: pa.Table, request_prefix: str) -> pa.Table:
        rows = prompts.to_pylist()
        # Equal prompts are answered once; those of one head are sent together, so that its prefix stays cached.
        distinct = dict(
            sorted(((row["prompt"], row["head"]) for row in rows if row["prompt"]), key=lambda each: each[1])
        )

        async def answer(number: int, prompt: str) -> Any:
            async with self._request_slots:
                try:
                    return await self._engine.generate(prompt, f"{request_prefix}/{number}")
                except RequestError as error:
                    return str(error)

        results = await asyncio.gather(*(answer(number, prompt) for number, prompt in enumerate(distinct)))
        answers = dict(zip(distinct, results, strict=True))
        charged: set[str] = set()
        found = [draw for row in rows for draw in _draws_of(row, answers.get(row["prompt"]), charged)]
        return pa.Table.from_pylist(found, schema=store.DRAWS_SCHEMA)

    def _deaths_url(self, prompt_set: str, shard: str) -> str:
        return storage.join(self._sets[prompt_set].location, "engine_deaths", f"{shard}.json")

    def _read_deaths(self, prompt_set: str, shard: str) -> int:
        url = self._deaths_url(prompt_set, shard)
        return int(storage.read_json(url)["count"]) if storage.exists(url) else 0

    def _die(self) -> None:
        """Charge the death to every shard in hand and leave; Ray starts another actor and repeats the tasks."""
        for prompt_set, shard in self._in_hand:
            count = self._read_deaths(prompt_set, shard) + 1
            storage.write_json(self._deaths_url(prompt_set, shard), {"count": count})
        logger.error("the engine died; leaving it to Ray to start another")
        os._exit(1)


def _draws_of(row: dict[str, Any], answer: Any, charged: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of the draws table for one sample; tokens are counted with the first sample of a prompt."""
    base = {name: row[name] for name in ("id", "caption_hash", "caption", "problems", "head", "outcome")}
    nothing = {"text": None, "truncated": False, "prompt_tokens": 0, "cached_tokens": 0, "output_tokens": 0}
    if row["prompt"] is None or isinstance(answer, str):
        outcome = answer if row["prompt"] is not None else row["outcome"]
        yield {**base, **nothing, "draw": 0, "outcome": outcome}
        return
    first = row["prompt"] not in charged
    charged.add(row["prompt"])
    for number, completion in enumerate(answer.completions):
        counted = first and number == 0
        yield {
            **base,
            "draw": number,
            "text": parse_completion(completion.text),
            "truncated": completion.truncated,
            "prompt_tokens": answer.prompt_tokens if counted else 0,
            "cached_tokens": answer.cached_tokens if counted else 0,
            "output_tokens": completion.output_tokens if first else 0,
        }
