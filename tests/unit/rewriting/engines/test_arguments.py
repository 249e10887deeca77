"""The engine's arguments: a CPU gets the defaults it needs, and the user's values win."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import EngineConfig, RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.engines import arguments as module
from laclip_ray.rewriting.engines.arguments import engine_arguments


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_gpu", lambda: False)


def arguments(**settings: Any) -> Any:
    return engine_arguments(RewriteConfig(model="demo-rewriter", engine=EngineConfig(**settings)), seed=3)


def test_on_a_cpu_the_model_runs_in_the_scheduler_process() -> None:
    from vllm.v1.executor.abstract import Executor

    config = arguments().create_engine_config()
    assert Executor.get_class(config).__name__ == "UniProcExecutor"


def test_vllm_chooses_the_executor_of_an_engine_over_several_devices() -> None:
    assert arguments(tensor_parallel_size=2).distributed_executor_backend is None


def test_a_user_argument_overrides_a_default() -> None:
    assert arguments(args={"distributed_executor_backend": "mp"}).distributed_executor_backend == "mp"
    assert arguments(args={"block_size": 64}).block_size == 64


def test_where_the_user_sets_nothing_batches_are_made_for_throughput() -> None:
    from vllm.usage.usage_lib import UsageContext

    assert arguments().performance_mode == "throughput"
    assert arguments(args={"performance_mode": "balanced"}).performance_mode == "balanced"

    def batching(**args: Any) -> tuple[int, int]:
        config = arguments(args={"max_model_len": 512, **args}).create_engine_config(UsageContext.LLM_CLASS)
        return config.scheduler_config.max_num_seqs, config.scheduler_config.max_num_batched_tokens

    unset = {"max_num_seqs": None, "max_num_batched_tokens": None}  # as on a GPU
    seqs, tokens = batching(**unset, performance_mode="balanced")
    assert batching(**unset) == (2 * seqs, 2 * tokens)
    assert batching() == (128, 2_048)


@pytest.mark.parametrize(
    ("capability", "machine", "dtype"),
    [("AVX2", "x86_64", "float32"), ("AVX512", "x86_64", "auto"), ("DEFAULT", "aarch64", "auto")],
)
def test_a_processor_without_16_bit_products_multiplies_in_32(
    capability: str, machine: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert arguments().dtype == dtype
    assert arguments(args={"dtype": "bfloat16"}).dtype == "bfloat16"


@pytest.mark.parametrize("config", [{"model_type": "llama", "quantization_config": {"quant_method": "awq"}}, None])
def test_the_type_of_a_quantised_or_unknown_model_is_left_to_vllm(
    config: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    rewrite = RewriteConfig(model=str(tmp_path), engine=EngineConfig())
    assert engine_arguments(rewrite, seed=3).dtype == "auto"


def test_the_hardware_is_named_without_a_gpu() -> None:
    assert re.fullmatch(r"\d+ x \S.*", module.hardware(EngineConfig()))


def test_an_argument_decided_by_other_settings_is_refused() -> None:
    with pytest.raises(UserError, match=r"engine\.args\.seed: decided by other settings"):
        arguments(args={"seed": 1})


def test_an_argument_that_vllm_does_not_know_is_refused_with_the_nearest() -> None:
    message = r"^rewrite\.engine\.args\.blocksize: vLLM has no such engine argument; did you mean block_size\?$"
    with pytest.raises(UserError, match=message):
        arguments(args={"blocksize": 32})
    with pytest.raises(UserError, match=r"^rewrite\.engine\.args\.zzz: vLLM has no such engine argument$"):
        arguments(args={"zzz": 32})


def test_a_value_of_another_type_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UserError, match=r"^rewrite\.engine\.args\.max_model_len: 'long' is not what vLLM takes: .*integer"
    ):
        arguments(args={"max_model_len": "long"})
