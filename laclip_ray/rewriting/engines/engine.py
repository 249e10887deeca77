"""Language-model engines: the protocol, and vLLM behind it.

An engine answers prompts. An error of one request is a `RequestError`: the caption is recorded with its reason, and the
engine answers the next prompt. A dead engine raises `EngineDiedError`: another engine does the work again.

Guarantees: a control token spelled out in a caption reaches the model as text (`literal_tokens`). No tokens are spent
behind a rewrite where its end is certain (`stops`); a completion that begins with a blank line still has its text.
"""

import asyncio
import copy
import logging
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting.engines.arguments import engine_arguments, prepare_environment
from laclip_ray.rewriting.prompting.completions import holds_word
from laclip_ray.rewriting.prompting.literal_tokens import PromptEncoder
from laclip_ray.rewriting.prompting.prompts import Prompt
from laclip_ray.rewriting.prompting.stops import stops_of
from laclip_ray.rewriting.row_errors import is_request_to_stop, one_line
from laclip_ray.rewriting.tables import PROMPT_TOO_LONG, REQUEST_FAILED, REQUEST_REFUSED

logger = logging.getLogger(__name__)

_WATCH_PERIOD_S = 2.0
"""Time between two checks whether the engine is dead."""

_CONTINUATIONS = 3
"""Continuations of a text that stops before its first word."""

_STARTS = 3
"""Starts of an engine whose process is killed before it can answer."""


class RequestError(Exception):
    """One prompt cannot be answered; the engine is fine. The message is the recorded reason, the cause the error."""


class EngineDiedError(RuntimeError):
    """The engine cannot answer any more prompts."""


class EngineStartError(RuntimeError):
    """The engine could not start; the message says what to change."""


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt."""

    text: str
    truncated: bool
    """Whether the token limit ended it."""
    output_tokens: int
    log_probability: float | None = None
    """Mean natural log-probability of its tokens; None: not known or not asked for."""


@dataclass(frozen=True)
class Answer:
    """An engine's continuations of one prompt."""

    completions: Sequence[Completion]
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens found in the prefix cache."""


class Engine(Protocol):
    """A language model that answers many prompts at once."""

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
        """Draw `count` continuations of a prompt.

        Raises:
            RequestError: this prompt cannot be answered. Any other error but the next one means the same.
            EngineDiedError: the engine cannot answer any more prompts.
        """

    def close(self) -> None:
        """Stop the engine and its processes."""


BuildEngine = Callable[[RewriteConfig, int], Engine]
"""Starts an engine for a configuration and a seed."""


class VllmEngine:
    """vLLM's `AsyncLLM`, which runs in a process of its own."""

    def __init__(self, rewrite: RewriteConfig, seed: int) -> None:
        """Start the engine; returns when it can answer.

        On a CPU this takes 20 to 60 s for a small model, on a GPU minutes for a large one.

        Raises:
            EngineStartError: the engine could not start.
        """
        prepare_environment(rewrite.engine)
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._requests: set[asyncio.Task[Any]] = set()
        self._watchdog: asyncio.Task[None] | None = None
        self._is_dead = self._is_closed = False
        logging.getLogger("vllm.v1.engine.async_llm").addFilter(_says_more_than_the_end)
        self._engine = _start(rewrite, engine_arguments(rewrite, seed))
        tokenizer = _copied(self._engine.get_tokenizer())
        self._encoder = PromptEncoder(tokenizer, rewrite.mode)
        stops = stops_of(rewrite.mode, tokenizer)

        @cache
        def sampling(count: int, max_tokens: int) -> SamplingParams:
            return SamplingParams(
                n=count,
                temperature=rewrite.sampling.temperature,
                top_p=rewrite.sampling.top_p,
                max_tokens=max_tokens,
                stop=list(stops.strings),
                stop_token_ids=list(stops.token_ids),
                skip_special_tokens=stops.hides_special_tokens,
                output_kind=RequestOutputKind.FINAL_ONLY,
                # 0: only of the sampled tokens, without a search for the likeliest; flat: without an object for each.
                logprobs=0 if rewrite.log_probability else None,
                flat_logprobs=rewrite.log_probability,
            )

        self._sampling = sampling
        self._max_tokens = rewrite.sampling.max_tokens
        # The paper's code takes the first line, even a blank one.
        self._skips_blank_lines = rewrite.completions == "normalised"

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
        """See `Engine.generate`."""
        result = await self._ask(prompt, self._sampling(count, self._max_tokens), request_id)
        completions = []
        for number, output in enumerate(result.outputs):
            parts = [output]
            if self._skips_blank_lines and _stopped_before_word(output):
                parts = await self._continue(result.prompt_token_ids, output, f"{request_id}/{number}")
            completions.append(_completion(parts))
        return Answer(completions, len(result.prompt_token_ids), result.num_cached_tokens or 0)

    async def _continue(self, prompt_token_ids: Sequence[int], output: Any, request_id: str) -> list[Any]:
        """Continue a text that stopped before its first word: at a line break, or at a repeated separator.

        vLLM has no stop that waits for a word. `min_tokens` would do so for one token, and would forbid the model to
        end its text there. The continuation samples what the model would have written next.
        """
        parts = [output]
        while _stopped_before_word(parts[-1]) and len(parts) <= _CONTINUATIONS:
            token_ids = [token_id for part in parts for token_id in part.token_ids]
            if len(token_ids) >= self._max_tokens:
                break
            sampling = self._sampling(1, self._max_tokens - len(token_ids))
            result = await self._ask([*prompt_token_ids, *token_ids], sampling, f"{request_id}/{len(parts)}")
            parts += result.outputs
        return parts

    async def _ask(self, prompt: Prompt | list[int], sampling: Any, request_id: str) -> Any:
        """vLLM's answer to one request, for a prompt or its token ids."""
        from vllm.v1.engine.exceptions import EngineDeadError

        result: Any = None
        try:
            encoded = self._encoder.encode(prompt) if isinstance(prompt, Prompt) else prompt
            vllm_prompt = encoded if isinstance(encoded, str) else {"prompt_token_ids": encoded}
            async with self._watched():
                async for output in self._engine.generate(vllm_prompt, sampling, request_id):
                    result = output
        except EngineDiedError:
            raise
        except BaseException as error:
            if is_request_to_stop(error):
                raise
            if isinstance(error, EngineDeadError) or self._engine.errored:
                raise EngineDiedError(one_line(error)) from error
            raise RequestError(_reason_of(error)) from error
        if result is None or any(output.finish_reason not in ("stop", "length") for output in result.outputs):
            if self._engine.errored:
                raise EngineDiedError("the engine died before it had finished a text")
            raise RequestError(REQUEST_FAILED)
        return result

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Raise `EngineDiedError` in the body when the engine dies and vLLM does not say so.

        When its engine dies, vLLM fails the requests that have reached the engine. A request whose prompt is being
        tokenised at that moment would wait for ever.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(self._watch())
        self._requests.add(task)
        try:
            yield
        except asyncio.CancelledError as error:
            if not self._is_dead:
                raise
            task.uncancel()
            raise EngineDiedError("the engine is dead") from error
        finally:
            self._requests.discard(task)

    async def _watch(self) -> None:
        while not self._engine.errored and not self._is_closed:
            await asyncio.sleep(_WATCH_PERIOD_S)
        await asyncio.sleep(_WATCH_PERIOD_S)  # let vLLM raise its own errors first; they say more
        self._is_dead = True
        while not self._is_closed:  # later requests must end too
            for task in self._requests:
                task.cancel()
            await asyncio.sleep(_WATCH_PERIOD_S)

    @property
    def cache_block_tokens(self) -> int:
        """Tokens of a block of the prefix cache; prompts share whole blocks."""
        return int(self._engine.vllm_config.cache_config.block_size)

    @property
    def batching(self) -> dict[str, int]:
        """The engine's choices for its batches: values of the engine arguments of the same names."""
        scheduler = self._engine.vllm_config.scheduler_config
        return {name: int(getattr(scheduler, name)) for name in ("max_num_seqs", "max_num_batched_tokens")}

    def close(self) -> None:
        """See `Engine.close`."""
        self._is_closed = True
        logging.getLogger("vllm").setLevel(logging.CRITICAL)  # a requested end is no error
        self._engine.shutdown()


def cache_block_of(engine: Engine) -> int | None:
    """Tokens of a block of an engine's prefix cache; None if it is not vLLM's."""
    return engine.cache_block_tokens if isinstance(engine, VllmEngine) else None


def _completion(parts: Sequence[Any]) -> Completion:
    """A completion of vLLM, from its parts. `raw_logprobs` are the model's log-probabilities at temperature 1."""
    text = "".join(f"{part.text}{part.stop_reason}" for part in parts[:-1]) + parts[-1].text
    tokens = sum(len(part.token_ids) for part in parts)
    totals = [part.cumulative_logprob for part in parts]
    is_known = tokens and all(total is not None and math.isfinite(total) for total in totals)
    return Completion(text, parts[-1].finish_reason == "length", tokens, sum(totals) / tokens if is_known else None)


def _stopped_before_word(output: Any) -> bool:
    """Whether a stop string ended a text of vLLM's that has no word yet."""
    return output.finish_reason == "stop" and isinstance(output.stop_reason, str) and not holds_word(output.text)


def _says_more_than_the_end(record: logging.LogRecord) -> bool:
    """Whether to print a record of vLLM.

    Its output handler logs the engine's end as an error with a traceback, also when Ray ends the actor of a good run.
    If the engine died, `EngineDiedError` says so.
    """
    return not record.getMessage().startswith("AsyncLLM output_handler failed")


def _copied(tokenizer: Any) -> Any:
    """A tokenizer for this thread: vLLM's threads use the engine's own, and native ones serve one thread at a time."""
    try:
        return copy.deepcopy(tokenizer)
    except Exception:  # noqa: BLE001 - a model's own code; written in Python, it serves several threads
        return tokenizer


def _reason_of(error: BaseException) -> str:
    """The recorded reason for an error of one request to vLLM."""
    from vllm.exceptions import VLLMClientError

    if not isinstance(error, VLLMClientError | ValueError):
        return REQUEST_FAILED
    too_long = any(sign in str(error) for sign in ("longer than", "maximum context length"))
    return PROMPT_TOO_LONG if too_long else REQUEST_REFUSED


def _start(rewrite: RewriteConfig, arguments: Any) -> Any:
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    for start in range(1, _STARTS + 1):
        try:
            # vLLM's defaults for batches follow from the use: offline, no user waits for a single answer.
            return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
        except Exception as error:
            if start == _STARTS or not was_killed(error):
                raise EngineStartError(_start_advice(rewrite, error)) from error
            logger.warning("the engine was killed while it started (%s); it is started again", error)
    raise AssertionError


def was_killed(error: Exception) -> bool:
    """Whether a signal ended the engine's process, as opposed to an error of its own."""
    # The braces are empty if the process is gone and the system has not reported its exit code yet.
    return re.search(r"'EngineCore[^']*': -\d|Failed core proc\(s\): \{\}", str(error)) is not None


def _start_advice(rewrite: RewriteConfig, error: Exception) -> str:
    arguments = "rewrite.engine.args"
    return (
        f"the engine for {rewrite.model} could not start: {str(error).strip().splitlines()[0]}\n"
        f"If the lines above speak of memory, lower {arguments}.max_model_len, {arguments}.max_num_seqs or "
        f"{arguments}.gpu_memory_utilization (another program may hold the rest), set {arguments}.quantization (for "
        "example to fp8), spread the model over more GPUs with rewrite.engine.tensor_parallel_size, or on a CPU lower "
        "rewrite.engine.cpu_kv_cache_gib"
    )
