"""The engine's arguments: what a CPU needs is set, and what the user says wins."""

from typing import Any

import pytest

from laclip_ray.config import EngineConfig, RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting import engine
from laclip_ray.rewriting.engine import engine_arguments, was_killed


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
        ("Engine core initialization failed. Failed core proc(s): {}", False),
        ("max_model_len -9", False),
    ],
)
def test_an_engine_that_was_killed_is_told_from_one_that_failed(message: str, killed: bool) -> None:
    assert was_killed(RuntimeError(message)) == killed
