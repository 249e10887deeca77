"""vLLM's engine: a killed start is recognised, and every request to a dead engine ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting import engine, engine_arguments
from laclip_ray.rewriting.engine import EngineDiedError, VllmEngine, was_killed


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


class SilentEngine:
    """Dies at the first request, without an answer or an error."""

    def __init__(self) -> None:
        self.errored = False

    async def generate(self, *_: object) -> AsyncIterator[object]:
        self.errored = True
        await asyncio.Event().wait()
        yield None


def test_requests_to_a_silently_dead_engine_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_WATCH_PERIOD_S", 0.01)
    monkeypatch.setattr(engine, "_start", lambda *_: SilentEngine())

    async def ask() -> list[object]:
        mortal = VllmEngine(RewriteConfig(model="demo-rewriter"), 0)
        requests = [asyncio.create_task(mortal.generate("prompt", 1, str(number))) for number in range(3)]
        answers: list[object] = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), timeout=30)
        # The caller's task is not left cancelled.
        assert not any(task.cancelling() for task in requests)
        return answers

    assert [type(answer) for answer in asyncio.run(ask())] == [EngineDiedError] * 3


def test_a_cancelled_request_ends_as_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = SilentEngine()
    monkeypatch.setattr(engine, "_start", lambda *_: silent)

    async def cancel() -> None:
        request = asyncio.create_task(VllmEngine(RewriteConfig(model="demo-rewriter"), 0).generate("prompt", 1, "0"))
        while not silent.errored:
            await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(cancel())
