"""The engine actor: starts an engine, passes rows of the stream to the generator, and dies with its engine.

A row of the stream is one shard's work for one prompt set. Its tables travel as Arrow streams in binary columns, so
block splitting cannot tear a shard.

Guarantees: when the engine dies, the actor exits; Ray starts another actor and repeats the tasks in flight. An actor
whose engine does not start gives its shards back to the other engines. No process of the engine outlives the actor.
"""

import asyncio
import gc
import itertools
import logging
import os
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from laclip_ray import cluster, progress
from laclip_ray.config import RewriteConfig
from laclip_ray.data.tokens import TokenizerSpec, count_tokens
from laclip_ray.progress.messages import EngineStart, PhaseState
from laclip_ray.rewriting.engines.arguments import hardware
from laclip_ray.rewriting.engines.engine import BuildEngine, Engine, EngineDiedError, EngineStartError, cache_block_of
from laclip_ray.rewriting.engines.orphan_guard import kill_children_when_gone
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.prompting.prompts import Head
from laclip_ray.rewriting.row_errors import log_failure, one_line
from laclip_ray.rewriting.running.drawn_work import DrawnWork, tell_regularly
from laclip_ray.rewriting.running.generator import ShardGenerator, ShardGivenUpError, useful_redraws
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import STREAM_SCHEMA, WorkUnit, origin_of, table_from_bytes, table_to_bytes

logger = logging.getLogger(__name__)

_PAUSES_S = (5.0, 15.0, 60.0, 120.0)
"""Pauses before the second and later starts of an engine; the last one repeats."""

_EXIT_DELAY_S = 2.0
"""Time for the last returned shard to reach the driver before an actor without an engine exits."""


def start_engine(
    build: Callable[[], Engine],
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """Start an engine, with retries: a dead engine may release its memory late.

    Args:
        build: starts the engine.
        timeout_s: time from the first call of `build` until the last one begins; 0: no retries.
        sleep: waits for some seconds.
        clock: gives seconds.

    Raises:
        EngineStartError: the last start failed too.
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


class RewritingActor:
    """Ray Data actor that holds an engine and draws the rewrites of the stream's rows."""

    def __init__(
        self,
        rewrite: RewriteConfig,
        seed: int,
        tokenizer: TokenizerSpec,
        build_heads: Callable[[], Mapping[str, Sequence[Head]]],
        gates: Mapping[str, Callable[[], Gate]],
        sets: Mapping[str, RewriteSet],
        run: str,
        build_engine: BuildEngine,
        meaning: MeaningGate | None,
        *,
        is_first_round: bool,
        is_watched: bool = False,
    ) -> None:
        """Start the engine.

        Args:
            rewrite: the rewriting configuration.
            seed: decides the engine's sampling.
            tokenizer: CLIP's tokeniser, used by the gates.
            build_heads: gives the prompt heads of each prompt set.
            gates: by prompt set, builds its gate.
            sets: by prompt set, where its rewrites go.
            run: names the driver's run.
            build_engine: starts the engine.
            meaning: judges the meaning of rewrites. None: off.
            is_first_round: whether this is the run's first pool of engines. A failed start there is not retried.
            is_watched: whether the driver shows the engine's progress.
        """
        import ray

        context = ray.get_runtime_context()
        self._signed_s = time.monotonic()
        self._name = str(context.get_actor_id())
        if is_watched:
            progress.forward()
        self._tell_start(rewrite, "began")
        self._returned = 0
        self._most_returned = rewrite.engine.held_shards
        kill_children_when_gone()
        count_tokens(tokenizer, "")  # loads the tokeniser before the first shard needs it
        built_gates = {name: build_gate() for name, build_gate in gates.items()}
        is_restart = not is_first_round or _was_restarted(context)
        timeout_s = rewrite.engine.restart_timeout_s if is_restart else 0.0
        self._engine: Engine | None = None
        try:
            self._engine = start_engine(lambda: build_engine(rewrite, seed), timeout_s)
        except EngineStartError as error:
            # A row of the stream reports it: for an exception here Ray would print pages.
            self._start_failure = str(error)
            self._tell_start(rewrite, "failed")
        else:
            start_s = time.monotonic() - self._signed_s
            self._tell_start(rewrite, "ended")
            work = DrawnWork()
            self._work = EngineWork(hardware(rewrite.engine), cache_block_of(self._engine), start_s=start_s)
            self._generator = ShardGenerator(
                engine=self._engine,
                heads=build_heads(),
                gates=built_gates,
                sets=sets,
                redraws=useful_redraws(rewrite),
                max_engine_deaths=rewrite.max_engine_deaths,
                run=run,
                node=context.get_node_id(),
                alive_nodes=_alive_nodes,
                meaning=meaning,
                completions=rewrite.completions,
                work=work,
            )
            tell_regularly(work, self._name)
        _collect_garbage_rarely()

    def _tell_start(self, rewrite: RewriteConfig, state: PhaseState) -> None:
        elapsed_s = 0.0 if state == "began" else time.monotonic() - self._signed_s
        model, engines = str(rewrite.model), rewrite.engine.actors.max
        progress.tell(EngineStart(self._name, model, engines, state, elapsed_s))

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Draw the rewrites of one row of the stream."""
        (row,) = batch.to_pylist()
        if row["failure"]:
            yield batch
            return
        if self._engine is None:
            await self._give_back(row)
            self._sign(row)
        else:
            made = await self._generate(row)
            self._sign(row)
            self._count(row, made)
        yield pa.Table.from_pylist([row], schema=STREAM_SCHEMA)

    async def _give_back(self, row: dict[str, Any]) -> None:
        """Return a shard to the other engines. Exit after as many shards as an actor holds."""
        self._returned += 1
        if self._returned > self._most_returned:
            # The other engines have this actor's shards. Ray starts a new actor, which gets no shards meanwhile.
            await asyncio.sleep(_EXIT_DELAY_S)
            os._exit(1)
        row["engine_start_failure"] = self._start_failure

    async def _generate(self, row: dict[str, Any]) -> pa.Table | None:
        """Draw the rewrites of a row; None: its failure is in the row."""
        unit = WorkUnit.from_json(row["unit"])
        try:
            made = await self._generator.generate(unit, origin_of(row), table_from_bytes(row["samples"]))
        except ShardGivenUpError as error:
            row["failure"] = str(error)
        except EngineDiedError as error:
            # The attempt logs of all shards in flight say so. Ray starts another actor and repeats the tasks.
            logger.critical("the engine died (%s); leaving it to Ray to start another", one_line(error))
            os._exit(1)
        except Exception as error:  # noqa: BLE001 - of one shard, such as of its storage; Ray Data would end the run
            log_failure(f"{unit.prompt_set}/{unit.shard}")
            row["failure"] = f"cannot be rewritten: {one_line(error)}"
        else:
            row["made"] = table_to_bytes(made)
            return made
        return None

    def _sign(self, row: dict[str, Any]) -> None:
        """Record this actor as the row's engine, with the seconds since its last row."""
        now_s = time.monotonic()
        row["engine"], row["engine_s"] = self._name, now_s - self._signed_s
        self._signed_s = now_s

    def _count(self, row: dict[str, Any], made: pa.Table | None) -> None:
        """Record the engine's work for a signed row."""
        work = replace(self._work, engine_s=row["engine_s"])
        row["engine_work"] = (work if made is None else work.with_tokens_of(made)).to_json()
        self._work = replace(self._work, start_s=0.0)

    def __del__(self) -> None:
        """Close the engine: Ray Data drops the instance when the pool releases the actor."""
        engine = getattr(self, "_engine", None)
        # At the end of the process the engine ends with it, and the modules that `close` needs are half gone.
        if engine is not None and not sys.is_finalizing():
            engine.close()


def _was_restarted(context: Any) -> bool:
    """Whether Ray started this actor in the place of a dead one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this property of Ray's warns about another one
        return bool(context.was_current_actor_reconstructed)


def _collect_garbage_rarely() -> None:
    """Keep Python's garbage collector from taking a third of this process's time.

    The modules loaded by now stay, and a shard's objects live until the shard is drawn. By default Python looks through
    new objects after 700 allocations.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _alive_nodes() -> set[str]:
    """The nodes that stay. On a node that is being taken away, processes may end before Ray takes the node for dead."""
    from ray._private.state import state  # no public function names them

    draining: Any = state.get_draining_nodes()
    return {node["NodeID"] for node in cluster.alive_nodes()} - set(draining)
