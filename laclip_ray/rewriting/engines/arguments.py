"""Arguments and environment of vLLM's engine, derived from the configuration and checked before an engine starts."""

import contextlib
import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import EngineConfig, RewriteConfig
from laclip_ray.config.rewriting import required_model
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.rewriting.recipe import model_directory

GPU_BLOCK_TOKENS = 16
"""vLLM's cache block on a GPU, for nearly all kinds of attention."""

_CPU_BLOCK_TOKENS = 32
"""The smallest block that vLLM's attention on a CPU is made for."""

_IN_ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""vLLM's executor that runs the model in the process of the scheduler."""


def check_engine(rewrite: RewriteConfig) -> None:
    """Refuse a model or engine arguments that no engine would start with. Touches no GPU.

    Raises:
        UserError: no model is set, the model directory holds no model, or vLLM does not know an argument or its type.
    """
    model = required_model(rewrite)
    looks_local = model.startswith((".", "/", "~"))
    if looks_local and not storage.exists(storage.join(model_directory(model), "config.json")):
        raise UserError(f"rewrite.model: {model!r} is not a directory with a model (no config.json)")
    if rewrite.engine.args:
        engine_arguments(rewrite, seed=0)


def check_place(engine: EngineConfig, what: str) -> None:
    """Refuse a configuration for GPUs on a machine without one.

    Args:
        engine: the configuration.
        what: runs an engine here, for the message: `the probe`.

    Raises:
        UserError: there is no GPU here.
    """
    wants_gpu = bool(engine.gpus_per_actor) or engine.tensor_parallel_size > 1 or engine.accelerator_type is not None
    if wants_gpu and not has_gpu():
        raise UserError(
            f"rewrite.engine: asks for GPUs, and this machine has none; run {what} on a node of the engines, for "
            "example by `ray job submit` with --entrypoint-num-gpus"
        )


def engine_arguments(rewrite: RewriteConfig, seed: int) -> Any:
    """vLLM's `AsyncEngineArgs` for a configuration.

    `rewrite.engine.args` overrides this package's defaults, but no argument that other settings decide.

    Raises:
        UserError: no model is set, or `rewrite.engine.args` has a key that vLLM does not know, or one that other
            settings decide.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    decided = {
        "model": model_directory(required_model(rewrite)),
        "revision": rewrite.revision,
        "seed": seed,
        "enable_prefix_caching": True,
        "enable_log_requests": False,
        "logprobs_mode": "raw_logprobs",
        "tensor_parallel_size": rewrite.engine.tensor_parallel_size,
    }
    types = {field.name: field.type for field in dataclasses.fields(AsyncEngineArgs)}
    for key, value in rewrite.engine.args.items():
        if key not in types:
            raise UserError(f"rewrite.engine.args.{key}: vLLM has no such engine argument{did_you_mean(key, types)}")
        if key in decided:
            raise UserError(f"rewrite.engine.args.{key}: decided by other settings; remove it")
        _check_type(key, value, types[key])
    return AsyncEngineArgs(**{**_defaults(rewrite), **rewrite.engine.args, **decided})


def _defaults(rewrite: RewriteConfig) -> dict[str, Any]:
    """Arguments with a better default for this package than vLLM's own."""
    engine = rewrite.engine
    # `throughput` doubles vLLM's defaults for the requests and tokens of a batch.
    defaults: dict[str, Any] = {"disable_log_stats": True, "performance_mode": "throughput"}
    if has_gpu():
        return defaults
    # Compilation does not pay off for the short runs and small models of a CPU.
    # The prefix cache shares whole blocks only, and vLLM's block on a CPU is 128 tokens, most of a prompt head.
    # Batches for throughput on a GPU (8,192 tokens here) only make steps of many seconds.
    defaults |= {
        "enforce_eager": True,
        "max_num_seqs": 128,
        "max_num_batched_tokens": 2_048,
        "block_size": _CPU_BLOCK_TOKENS,
    }
    if engine.tensor_parallel_size == 1:
        # By default vLLM runs the model in a process of its own, and its scheduler then busy-waits: it takes a core
        # from the model.
        defaults |= {"distributed_executor_backend": _IN_ONE_PROCESS}
    is_chosen = not {"dtype", "quantization"}.isdisjoint(engine.args)
    if not is_chosen and _emulates_short_floats() and not _is_quantised(rewrite):
        defaults |= {"dtype": "float32"}
    return defaults


def _emulates_short_floats() -> bool:
    """Whether this processor multiplies in 16 bits several times slower than in 32: an x86 without AVX-512."""
    import torch

    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_x86 and "AVX512" not in torch.backends.cpu.get_cpu_capability()


def _is_quantised(rewrite: RewriteConfig) -> bool:
    """Whether the model's own configuration says so, or cannot be read here."""
    from transformers import PretrainedConfig

    try:
        content, _ = PretrainedConfig.get_config_dict(
            model_directory(required_model(rewrite)), revision=rewrite.revision
        )
    except (OSError, ValueError):
        return True
    return not content or "quantization_config" in content


def _check_type(key: str, value: Any, expected: Any) -> None:
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

    try:
        TypeAdapter(expected).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(issue["msg"] for issue in error.errors())
        raise UserError(f"rewrite.engine.args.{key}: {value!r} is not what vLLM takes: {reasons}") from error
    except (PydanticSchemaGenerationError, PydanticUserError, NameError):
        return  # Pydantic cannot check this type of vLLM's own; vLLM does when the engine starts


def cache_block_tokens(engine: EngineConfig) -> int:
    """Expected tokens of a block of the engine's prefix cache, before the engine starts.

    On a machine without a GPU: the block of an engine on a CPU, twice a GPU's. So heads of whole blocks fit both.
    """
    configured = engine.args.get("block_size")
    if configured is not None:
        return int(configured)
    return GPU_BLOCK_TOKENS if has_gpu() else _CPU_BLOCK_TOKENS


def has_gpu() -> bool:
    """Whether this process sees a GPU."""
    import torch

    return torch.cuda.is_available()


def hardware(engine: EngineConfig) -> str:
    """The devices of an engine in this process, such as `1 x NVIDIA H200`; without a GPU, the machine's processor."""
    if has_gpu():
        from vllm.platforms import current_platform

        return f"{engine.tensor_parallel_size} x {current_platform.get_device_name()}"
    return f"{os.cpu_count() or 1} x {_processor_name()}"


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def prepare_environment(engine: EngineConfig) -> None:
    """Set the environment variables that vLLM reads when it is imported."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(engine.cpu_kv_cache_gib))
    # vLLM's warnings are about its own choices; its errors are shown.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if not has_gpu():
        # Ray sets one thread for each logical CPU of the actor, and the actor reserves one.
        os.environ["OMP_NUM_THREADS"] = str(engine.cpu_threads or os.cpu_count() or 1)
    # Spawned processes have an environment of their own, and the orphan guard finds them by it.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
