"""Language-model engines: the protocol, vLLM behind it, and the guard that no engine outlives its owner.

An engine answers prompts. An error of one request is `RequestError` (the caption is recorded with its reason, the
engine goes on); a dead engine is `EngineDiedError` (the work is done again by another).
"""

import asyncio
import logging
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from laclip_ray import storage
from laclip_ray.config import EngineConfig, RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.prompts import (
    Head,
    PromptSet,
    chat_heads,
    chat_template_of,
    completion_heads,
)
from laclip_ray.rewriting.recipe import model_directory
from laclip_ray.rewriting.tables import PROMPT_TOO_LONG, REQUEST_FAILED, REQUEST_REFUSED

logger = logging.getLogger(__name__)

OWNER_VARIABLE = "LACLIP_ENGINE_OWNER"
"""In the environment of every process that an engine starts: names the actor that owns them."""


class RequestError(Exception):
    """One prompt could not be answered; the engine is fine. The message is the recorded reason."""


class EngineDiedError(RuntimeError):
    """The engine can answer nothing more."""


class EngineStartError(RuntimeError):
    """The engine could not start; the message says what to change."""


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt."""

    text: str
    truncated: bool
    """Whether the token limit ended it."""
    output_tokens: int


@dataclass(frozen=True)
class Answer:
    """What an engine gives for one prompt."""

    completions: Sequence[Completion]
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens found in the prefix cache."""


class Engine(Protocol):
    """What the rewriting actor asks of an engine."""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """Draw `count` continuations of a prompt.

        Raises:
            RequestError: this prompt cannot be answered.
            EngineDiedError: no prompt can be answered any more.
        """

    def close(self) -> None:
        """Stop the engine and its processes."""


_IN_ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


class VllmEngine:
    """vLLM's `AsyncLLM`, which runs in a process of its own."""

    def __init__(self, rewrite: RewriteConfig, seed: int) -> None:
        """Start the engine; returns when it can answer.

        On a CPU this takes 20 to 60 s for a small model, on a GPU minutes for a large one.
        """
        _prepare_environment(rewrite.engine)
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        @cache
        def sampling(count: int) -> SamplingParams:
            return SamplingParams(
                n=count,
                temperature=rewrite.sampling.temperature,
                top_p=rewrite.sampling.top_p,
                max_tokens=rewrite.sampling.max_tokens,
                stop=["\n"] if rewrite.mode == "completion" else None,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )

        self._sampling = sampling
        self._requests: set[asyncio.Task[Any]] = set()
        self._watchdog: asyncio.Task[None] | None = None
        self._is_dead = self._is_closed = False
        self._engine = _start(rewrite, engine_arguments(rewrite, seed))
        # A chat template holds the special tokens itself.
        self._tokenizer = load_llm_tokenizer(rewrite) if rewrite.mode == "chat" else None

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `Engine.generate`."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        given: Any = prompt
        if self._tokenizer is not None:
            given = {"prompt_token_ids": self._tokenizer.encode(prompt, add_special_tokens=False)}
        sampling = self._sampling(count)
        result: Any = None
        try:
            async with self._watched():
                async for output in self._engine.generate(given, sampling, request_id):
                    result = output
        except EngineDeadError as error:
            raise EngineDiedError(str(error)) from error
        except (VLLMClientError, ValueError) as error:
            too_long = any(sign in str(error) for sign in ("longer than", "maximum context length"))
            raise RequestError(PROMPT_TOO_LONG if too_long else REQUEST_REFUSED) from error
        except EngineGenerateError as error:
            raise RequestError(REQUEST_FAILED) from error
        if result is None or any(output.finish_reason not in ("stop", "length") for output in result.outputs):
            raise RequestError(REQUEST_FAILED)
        return Answer(
            [
                Completion(output.text, output.finish_reason == "length", len(output.token_ids))
                for output in result.outputs
            ],
            prompt_tokens=len(result.prompt_token_ids),
            cached_tokens=result.num_cached_tokens or 0,
        )

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Raise `EngineDiedError` here where the engine is dead and vLLM does not say so.

        vLLM tells the requests that it knows when its engine dies; one whose prompt is being tokenised at that moment
        would wait for ever.
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
        await asyncio.sleep(_WATCH_PERIOD_S)  # for vLLM's own errors, which say more
        self._is_dead = True
        while not self._is_closed:  # requests that come later, too
            for task in self._requests:
                task.cancel()
            await asyncio.sleep(_WATCH_PERIOD_S)

    def close(self) -> None:
        """See `Engine.close`."""
        self._is_closed = True
        # vLLM's handler of outputs logs the end of its engine as an error, also when it was asked for.
        logging.getLogger("vllm").setLevel(logging.CRITICAL)
        self._engine.shutdown()


_WATCH_PERIOD_S = 2.0
"""How often an engine is asked whether it is dead."""
_STARTS = 3
"""How often an engine is started whose process something kills before it can answer."""


def _start(rewrite: RewriteConfig, arguments: Any) -> Any:
    from vllm.v1.engine.async_llm import AsyncLLM

    for start in range(1, _STARTS + 1):
        try:
            return AsyncLLM.from_engine_args(arguments)
        except Exception as error:
            if start == _STARTS or not was_killed(error):
                raise EngineStartError(_start_advice(rewrite, error)) from error
            logger.warning("the engine was killed while it started (%s); it is started again", error)
    raise AssertionError


def was_killed(error: Exception) -> bool:
    """Whether the engine's process ended by a signal, and not by an error of its own."""
    # Empty where the process is gone and the system has not said how yet.
    return re.search(r"'EngineCore[^']*': -\d|Failed core proc\(s\): \{\}", str(error)) is not None


def _start_advice(rewrite: RewriteConfig, error: Exception) -> str:
    arguments = "rewrite.engine.args"
    return (
        f"the engine for {rewrite.model} could not start: {str(error).strip().splitlines()[0]}\n"
        f"If the lines above speak of memory, lower {arguments}.max_model_len, {arguments}.max_num_seqs or "
        f"{arguments}.gpu_memory_utilization (another program may hold the rest), give {arguments}.quantization (fp8, "
        "say), spread the model over more GPUs with rewrite.engine.tensor_parallel_size, or on a CPU lower "
        "rewrite.engine.cpu_kv_cache_gib"
    )


def load_llm_tokenizer(rewrite: RewriteConfig) -> Any:
    """The model's own tokeniser.

    Raises:
        UserError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model_directory(rewrite.model), revision=rewrite.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"rewrite.model: the tokeniser of {rewrite.model!r} cannot be loaded: {error}") from error


def build_heads(rewrite: RewriteConfig, prompt_sets: Iterable[PromptSet], seed: int) -> dict[str, tuple[Head, ...]]:
    """The prompt heads of each prompt set, as the configured mode and template have them."""
    if rewrite.mode == "chat":
        template = chat_template_of(load_llm_tokenizer(rewrite))
        return {each.name: chat_heads(each, rewrite.heads, seed, template) for each in prompt_sets}
    return {each.name: completion_heads(each, rewrite.heads, seed, rewrite.template) for each in prompt_sets}


def check_engine(rewrite: RewriteConfig) -> None:
    """Refuse a model or engine arguments that no engine would start with; no GPU is touched.

    Raises:
        UserError: the model directory holds no model, or vLLM has no such argument, or not of this type.
    """
    directory = model_directory(rewrite.model)
    looks_local = rewrite.model.startswith((".", "/", "~"))
    if looks_local and not storage.exists(storage.join(directory, "config.json")):
        raise UserError(f"rewrite.model: {rewrite.model!r} is not a directory with a model (no config.json)")
    if rewrite.engine.args:
        engine_arguments(rewrite, seed=0)


def engine_arguments(rewrite: RewriteConfig, seed: int) -> Any:
    """vLLM's arguments for a configuration.

    Raises:
        UserError: `rewrite.engine.args` has a key that vLLM does not know, or one that other settings decide.
    """
    import dataclasses

    from vllm.engine.arg_utils import AsyncEngineArgs

    decided = {
        "model": model_directory(rewrite.model),
        "revision": rewrite.revision,
        "seed": seed,
        "enable_prefix_caching": True,
        "enable_log_requests": False,
        "tensor_parallel_size": rewrite.engine.tensor_parallel_size,
    }
    defaults: dict[str, Any] = {"disable_log_stats": True}
    if not _has_gpu():
        # Compilation costs more than it gives for the short runs and small models a CPU is used for.
        # Only whole blocks of a head are shared; vLLM's block on a CPU is 128 tokens, most of a head.
        defaults |= {"enforce_eager": True, "max_num_seqs": 128, "block_size": 32}
        if rewrite.engine.tensor_parallel_size == 1:
            # vLLM would put the model in a process of its own and turn the one that schedules into a loop that never
            # sleeps, which takes a core from the model.
            defaults |= {"distributed_executor_backend": _IN_ONE_PROCESS}
    known = {field.name: field.type for field in dataclasses.fields(AsyncEngineArgs)}
    for key, value in rewrite.engine.args.items():
        if key not in known:
            raise UserError(f"rewrite.engine.args.{key}: vLLM has no such engine argument")
        if key in decided:
            raise UserError(f"rewrite.engine.args.{key}: decided by other settings; remove it")
        _check_type(key, value, known[key])
    return AsyncEngineArgs(**{**defaults, **rewrite.engine.args, **decided})


def _check_type(key: str, value: Any, kind: Any) -> None:
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(each["msg"] for each in error.errors())
        raise UserError(f"rewrite.engine.args.{key}: {value!r} is not what vLLM takes: {reasons}") from error
    except (PydanticSchemaGenerationError, PydanticUserError, NameError):
        return  # a type of vLLM's own that says nothing about its values: vLLM checks it when the engine starts


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _prepare_environment(engine: EngineConfig) -> None:
    """Settings that vLLM reads when it is imported."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(engine.cpu_kv_cache_gib))
    # Its warnings are about vLLM's own choices; its errors are shown.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if not _has_gpu():
        # Ray sets one thread for each logical CPU of the actor, which is one.
        os.environ["OMP_NUM_THREADS"] = str(engine.cpu_threads or os.cpu_count() or 1)
    # `spawn` gives the engine's processes an environment of their own, by which the guard finds them.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"


_GUARD_PROGRAM = """
import os, signal, sys
marker = sys.argv[1].encode()
sys.stdin.buffer.read()  # returns when the owner is gone, however it went
for _ in range(3):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if marker in file.read().split(b"\\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
"""


def kill_children_when_gone() -> None:
    """Have every process that this one starts from now on killed when this one is gone, however it goes.

    vLLM's engine process does not watch its parent: after a `kill -9` of the parent it would go on holding the
    GPU's memory. A small process in a session of its own waits for this process's end of a pipe to close, then kills
    whatever carries this process's mark in its environment, so that children started at any time are found.

    Linux only (`/proc`); elsewhere nothing is guarded.
    """
    if OWNER_VARIABLE in os.environ or not sys.platform.startswith("linux"):
        return
    owner = uuid.uuid4().hex
    # A bare file descriptor, which only the system closes, and not before the last of this process's own clean-up.
    read_end, _ = os.pipe()
    subprocess.Popen(
        [sys.executable, "-S", "-c", _GUARD_PROGRAM, f"{OWNER_VARIABLE}={owner}"],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={},
    )
    os.close(read_end)
    os.environ[OWNER_VARIABLE] = owner
    # vLLM's processes set their titles, which else are written over their environment, the mark with it.
    os.environ["SPT_NOENV"] = "1"


BuildEngine = Callable[[RewriteConfig, int], Engine]
