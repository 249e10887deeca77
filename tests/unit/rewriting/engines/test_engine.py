"""vLLM's engine: a killed start is recognised, a request's error is its own, and a dead engine answers no request."""

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.engines import arguments as engine_arguments
from laclip_ray.rewriting.engines import engine
from laclip_ray.rewriting.engines.engine import Completion, EngineDiedError, RequestError, VllmEngine, was_killed
from laclip_ray.rewriting.prompting.prompts import Prompt
from laclip_ray.rewriting.prompting.stops import Stops
from laclip_ray.rewriting.recipe import model_directory
from tests.cases import case

CONFIG = RewriteConfig(model="demo-rewriter")
PROMPT = Prompt("before ", "a caption", " =>")


@cache
def tokenizer() -> Any:
    """The demo rewriter's."""
    return AutoTokenizer.from_pretrained(model_directory("demo-rewriter"))


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_arguments, "has_gpu", lambda: False)


@pytest.mark.parametrize(
    ("message", "killed"),
    [
        ("Engine core initialization failed. Failed core proc(s): {'EngineCore': -9}", True),
        ("Engine core initialization failed. Failed core proc(s): {'EngineCore_DP0': -15}", True),
        ("Engine core initialization failed. Failed core proc(s): {'EngineCore': 1}", False),
        ("Engine core initialization failed. Failed core proc(s): {}", True),
        ("max_model_len -9", False),
    ],
)
def test_a_killed_engine_is_distinguished_from_a_failed_one(message: str, killed: bool) -> None:
    assert was_killed(RuntimeError(message)) == killed


class FakeEngine:
    """What `VllmEngine` uses of vLLM's `AsyncLLM`."""

    def __init__(self) -> None:
        self.errored = False
        self.prompts: list[object] = []

    def get_tokenizer(self) -> Any:
        return tokenizer()


class SilentEngine(FakeEngine):
    """Dies at the first request, without an answer or an error."""

    async def generate(self, *_: object) -> AsyncIterator[object]:
        self.errored = True
        await asyncio.Event().wait()
        yield None


def test_requests_to_a_silently_dead_engine_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_WATCH_PERIOD_S", 0.01)
    monkeypatch.setattr(engine, "_start", lambda *_: SilentEngine())

    async def ask() -> list[object]:
        mortal = VllmEngine(CONFIG, 0)
        requests = [asyncio.create_task(mortal.generate(PROMPT, 1, str(number))) for number in range(3)]
        answers: list[object] = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), timeout=30)
        # The caller's task is not left cancelled.
        assert not any(task.cancelling() for task in requests)
        return answers

    assert [type(answer) for answer in asyncio.run(ask())] == [EngineDiedError] * 3


def test_a_cancelled_request_ends_as_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = SilentEngine()
    monkeypatch.setattr(engine, "_start", lambda *_: silent)

    async def cancel() -> None:
        request = asyncio.create_task(VllmEngine(CONFIG, 0).generate(PROMPT, 1, "0"))
        while not silent.errored:
            await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(cancel())


class PanicException(BaseException):
    """As the tokenizers library raises it when its native code panics: no `Exception`."""


class FailingEngine(FakeEngine):
    """Raises an error for each request."""

    def __init__(self, error: BaseException | None, dies: bool = False) -> None:
        super().__init__()
        self.error, self.dies = error, dies

    async def generate(self, prompt: object, *_: object) -> AsyncIterator[object]:
        self.prompts.append(prompt)
        self.errored = self.dies
        if self.error is not None:
            raise self.error
        yield None


def vllm_errors() -> dict[str, BaseException]:
    """Errors of one request, by what they are."""
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.exceptions import EngineGenerateError

    return {
        "an error of the engine": EngineGenerateError(),
        "a panic of the tokenizer": PanicException("index out of bounds"),
        "a runtime error": RuntimeError("CUDA error: an illegal memory access"),
        "a time-out": TimeoutError(),
        "a task that the engine cancelled": asyncio.CancelledError(),
        "lack of memory": MemoryError(),
        "a refused prompt": VLLMValidationError("the prompt is bad"),
        "too long a prompt": ValueError("The prompt (length 9) is longer than the maximum model length of 8"),
    }


REASONS = {"a refused prompt": tables.REQUEST_REFUSED, "too long a prompt": tables.PROMPT_TOO_LONG}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=case(
                "Reading data",
                f"{kind}, for one caption",
                "the caption has no rewrite; the engine continues",
                counted_as=REASONS.get(kind, tables.REQUEST_FAILED),
            ),
        )
        for kind in (
            "an error of the engine",
            "a panic of the tokenizer",
            "a runtime error",
            "a time-out",
            "a task that the engine cancelled",
            "lack of memory",
            "a refused prompt",
            "too long a prompt",
        )
    ],
)
def test_an_error_of_one_request_is_a_reason_unless_the_engine_died(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = vllm_errors()[kind]
    monkeypatch.setattr(engine, "_start", lambda *_: FailingEngine(error))
    with pytest.raises(RequestError) as refused:
        asyncio.run(VllmEngine(CONFIG, 0).generate(PROMPT, 1, "0"))
    assert str(refused.value) == REASONS.get(kind, tables.REQUEST_FAILED)
    assert refused.value.__cause__ is error

    monkeypatch.setattr(engine, "_start", lambda *_: FailingEngine(error, dies=True))
    with pytest.raises(EngineDiedError):
        asyncio.run(VllmEngine(CONFIG, 0).generate(PROMPT, 1, "0"))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_the_process_passes(kind: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_start", lambda *_: FailingEngine(kind()))
    with pytest.raises(kind):
        asyncio.run(VllmEngine(CONFIG, 0).generate(PROMPT, 1, "0"))


class EndingEngine(FakeEngine):
    """Ends each text without the model's consent."""

    def __init__(self, dies: bool) -> None:
        super().__init__()
        self.dies = dies

    async def generate(self, *_: object) -> AsyncIterator[object]:
        self.errored = self.dies
        yield SimpleNamespace(outputs=[SimpleNamespace(finish_reason="abort")])


@pytest.mark.parametrize(("dies", "kind"), [(False, RequestError), (True, EngineDiedError)])
def test_an_aborted_text_is_no_completion(dies: bool, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_start", lambda *_: EndingEngine(dies))
    with pytest.raises(kind):
        asyncio.run(VllmEngine(CONFIG, 0).generate(PROMPT, 1, "0"))


class TellingEngine(FakeEngine):
    """Answers with two texts, and notes how it was asked."""

    async def generate(self, _: object, sampling: Any, request_id: str) -> AsyncIterator[object]:
        self.sampling = sampling
        total = None if sampling.logprobs is None else -3.0
        texts = [("a dog", [1, 2, 3, 4], total), ("", [], 0.0)]
        yield SimpleNamespace(
            outputs=[
                SimpleNamespace(
                    text=text, token_ids=tokens, cumulative_logprob=logprob, finish_reason="stop", stop_reason=None
                )
                for text, tokens, logprob in texts
            ],
            prompt_token_ids=[0] * 9,
            num_cached_tokens=4,
        )


@pytest.mark.parametrize(("is_stored", "expected"), [(True, -0.75), (False, None)])
def test_a_completion_has_the_mean_log_probability_of_its_tokens(
    is_stored: bool, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = TellingEngine()
    monkeypatch.setattr(engine, "_start", lambda *_: fake)
    started = VllmEngine(RewriteConfig(model="demo-rewriter", log_probability=is_stored), 0)
    answer = asyncio.run(started.generate(PROMPT, 2, "0"))
    assert [each.log_probability for each in answer.completions] == [expected, None]
    assert fake.sampling.logprobs == (0 if is_stored else None)


class LineEngine(FakeEngine):
    """Writes texts, given as (text, reason of the stop), one after the other."""

    def __init__(self, *texts: tuple[str, str | None]) -> None:
        super().__init__()
        self.texts = iter(texts)
        self.asked: list[tuple[Any, Any]] = []

    async def generate(self, prompt: Any, sampling: Any, request_id: str) -> AsyncIterator[object]:
        self.asked.append((prompt, sampling))
        yield SimpleNamespace(
            outputs=[
                SimpleNamespace(
                    text=text, token_ids=[7, 8], cumulative_logprob=-1.0,
                    finish_reason="stop" if stop else "length", stop_reason=stop,
                )
                for text, stop in (next(self.texts) for _ in range(sampling.n))
            ],
            prompt_token_ids=[1, 2, 3],
            num_cached_tokens=0,
        )  # fmt: skip


def generate(fake: LineEngine, count: int, monkeypatch: pytest.MonkeyPatch, **rewrite: Any) -> list[Completion]:
    monkeypatch.setattr(engine, "_start", lambda *_: fake)
    started = VllmEngine(RewriteConfig(model="demo-rewriter", **rewrite), 0)
    return list(asyncio.run(started.generate(PROMPT, count, "0")).completions)


def test_a_completion_that_begins_with_blank_lines_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = LineEngine(("a dog", "\n"), ("", "\n"), (" ", "=>"), (" a cat", "\n"))
    completions = generate(fake, 2, monkeypatch)
    assert [each.text for each in completions] == ["a dog", "\n => a cat"]
    assert [each.output_tokens for each in completions] == [2, 6]
    assert [each.truncated for each in completions] == [False, False]
    assert [each.log_probability for each in completions] == [-0.5, -0.5]
    assert [prompt for prompt, _ in fake.asked[1:]] == [
        {"prompt_token_ids": [1, 2, 3, 7, 8]},
        {"prompt_token_ids": [1, 2, 3, 7, 8, 7, 8]},
    ]
    assert [(sampling.n, sampling.max_tokens) for _, sampling in fake.asked] == [(2, 77), (1, 75), (1, 73)]


def test_a_continuation_that_the_limit_ends_is_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    (completion,) = generate(LineEngine(("", "\n"), (" a cat and", None)), 1, monkeypatch)
    assert (completion.text, completion.truncated) == ("\n a cat and", True)


@pytest.mark.parametrize(
    ("texts", "rewrite", "requests"),
    [
        ([("", None)], {}, 1),
        ([("", "\n")], {"completions": "reference"}, 1),
        ([("", "\n")], {"sampling": {"max_tokens": 2}}, 1),
        ([("---", "\n"), ("a dog", "\n")], {}, 2),
        ([("", "\n")] * 9, {}, 4),
    ],
)
def test_continuations_are_few_and_only_for_a_stop_before_the_first_word(
    texts: list[tuple[str, str | None]], rewrite: dict[str, Any], requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = LineEngine(*texts)
    assert len(generate(fake, 1, monkeypatch, **rewrite)) == 1
    assert len(fake.asked) == requests


@pytest.mark.parametrize("mode", ["completion", "chat"])
def test_completions_stop_at_the_line_and_chats_with_their_turn(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = LineEngine(("a dog", "\n"))
    monkeypatch.setattr(engine, "stops_of", lambda mode, _: Stops(("\n",)) if mode == "completion" else Stops((), (5,)))
    generate(fake, 1, monkeypatch, mode=mode)
    ((_, sampling),) = fake.asked
    assert (sampling.stop, sampling.stop_token_ids) == ((["\n"], []) if mode == "completion" else ([], [5]))


@pytest.mark.parametrize("mode", ["completion", "chat"])
def test_the_engine_gets_control_tokens_of_a_caption_as_text(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FailingEngine(RuntimeError())
    monkeypatch.setattr(engine, "_start", lambda *_: fake)
    prompts = [Prompt("before ", caption, " =>") for caption in ("a cup", "a cup<|end|>")]
    started = VllmEngine(RewriteConfig(model="demo-rewriter", mode=mode), 0)
    for prompt in prompts:
        with pytest.raises(RequestError):
            asyncio.run(started.generate(prompt, 1, "0"))
    plain, cut = fake.prompts
    ids = tokenizer().encode(prompts[0], add_special_tokens=False)
    assert plain == (str(prompts[0]) if mode == "completion" else {"prompt_token_ids": ids})
    assert isinstance(cut, dict)
    assert tokenizer().convert_tokens_to_ids("<|end|>") not in cut["prompt_token_ids"]
    assert tokenizer().decode(cut["prompt_token_ids"]) == prompts[1]


@case("How a run ends", "a good run with a vLLM engine, which Ray ends", "no error line at the end", exit_code=0)
def test_the_end_of_an_engine_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("vllm.v1.engine.async_llm")
    logger.addFilter(engine._says_more_than_the_end)
    try:
        with caplog.at_level(logging.ERROR):
            logger.error("AsyncLLM output_handler failed.")
            logger.error("Engine core initialization failed")
    finally:
        logger.removeFilter(engine._says_more_than_the_end)
    assert "output_handler" not in caplog.text


def test_vllm_logs_the_end_of_an_engine_by_this_name_and_text() -> None:
    source = Path(importlib.util.find_spec("vllm").origin).parent / "v1/engine/async_llm.py"  # type: ignore[union-attr,arg-type]
    assert 'logger.exception("AsyncLLM output_handler failed.")' in source.read_text()
    assert "logger = init_logger(__name__)" in source.read_text()
