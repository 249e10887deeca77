"""Recipes and fingerprints: everything that decides the model's texts and the gate's verdicts."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laclip_ray.config import (
    DEMO_REWRITER,
    ChangesNoVerdict,
    GateConfig,
    MeaningGateConfig,
    PictureGateConfig,
    RewriteConfig,
    marked_keys,
)
from laclip_ray.config.fields import Section
from laclip_ray.config.markers import DIRECTORY_PREFIX
from laclip_ray.config.rewriting import required_model
from laclip_ray.data.tokens import tokenizer_spec
from laclip_ray.errors import UserError
from laclip_ray.rewriting.judging.gate import VERSION as GATE_VERSION
from laclip_ray.rewriting.judging.meaning import VERSION as MEANING_VERSION
from laclip_ray.rewriting.prompting.completions import describe_completions
from laclip_ray.rewriting.prompting.head_choice import HeadNumbers, unaligned_heads
from laclip_ray.rewriting.prompting.prompts import PAIRS_PER_HEAD, PromptSet, template_description
from laclip_ray.rewriting.tables import MEANING_SCORES

# fmt: off
HARMLESS_ENGINE_ARGUMENTS = frozenset({
    # Memory. They bound or move weights, activations and caches; the computation is the same.
    # `max_model_len` belongs here: a prompt that does not fit is recorded as `prompt_too_long` and a cut-off text as
    # `truncated`. Both are retried or refused by name, so no text differs unnoticed.
    "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "kv_offloading_size",
    "offload_backend", "cpu_offload_gb", "cpu_offload_params", "offload_group_size", "offload_num_in_group",
    "offload_prefetch_step", "offload_params", "disable_hybrid_kv_cache_manager", "enable_sleep_mode",
    "sleep_mode_offload_cudagraph", "sleep_preserve_parameter_names", "enable_cumem_allocator",
    "enable_nccl_comm_suspend",
    # Memory for images, audio and video, which no prompt of ours holds.
    "limit_mm_per_prompt", "language_model_only", "skip_mm_profiling", "mm_processor_cache_gb",
    "mm_processor_cache_type", "mm_shm_cache_max_object_size_mb", "mm_ipc_gpu_memory_gb", "mm_tensor_ipc",
    "enable_shm_tensor_arena",
    # Parallelism. They place the same operations on processes, GPUs and nodes. Sums change their order, and so their
    # last bits, as they do with each batch.
    "pipeline_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size", "dcp_comm_backend",
    "dcp_q_replicate", "dcp_kv_cache_interleave_size", "cp_kv_cache_interleave_size", "data_parallel_size",
    "data_parallel_rank", "data_parallel_start_rank", "data_parallel_size_local", "data_parallel_address",
    "data_parallel_rpc_port", "data_parallel_hybrid_lb", "data_parallel_external_lb",
    "data_parallel_multi_port_external_lb", "data_parallel_backend", "dp_sync_interval",
    "disable_nccl_for_dp_synchronization", "distributed_executor_backend", "master_addr", "master_port", "nnodes",
    "node_rank", "distributed_timeout_seconds", "cpu_distributed_timeout_seconds", "numa_bind", "numa_bind_nodes",
    "numa_bind_cpus", "device_ids", "enable_hc_sp", "enable_batch_sharded_sampling", "disable_custom_all_reduce",
    "enable_expert_parallel", "enable_ep_weight_filter", "expert_placement_strategy", "enable_eplb", "eplb_config",
    "enable_elastic_ep", "elastic_ep_max_dp_size", "enable_dbo", "ubatch_size", "dbo_decode_token_threshold",
    "dbo_prefill_token_threshold",
    # Scheduling. They decide which requests share a step; each is sampled by itself. Rounding differs from batch to
    # batch with any setting.
    "max_num_batched_tokens", "max_num_scheduled_tokens", "max_num_seqs", "max_num_active_seqs",
    "long_prefill_token_threshold", "long_prefill_token_threshold_adaptive", "enable_chunked_prefill",
    "disable_chunked_mm_input", "scheduler_reserve_full_isl", "prefill_schedule_interval", "watermark",
    "scheduling_policy", "async_scheduling", "stream_interval", "renderer_num_workers", "shutdown_timeout",
    # Start-up: compiled or not, the model computes the same operations; how files are read does not change weights.
    "enforce_eager", "cudagraph_capture_sizes", "max_cudagraph_capture_size", "max_parallel_loading_workers",
    "safetensors_prefetch_num_threads", "safetensors_prefetch_block_size", "pt_load_map_location", "download_dir",
    "fail_on_environ_validation",
    # Caching. A cached prefix saves computing the same values again.
    "block_size", "prefix_cache_retention_interval", "prefix_match_unit", "mamba_block_size", "mamba_cache_mode",
    "enable_mamba_shared_prefix_checkpoint",
    # Defaults of the arguments above for scheduling and start-up.
    "performance_mode",
    # Logging, metrics and names.
    "disable_log_stats", "aggregate_engine_logging", "show_hidden_metrics_for_version", "otlp_traces_endpoint",
    "collect_detailed_traces", "per_request_spec_decode_metrics", "kv_cache_metrics", "kv_cache_metrics_sample",
    "custom_histogram_buckets", "cudagraph_metrics", "enable_layerwise_nvtx_tracing", "enable_mfu_metrics",
    "enable_logging_iteration_details", "enable_mm_processor_stats", "jit_monitor_mode", "jit_monitor_verbose",
    "profiler_config", "logging_config", "log_level", "log_config_file", "kv_events_config", "ray_workers_use_nsight",
    "use_tqdm_on_load", "served_model_name",
    # A secret: it gives access to the weights, and must never reach `recipe.json`.
    "hf_token",
})
# fmt: on
"""Arguments of vLLM's engine known not to change the model's texts. The recipe contains every other argument, including
arguments that a later version of vLLM adds."""

_CHANGES_NO_VERDICT = marked_keys(GateConfig, ChangesNoVerdict)

HEAD_PAIRS = "head_pairs"
"""The key of a recipe that lists the numbers of each head's pairs."""

_HASHED_WHOLE_BYTES = 16 << 20
"""Larger files of a model count in its digest by name and size only."""


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a JSON object, regardless of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate_fingerprint(gate: GateConfig, clip_model: str) -> str:
    """The fingerprint of a gate; a rewrite set keeps the verdicts of different gates side by side.

    Args:
        gate: the configuration.
        clip_model: name of the CLIP model whose tokeniser counts tokens. CLIP's own tokeniser, which most models use,
            is not in the fingerprint.

    Raises:
        UserError: the model's tokeniser is not known.
    """
    weights = model_digest(gate.picture.model.removeprefix(DIRECTORY_PREFIX)) if gate.picture else None
    content = {"version": GATE_VERSION, **deciding_gate(gate.model_dump(mode="json")), "picture_weights": weights}
    if gate.meaning is not None:
        content["scorers"] = meaning_scorers(gate.meaning)
    if gate.max_context_tokens is not None and (tokenizer := _other_tokenizer(clip_model)):
        content["tokenizer"] = tokenizer
    return fingerprint_of(content)


def _other_tokenizer(clip_model: str) -> dict[str, Any] | None:
    """What decides the number of a text's tokens; None for CLIP's own tokeniser."""
    try:
        spec = tokenizer_spec(clip_model)
    except Exception as error:
        raise UserError(f"model.name: no tokeniser for {clip_model!r}: {error}") from error
    content = {"model": spec.model_name, "hugging_face_name": spec.hugging_face_name, "options": spec.options}
    return None if content == {"model": None, "hugging_face_name": None, "options": "{}"} else content


def deciding_gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate's configuration, as JSON, without settings that change no verdict."""
    return {
        **(_deciding(gate, GateConfig) or {}),
        "meaning": _deciding(gate["meaning"], MeaningGateConfig),
        "picture": _deciding(gate["picture"], PictureGateConfig),
    }


def _deciding(section: Mapping[str, Any] | None, kind: type[Section]) -> dict[str, Any] | None:
    if section is None:
        return None
    left_out = marked_keys(kind, ChangesNoVerdict)
    return {key: value for key, value in section.items() if key not in left_out}


def meaning_scorers(config: MeaningGateConfig) -> dict[str, str]:
    """By score of the meaning gate, the fingerprint of what computes it: the encoder, and how words are compared."""
    content = {
        "version": MEANING_VERSION,
        "model": config.model,
        "revision": config.revision,
        "weights": model_digest(config.model),
    }
    return dict.fromkeys(MEANING_SCORES, fingerprint_of(content))


def build_recipe(rewrite: RewriteConfig, prompt_set: PromptSet, seed: int, heads: HeadNumbers) -> dict[str, Any]:
    """Everything that decides the model's texts for one prompt set, as a JSON object.

    The numbers of rewrites and of redraws are not part of it: more of them only add to a set. Heads that follow from
    the seed alone are not listed.
    """
    model = required_model(rewrite)
    engine = {key: value for key, value in rewrite.engine.args.items() if key not in HARMLESS_ENGINE_ARGUMENTS}
    recipe: dict[str, Any] = {
        "model": model,
        "revision": rewrite.revision,
        "weights": model_digest(model),
        "prompt": template_description(rewrite.mode, rewrite.template),
        "pairs_per_head": PAIRS_PER_HEAD,
        "prompt_set": prompt_set.name,
        "pairs": [
            [pair.source, pair.target] + ([] if pair.group is None else [pair.group]) for pair in prompt_set.pairs
        ],
        "heads": rewrite.heads,
        "max_caption_characters": rewrite.max_caption_characters,
        "sampling": rewrite.sampling.model_dump(mode="json"),
        "engine": engine,
        "seed": seed,
        "completions": describe_completions(rewrite.completions, rewrite.mode),
    }
    if heads != unaligned_heads(prompt_set, rewrite.heads, seed):
        recipe[HEAD_PAIRS] = [list(numbers) for numbers in heads]
    return recipe


def model_directory(model: str) -> str:
    """The directory or hub name that vLLM loads for `rewrite.model`."""
    return str(Path(__file__).parent.parent / "demo" / "rewriter") if model == DEMO_REWRITER else model


def model_digest(model: str) -> str | None:
    """A digest of a local model's files: the content of small files, the size of others. None for a hub name."""
    directory = Path(model_directory(model))
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        if size <= _HASHED_WHOLE_BYTES:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
