"""An engine without a model, for fault injection: what it does with a prompt is written in the caption."""

import asyncio
from dataclasses import dataclass

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting.engine import Answer, Completion, EngineDiedError, RequestError
from laclip_ray.rewriting.prompts import SEPARATOR
from laclip_ray.rewriting.store import PROMPT_TOO_LONG

POISON = "POISON"
"""In a caption: the engine dies of it, each time."""
TOO_LONG = "TOO LONG"
"""In a caption: its request is refused."""
EMPTY = "SAY NOTHING"
"""In a caption: the rewrite is empty."""


@dataclass
class ScriptedEngine:
    """Answers `a picture of CAPTION, number N`."""

    rewrite: RewriteConfig
    seed: int
    delay_s: float = 0.0
    """How long each answer takes."""

    async def generate(self, prompt: str, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engine.Engine`."""
        caption = prompt.rsplit("\n", 1)[1].removesuffix(SEPARATOR).strip()
        await asyncio.sleep(self.delay_s)
        if POISON in caption:
            raise EngineDiedError(caption)
        if TOO_LONG in caption:
            raise RequestError(PROMPT_TOO_LONG)
        texts = [
            "" if EMPTY in caption else f"a picture of {caption}, number {number}"
            for number in range(self.rewrite.rewrites_per_set)
        ]
        return Answer([Completion(text, False, len(text.split())) for text in texts], len(prompt.split()), 0)

    def close(self) -> None:
        """Nothing to stop."""
