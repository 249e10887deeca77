"""One start of a real engine, for runs of the pipeline in both prompt modes.

The pipeline starts an engine in each of its actors, and ends it with the run. Here an actor of the tests holds vLLM's
engine, and the pipeline's actors pass their requests on to it. The host has a `VllmEngine` for each mode; both use the
same `AsyncLLM`, so all of this package's own code runs as in a run of its own.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting.engines import engine as engine_module
from laclip_ray.rewriting.engines.engine import Answer, VllmEngine
from laclip_ray.rewriting.engines.orphan_guard import kill_children_when_gone
from laclip_ray.rewriting.prompting.prompts import Prompt
from tests.integration.chaos import engine_processes_of


@dataclass(frozen=True)
class Exchange:
    """A request to the engine, and the answer."""

    prompt: str
    count: int
    answer: Answer


class EngineHost:
    """Ray actor that holds the engine. Records what passes."""

    def __init__(self, configs: Mapping[str, RewriteConfig]) -> None:
        """Start the engine.

        Args:
            configs: by prompt mode. They name the same model, and the same arguments of its engine.
        """
        kill_children_when_gone()
        (first, *others) = configs
        self._engines = {first: VllmEngine(configs[first], seed=0)}
        for mode in others:
            with patch.object(engine_module, "_start", return_value=self._engines[first]._engine):
                self._engines[mode] = VllmEngine(configs[mode], seed=0)
        self._exchanges: dict[str, list[Exchange]] = {mode: [] for mode in configs}

    async def generate(self, mode: str, parts: tuple[str, str, str], count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        prompt = Prompt(*parts)
        answer = await self._engines[mode].generate(prompt, count, f"{mode}/{request_id}")
        self._exchanges[mode].append(Exchange(str(prompt), count, answer))
        return answer

    async def exchanges(self, mode: str) -> list[Exchange]:
        """All requests of a mode so far."""
        return self._exchanges[mode]

    async def processes(self) -> list[int]:
        """The processes that the engine consists of."""
        return engine_processes_of(os.getpid())

    async def close(self) -> None:
        """Stop the engine."""
        next(iter(self._engines.values())).close()


@dataclass
class SharedEngine:
    """An engine of the pipeline that asks a host."""

    rewrite: RewriteConfig
    seed: int
    host: Any
    """An `EngineHost` actor."""

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        parts = (prompt.before, prompt.caption, prompt.after)
        answer: Answer = await self.host.generate.remote(self.rewrite.mode, parts, count, request_id)
        return answer

    def close(self) -> None:
        """The host outlives the run."""
