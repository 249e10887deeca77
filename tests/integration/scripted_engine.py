"""Engines without a model, for fault injection and scale: a word in the caption decides what they do with it."""

import asyncio
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting.engines.engine import Answer, Completion, EngineDiedError, RequestError
from laclip_ray.rewriting.prompting.prompts import SEPARATOR
from laclip_ray.rewriting.tables import PROMPT_TOO_LONG

POISON = "POISON"
"""In a caption: it kills the engine, each time."""
TOO_LONG = "TOO LONG"
"""In a caption: its request is refused."""
EMPTY = "SAY NOTHING"
"""In a caption: the rewrite is empty."""


def caption_of(prompt: str) -> str:
    """The caption in a prompt."""
    return prompt.rsplit("\n", 1)[1].removesuffix(SEPARATOR).strip()


@dataclass
class ScriptedEngine:
    """Answers `a picture of CAPTION, number N`."""

    rewrite: RewriteConfig
    seed: int
    delay_s: float = 0.0
    """Time that each answer takes."""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        caption = caption_of(prompt)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if POISON in caption:
            raise EngineDiedError(caption)
        if TOO_LONG in caption:
            raise RequestError(PROMPT_TOO_LONG)
        texts = ["" if EMPTY in caption else f"a picture of {caption}, number {number}" for number in range(count)]
        return Answer([Completion(text, False, len(text.split())) for text in texts], len(prompt.split()), 0)

    def close(self) -> None:
        """There is no process to stop."""


REFUSED_PERCENT = 10


def seeded_text(caption: str, number: int, attempt: int) -> str:
    """A rewrite that the gate accepts; for `REFUSED_PERCENT` of the draws, a text that it refuses."""
    drawn = crc32(f"{caption}/{number}/{attempt}".encode())
    kind = drawn % 100
    if kind >= REFUSED_PERCENT:
        return f"a picture that shows {caption}, seen for the {drawn % 97}th time"
    return ("", caption, f"{caption} and and and and and and", "nothing whatever of the kind", "word")[kind % 5]


@dataclass
class SeededEngine:
    """Answers at once, by a function of caption and attempt. The gate refuses some answers."""

    rewrite: RewriteConfig
    seed: int

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        caption = prompt.rsplit("\n", 1)[1][: -len(SEPARATOR) - 1]
        attempt = int(request_id.rsplit("/", 1)[1])
        return Answer(
            [Completion(seeded_text(caption, number, attempt), False, 12) for number in range(count)], 150, 128
        )

    def close(self) -> None:
        """There is no process to stop."""


_PROCESS = """
import json, os, sys, time
from tests.integration.scripted_engine import POISON, caption_of, seeded_text
for line in sys.stdin:
    request = json.loads(line)
    time.sleep(float(sys.argv[1]))
    caption = caption_of(request["prompt"])
    if POISON in caption:
        os._exit(1)
    texts = [seeded_text(caption, number, request["attempt"]) for number in range(request["count"])]
    print(json.dumps({"id": request["id"], "texts": texts}), flush=True)
"""


@dataclass
class ProcessEngine:
    """`SeededEngine` in a process of its own, as vLLM's engine, and at a set pace."""

    rewrite: RewriteConfig
    seed: int
    pace_s: float = 0.0
    """Time between two answers."""
    waiting: dict[str, asyncio.Future[list[str]]] = field(default_factory=dict)
    process: Any = None
    gone: bool = False

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        loop = asyncio.get_running_loop()
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROCESS, str(self.pace_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            # A thread takes answers even while a request is being written.
            threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        if self.gone:
            raise EngineDiedError("its process is gone")
        answer: asyncio.Future[list[str]] = loop.create_future()
        self.waiting[request_id] = answer
        attempt = int(request_id.rsplit("/", 1)[1])
        line = json.dumps({"id": request_id, "prompt": prompt, "count": count, "attempt": attempt})
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise EngineDiedError("its process is gone") from error
        return Answer([Completion(text, False, 12) for text in await answer], 150, 128)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in self.process.stdout:
            content = json.loads(line)
            loop.call_soon_threadsafe(self.waiting.pop(content["id"]).set_result, content["texts"])
        loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.gone = True
        for answer in self.waiting.values():
            answer.set_exception(EngineDiedError("its process is gone"))

    def close(self) -> None:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        if self.process is not None:
            self.process.kill()
