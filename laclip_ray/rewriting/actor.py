"""The engine actor: tables of captions in, tables of draws out; and the rows that travel to it and from it.

A row of the stream is the work of one shard for one prompt set, its tables as Arrow streams in binary columns, so that
no block splitting can tear it.

Guarantees: equal captions of a shard are answered once; a rewrite that the gate refuses is drawn again a bounded
number of times; an error of one prompt is recorded as its outcome. When the engine or the actor dies, what was in hand
is found in the shards' ledgers, the shard is done again, and no process of the engine is left.
"""

import asyncio
import gc
import itertools
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.attempts import (
    MAX_FAILED_CAPTIONS,
    AttemptLog,
    Piece,
    attempts_url,
    piece_url,
    read_attempts,
    remove_pieces,
    write_attempts,
)
from laclip_ray.rewriting.engine import (
    BuildEngine,
    Engine,
    EngineDiedError,
    EngineStartError,
    RequestError,
    build_heads,
)
from laclip_ray.rewriting.gate import build_gate
from laclip_ray.rewriting.orphan_guard import kill_children_when_gone
from laclip_ray.rewriting.prompts import Head, PromptSet, parse_completion
from laclip_ray.rewriting.recipe import fingerprint_of
from laclip_ray.rewriting.store import RewriteSet
from laclip_ray.rewriting.tables import (
    MADE_SCHEMA,
    SAMPLES_SCHEMA,
    STREAM_SCHEMA,
    WorkUnit,
    slot_numbers,
    table_bytes,
    table_of,
)

logger = logging.getLogger(__name__)

_REQUESTS_IN_FLIGHT = 1024
"""Of one shard: more than an engine runs at once, so that its queue is never empty."""


class _Draw(NamedTuple):
    draw: int
    attempt: int
    text: str
    truncated: bool
    output_tokens: int
    reason: str | None


@dataclass(slots=True)
class _Request:
    """A caption to be rewritten, for all samples of the shard that have it."""

    caption: str
    head: int
    draws: tuple[int, ...]
    attempt: int
    others: tuple[str, ...]
    rows: list[int]
    outcome: str
    made: list[_Draw] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0


_PAUSES_S = (5.0, 15.0, 60.0, 120.0)
"""Before each further start; the last one again and again."""


def start_engine(
    build: Callable[[], Engine],
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """What `build` gives, which is called again after pauses: what an engine held that died may be let go late.

    Args:
        build: makes the engine.
        timeout_s: from the first call to the beginning of the last one; 0: there is one.
        sleep: waits for some seconds.
        clock: seconds.

    Raises:
        EngineStartError: the last time too.
    """
    deadline_s = clock() + timeout_s
    for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1])):
        try:
            return build()
        except EngineStartError as error:
            pause_s = min(pause_s, deadline_s - clock())
            if pause_s <= 0:
                raise
            logger.warning("an engine did not start again, next attempt in %.0f s: %s", pause_s, error)
            sleep(pause_s)
    raise AssertionError


_LEAVE_S = 2.0
"""Between the last shard that an actor without an engine gives back and its end."""


class RewritingActor:
    """Ray Data actor that holds an engine and turns tables of captions into tables of draws."""

    def __init__(
        self,
        experiment: Experiment,
        prompt_sets: Mapping[str, PromptSet],
        sets: Mapping[str, RewriteSet],
        run: str,
        build: BuildEngine,
        *,
        is_first: bool,
    ) -> None:
        """Start the engine.

        Args:
            experiment: the configuration.
            prompt_sets: by name.
            sets: by name, where the rewrites of each prompt set go.
            run: names this run.
            build: makes the engine.
            is_first: whether the run's first engines are being started: one that does not start is not tried again.
        """
        import ray

        context = ray.get_runtime_context()
        self._started_s = time.monotonic()
        self._rewrite = experiment.rewrite
        self._sets = sets
        self._run = run
        self._node = context.get_node_id()
        self._name = context.get_actor_id()
        self._turn = asyncio.Condition()
        self._in_hand = 0
        self._suspects = 0
        kill_children_when_gone()
        count_tokens(tokenizer_spec(experiment.model.name), "")  # loads the tokeniser before the first shard needs it
        self._gates = {
            name: build_gate(experiment.rewrite, each, experiment.seed, experiment.model.name)
            for name, each in prompt_sets.items()
        }
        self._heads: dict[str, tuple[Head, ...]] = build_heads(self._rewrite, prompt_sets.values(), experiment.seed)
        self._engine: Engine | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, of what it calls itself
            is_again = context.was_current_actor_reconstructed or not is_first
        timeout_s = self._rewrite.engine.restart_timeout_s if is_again else 0.0
        try:
            self._engine = start_engine(lambda: build(self._rewrite, experiment.seed), timeout_s)
        except EngineStartError as error:
            # Said by a row of the stream: an error in here would come out as pages of Ray's own.
            self._start_failure = str(error)
            self._given_back = 0
        # What is loaded by now stays, and a shard's objects live until it is drawn: to look through them each 700
        # allocations took a third of this process's time.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Generate for one stream row."""
        (row,) = batch.to_pylist()
        if row["failure"]:
            yield batch
            return
        if self._engine is None:
            self._given_back += 1
            if self._given_back > self._rewrite.engine.held_shards:
                # What it had is for others now. Ray starts another in its place, which is given nothing meanwhile.
                await asyncio.sleep(_LEAVE_S)  # until what was given back has arrived
                os._exit(1)
            self._sign(row)
            row["engine_start_failure"] = self._start_failure
            yield pa.Table.from_pylist([row], schema=STREAM_SCHEMA)
            return
        unit = WorkUnit.from_json(row["unit"])
        try:
            made = await self._draw_unit(
                unit,
                table_of(row["samples"]),
                fingerprint_of(
                    {"origin": row["origin"], "unit": row["unit"], "gate": self._sets[unit.prompt_set].gate}
                ),
            )
        except EngineDiedError as error:
            # The ledgers of all that is in hand say so. Ray starts another actor and repeats the tasks.
            logger.critical("the engine died (%s); leaving it to Ray to start another", error)
            os._exit(1)
        self._sign(row)
        if made is None:
            row["failure"] = (
                f"more than {MAX_FAILED_CAPTIONS} of its captions killed their engines; look at the engine first. "
                f"To try again, remove {attempts_url(self._sets[unit.prompt_set].location, unit.shard)[:-5]}.*"
            )
        else:
            row["made"] = table_bytes(made)
        yield pa.Table.from_pylist([row], schema=STREAM_SCHEMA)

    def _sign(self, row: dict[str, Any]) -> None:
        """Note whose row it is, and the time since the one before."""
        now_s = time.monotonic()
        row["engine"], row["engine_s"] = self._name, now_s - self._started_s
        self._started_s = now_s

    def __del__(self) -> None:
        """Ray Data drops the instance when the pool lets the actor go."""
        engine = getattr(self, "_engine", None)
        # At the end of the process itself the engine ends with it, and what would close it is half taken apart.
        if engine is not None and not sys.is_finalizing():
            engine.close()

    async def _draw_unit(self, unit: WorkUnit, samples: pa.Table, work: str) -> pa.Table | None:
        """The draws of a unit; None if too many of its captions kill their engines."""
        location = self._sets[unit.prompt_set].location
        url = attempts_url(location, unit.shard)
        ledger = await asyncio.to_thread(read_attempts, url)
        if ledger.work != work:
            await asyncio.to_thread(remove_pieces, location, unit.shard, ledger)
            ledger = AttemptLog(work)
        if ledger.attempt:
            ledger = ledger.settle(self._run, _alive_nodes(), self._rewrite.max_engine_deaths)
        if not ledger.pieces:
            await self._enter(alone=False)
            try:
                begun = ledger.begin(self._run, self._node, 0, samples.num_rows)
                await asyncio.to_thread(write_attempts, url, begun)
                made = await self._draw(unit, samples)
            finally:
                await self._leave(alone=False)
            await asyncio.to_thread(write_attempts, url, AttemptLog())
            return made
        await self._enter(alone=True)
        try:
            parts = [await self._draw_piece(unit, samples, piece, ledger, url) for piece in ledger.pieces]
        finally:
            await self._leave(alone=True)
        await asyncio.to_thread(write_attempts, url, replace(ledger, attempt=None))
        found = [part for part in parts if part is not None]
        return pa.concat_tables(found) if len(found) == len(parts) else None

    async def _draw_piece(
        self, unit: WorkUnit, samples: pa.Table, piece: Piece, ledger: AttemptLog, url: str
    ) -> pa.Table | None:
        """One piece of a suspect shard, with nothing else in hand; from storage if it is finished."""
        if len(ledger.failed) > MAX_FAILED_CAPTIONS:
            return None
        kept = piece_url(self._sets[unit.prompt_set].location, unit.shard, ledger, piece)
        if await asyncio.to_thread(storage.exists, kept):
            return table_of(await asyncio.to_thread(storage.read_bytes, kept))
        part = samples.slice(piece.start, piece.stop - piece.start)
        if piece.start in ledger.failed and piece.stop - piece.start == 1:
            outcome = pa.array([tables.ENGINE_DIED], pa.string())
            part = part.set_column(part.schema.get_field_index("outcome"), SAMPLES_SCHEMA.field("outcome"), outcome)
            logger.error("%s/%s: %s killed its engine", unit.prompt_set, unit.shard, part.column("id")[0])
        else:
            begun = ledger.begin(self._run, self._node, piece.start, piece.stop)
            await asyncio.to_thread(write_attempts, url, begun)
        made = await self._draw(unit, part, first_row=piece.start)
        await asyncio.to_thread(storage.write_bytes, kept, table_bytes(made))
        return made

    async def _enter(self, alone: bool) -> None:
        """Wait for a turn: suspects are generated with nothing else in hand."""
        async with self._turn:
            if alone:
                self._suspects += 1  # from now on nobody else enters
                await self._turn.wait_for(lambda: self._in_hand == 0)
            else:
                await self._turn.wait_for(lambda: self._suspects == 0)
            self._in_hand += 1

    async def _leave(self, alone: bool) -> None:
        async with self._turn:
            self._in_hand -= 1
            self._suspects -= alone
            self._turn.notify_all()

    async def _draw(self, unit: WorkUnit, samples: pa.Table, first_row: int = 0) -> pa.Table:
        requests = _requests_of(samples, first_row)
        asked = [request for request in requests if request.outcome == tables.DRAWN]
        # Those of one head are sent together, so that its prefix stays cached.
        waiting = iter(sorted(asked, key=lambda request: request.head))

        async def work() -> None:
            for request in waiting:
                await self._answer(unit, request)

        await asyncio.gather(*(work() for _ in range(min(_REQUESTS_IN_FLIGHT, len(asked)))))
        return _made_table(requests)

    async def _answer(self, unit: WorkUnit, request: _Request) -> None:
        prompt_set, caption, head = unit.prompt_set, request.caption, request.head
        prompt = self._heads[prompt_set][head].prompt(caption)
        name = f"{prompt_set}/{unit.shard}/{request.rows[0]}"
        judge = self._gates[prompt_set].judge
        accepted = list(request.others)
        pending: Iterable[int] = request.draws
        redraws = self._rewrite.redraws if self._rewrite.sampling.temperature else 0  # greedy draws are all the same
        for attempt in range(request.attempt, request.attempt + redraws + 1):
            numbers = tuple(pending)
            assert self._engine is not None
            try:
                answer = await self._engine.generate(prompt, len(numbers), f"{name}/{attempt}")
            except RequestError as error:
                request.outcome = str(error)
                return
            request.prompt_tokens += answer.prompt_tokens
            request.cached_tokens += answer.cached_tokens
            refused = []
            for draw, completion in zip(numbers, answer.completions, strict=True):
                text = parse_completion(completion.text)
                reason = judge(text, caption, completion.truncated, head, accepted)
                request.made.append(_Draw(draw, attempt, text, completion.truncated, completion.output_tokens, reason))
                if reason is None:
                    accepted.append(text)
                else:
                    refused.append(draw)
            pending = refused
            if not refused:
                break


def _alive_nodes() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _requests_of(samples: pa.Table, first_row: int) -> list[_Request]:
    """A request for each distinct caption; those that have an outcome already are not asked of the engine."""
    requests: dict[Any, _Request] = {}
    numbers_of: dict[int, tuple[int, ...]] = {}
    names = ("caption", "head", "outcome", "draws", "attempt", "others")
    columns = (samples.column(name).to_pylist() for name in names)
    for row, (caption, head, outcome, draws, attempt, others) in enumerate(zip(*columns, strict=True), first_row):
        if not draws:
            continue
        fresh = others is None and not attempt and outcome == tables.DRAWN
        key = caption if fresh else (caption, outcome, draws, attempt, others)
        known = requests.get(key)
        if known is None:
            numbers = numbers_of.get(draws) or numbers_of.setdefault(draws, slot_numbers(draws))
            accepted = tuple(json.loads(others)) if others else ()
            requests[key] = _Request(caption, head, numbers, attempt, accepted, [row], outcome)
        else:
            known.rows.append(row)
    return list(requests.values())


def _made_table(requests: Iterable[_Request]) -> pa.Table:
    """The draws table; tokens are counted with the first sample of a caption, prompts with its first draw."""
    rows: list[tuple[Any, ...]] = []
    for request in requests:
        if (outcome := request.outcome) != tables.DRAWN:
            rows.extend(
                (row, draw, request.attempt, outcome, None, False, 0, 0, 0, outcome)
                for row in request.rows
                for draw in request.draws
            )
            continue
        # Of the draws for one rewrite the attempts stand together.
        made = (
            sorted(request.made, key=lambda each: (each.draw, each.attempt)) if len(request.made) > 1 else request.made
        )
        counted = True
        for row in request.rows:
            prompt_tokens, cached_tokens = (request.prompt_tokens, request.cached_tokens) if counted else (0, 0)
            for draw, attempt, text, truncated, output_tokens, reason in made:
                output_tokens = output_tokens if counted else 0
                rows.append(
                    (
                        *(row, draw, attempt, tables.DRAWN, text, truncated),
                        *(prompt_tokens, cached_tokens, output_tokens, reason),
                    )
                )
                prompt_tokens = cached_tokens = 0
            counted = False
    rows.sort(key=lambda each: each[0])  # stable: the draws of a sample keep their order
    columns = zip(*rows, strict=True) if rows else [()] * len(MADE_SCHEMA)
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, MADE_SCHEMA.types, strict=True)], schema=MADE_SCHEMA
    )
