"""The engine's arguments: what a CPU needs is set, and what the user says wins."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from laclip_ray.config import EngineConfig, RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting import engine
from laclip_ray.rewriting.engine import EngineDiedError, VllmEngine, engine_arguments, was_killed


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_has_gpu", lambda: False)


def arguments(**settings: Any) -> Any:
    return engine_arguments(RewriteConfig(engine=EngineConfig(**settings)), seed=3)


def test_on_a_cpu_the_model_runs_in_the_process_that_schedules_it() -> None:
    from vllm.v1.executor.abstract import Executor

    config = arguments().create_engine_config()
    assert Executor.get_class(config).__name__ == "UniProcExecutor"


def test_an_engine_over_several_devices_is_left_to_vllm() -> None:
    assert arguments(tensor_parallel_size=2).distributed_executor_backend is None


def test_an_argument_of_the_user_wins_over_a_default() -> None:
    assert arguments(args={"distributed_executor_backend": "mp"}).distributed_executor_backend == "mp"
    assert arguments(args={"block_size": 64}).block_size == 64


def test_an_argument_that_other_settings_decide_is_refused() -> None:
    with pytest.raises(UserError, match=r"engine\.args\.seed: decided by other settings"):
        arguments(args={"seed": 1})


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
def test_an_engine_that_was_killed_is_told_from_one_that_failed(message: str, killed: bool) -> None:
    assert was_killed(RuntimeError(message)) == killed


class SilentEngine:
    """Takes requests and answers none, and dies of the first without a word."""

    def __init__(self) -> None:
        self.errored = False

    async def generate(self, *_: object) -> AsyncIterator[object]:
        self.errored = True
        await asyncio.Event().wait()
        yield None


def test_requests_that_a_dead_engine_has_forgotten_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_WATCH_PERIOD_S", 0.01)
    monkeypatch.setattr(engine, "_start", lambda *_: SilentEngine())

    async def ask() -> list[object]:
        mortal = VllmEngine(RewriteConfig(), 0)
        asked = [asyncio.create_task(mortal.generate("prompt", 1, str(number))) for number in range(3)]
        answers: list[object] = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), timeout=30)
        # Whoever asks is not cancelled, and may go on.
        assert not any(task.cancelling() for task in asked)
        return answers

    assert [type(answer) for answer in asyncio.run(ask())] == [EngineDiedError] * 3


def test_a_request_that_its_asker_gives_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = SilentEngine()
    monkeypatch.setattr(engine, "_start", lambda *_: silent)

    async def give_up() -> None:
        asked = asyncio.create_task(VllmEngine(RewriteConfig(), 0).generate("prompt", 1, "0"))
        while not silent.errored:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(give_up())
