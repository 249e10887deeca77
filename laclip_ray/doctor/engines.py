"""The arguments of vLLM's engine, before one starts."""

from importlib.util import find_spec

from laclip_ray.config import RewriteConfig
from laclip_ray.doctor.results import Finding, failed, passed, skipped


def check_engine_arguments(rewrite: RewriteConfig) -> Finding:
    """Whether vLLM is installed and knows the arguments of `rewrite.engine.args`. Touches no GPU."""
    from laclip_ray.rewriting.engines.arguments import check_engine

    if rewrite.model is None:
        return skipped("rewrite.model is not set, so no engine starts")
    if find_spec("vllm") is None:
        return failed("vLLM is not installed", "Install requirements/gpu.lock, or cpu.lock without an NVIDIA GPU")
    check_engine(rewrite)
    names = ", ".join(rewrite.engine.args)
    return passed(f"vLLM knows {names}" if names else "rewrite.engine.args is empty")
