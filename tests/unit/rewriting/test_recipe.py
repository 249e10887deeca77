"""Recipes and fingerprints change exactly with the settings that decide texts or verdicts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import (
    DecidesRecipe,
    EngineConfig,
    Experiment,
    GateConfig,
    MeaningGateConfig,
    PictureGateConfig,
    RewriteConfig,
    SamplingConfig,
    marked_keys,
)
from laclip_ray.errors import UserError
from laclip_ray.rewriting.engines.arguments import engine_arguments
from laclip_ray.rewriting.recipe import HARMLESS_ENGINE_ARGUMENTS, fingerprint_of, gate_fingerprint
from tests.cases import case
from tests.unit.rewriting.shards import recipe

characters = st.characters(codec="utf-8")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(characters), json_values, max_size=5)


@given(content=json_objects)
def test_a_fingerprint_survives_json_and_the_order_of_keys(content: dict[str, Any]) -> None:
    reordered = dict(reversed(list(content.items())))
    assert fingerprint_of(json.loads(json.dumps(reordered))) == fingerprint_of(content)


@given(first=json_objects, second=json_objects)
def test_different_contents_have_different_fingerprints(first: dict[str, Any], second: dict[str, Any]) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint_of(first) == fingerprint_of(second)) == same


@given(content=json_objects, key=st.text(characters), value=json_values)
def test_any_change_of_a_value_changes_the_fingerprint(content: dict[str, Any], key: str, value: object) -> None:
    assume(key not in content or json.dumps(content[key], sort_keys=True) != json.dumps(value, sort_keys=True))
    assert fingerprint_of({**content, key: value}) != fingerprint_of(content)


def test_every_setting_of_a_gate_changes_its_fingerprint() -> None:
    defaults = GateConfig().model_dump()
    del defaults["preset"]
    changed = {
        name: not value if isinstance(value, bool) else (value or 0) + 1
        for name, value in defaults.items()
        if not isinstance(value, str | dict)
    }
    changed["word_count"] = "spaces"
    changed["meaning"] = MeaningGateConfig(added_weight=1.0)
    changed["picture"] = PictureGateConfig(model="ViT-B-32", pretrained="openai")
    gates = [GateConfig(), *(GateConfig(**{**defaults, name: value}) for name, value in changed.items())]
    assert len({gate_fingerprint(gate, "ViT-B-32") for gate in gates}) == len(defaults) + 1
    assert gate_fingerprint(GateConfig(**defaults), "ViT-B-32") == gate_fingerprint(GateConfig(), "ViT-B-32")


TOKENIZERS: dict[str, dict[str, Any]] = {
    "words.json": {"hf_tokenizer_name": "org/words"},
    "other_words.json": {"hf_tokenizer_name": "org/other"},
    "masked.json": {"tokenizer_kwargs": {"reduction_mask": "syntax"}},
}


@case(
    "Identity",
    "a gate with `max_context_tokens`, and another `model.name` with a tokeniser of its own",
    "the draws are judged again by that tokeniser",
)
def test_another_tokeniser_than_clips_is_part_of_a_gate_that_counts_tokens(tmp_path: Path) -> None:
    models = ["ViT-B-32", "ViT-B-16-SigLIP"]
    for name, text_cfg in TOKENIZERS.items():
        storage.write_json(str(tmp_path / name), {"embed_dim": 8, "vision_cfg": {}, "text_cfg": text_cfg})
        models.append(str(tmp_path / name))
    assert len({gate_fingerprint(GateConfig(), model) for model in models}) == len(models)
    off = GateConfig(max_context_tokens=None)
    assert len({gate_fingerprint(off, model) for model in models}) == 1


def test_models_with_clips_tokeniser_share_a_gate(tmp_path: Path) -> None:
    storage.write_json(str(tmp_path / "small.json"), {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"width": 8}})
    models = ("ViT-B-32", "laclip_vit_b32", "RN50", str(tmp_path / "small.json"))
    assert {gate_fingerprint(GateConfig(), model) for model in models} == {KNOWN_GATE}


KNOWN_GATE = "2912396135ab2839"
"""The fingerprint of the default gate, which a run finds its stored verdicts by."""


@case("Identity", "a `model.name` without a readable config while rewriting", "refused", exit_code=2)
@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_model_without_a_known_tokeniser_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"^model\.name: no tokeniser for '.*model\.json'"):
        gate_fingerprint(GateConfig(), str(tmp_path / "model.json"))


DECIDES: dict[str, list[Any]] = {
    "model": ["org/other"],
    "revision": ["v2"],
    "mode": ["chat"],
    "template": ["reference"],
    "completions": ["reference"],
    "heads": [8],
    "max_caption_characters": [9],
    "sampling": [SamplingConfig(temperature=0.5), SamplingConfig(top_p=0.5), SamplingConfig(max_tokens=9)],
}
"""Settings that change the model's texts, each with other values than the default."""
DOES_NOT_DECIDE: dict[str, Any] = {
    "delivery": "inline",
    "log_probability": False,
    "output": "elsewhere",
    "prompt_sets": ["cleaned"],
    "rewrites_per_set": 5,
    "redraws": 3,
    "engine": {"shards_in_flight": 9, "tensor_parallel_size": 2, "args": {"max_model_len": 512}},
    "gate": {"min_words": 0},
    "max_engine_deaths": 9,
    "max_failed_share": 0.9,
    "head_choice": "any",
    "price": "a price",
    "prices": "prices.yaml",
    "budget": {"gpu_hours": 1.0},
}


def test_every_setting_of_rewriting_decides_texts_or_is_known_not_to() -> None:
    assert {*DECIDES, *DOES_NOT_DECIDE, "preset"} == set(RewriteConfig.model_fields)
    assert not DECIDES.keys() & DOES_NOT_DECIDE.keys()
    marked = {"seed", "rewrite.engine.args", *(f"rewrite.{name}" for name in DECIDES)}
    assert marked_keys(Experiment, DecidesRecipe) == marked


def test_every_setting_that_decides_texts_changes_the_fingerprint() -> None:
    recipes = [recipe(), recipe(seed=1), recipe(prompt_set="crowd")]
    recipes += [recipe(**{name: value}) for name, values in DECIDES.items() for value in values]
    assert len({fingerprint_of(content) for content in recipes}) == len(recipes)


@pytest.mark.parametrize("name", DOES_NOT_DECIDE)
def test_other_settings_are_not_in_the_recipe(name: str) -> None:
    assert recipe(**{name: DOES_NOT_DECIDE[name]}) == recipe()


def test_a_local_models_files_are_part_of_its_recipe(tmp_path: Path) -> None:
    model = tmp_path / "model"
    storage.write_bytes(str(model / "config.json"), b"{}")
    before = recipe(model=str(model))
    assert recipe(model=str(model)) == before
    storage.write_bytes(str(model / "config.json"), b"[]")
    assert recipe(model=str(model))["weights"] != before["weights"]
    assert recipe(model="org/model")["weights"] is None


# --- arguments of the engine

# fmt: off
CHANGES_TEXT = (
    # Which weights, code and configuration are loaded, and how they are read.
    "model_weights", "load_format", "model_loader_extra_config", "ignore_patterns", "safetensors_load_strategy",
    "code_revision", "trust_remote_code", "hf_config_path", "hf_overrides", "config_format", "model_impl",
    "model_class_overrides", "runner", "convert", "additional_config", "weight_transfer_config",
    # Tokens and prompts.
    "tokenizer", "tokenizer_mode", "tokenizer_revision", "skip_tokenizer_init", "tokens_only",
    "enable_prompt_embeds", "io_processor_plugin", "interleave_mm_strings",
    # Number formats, and features that round or approximate.
    "dtype", "kv_cache_dtype", "kv_cache_dtype_skip_layers", "quantization", "quantization_config",
    "allow_deprecated_quantization", "mamba_cache_dtype", "mamba_ssm_cache_dtype",
    "enable_mamba_cache_stochastic_rounding", "mamba_cache_philox_rounds", "use_fp64_gumbel", "kv_offloading_backend",
    "kv_transfer_config", "kv_sharing_fast_prefill", "swa_bounded_replay", "disable_sliding_window",
    "disable_cascade_attn", "all2all_backend", "prefix_caching_hash_algo",
    # Kernels, which may compute in another number format.
    "attention_backend", "attention_config", "kernel_config", "linear_backend", "moe_backend", "ir_op_priority",
    "sparse_indexer_topk_backend", "enable_flashinfer_autotune", "mamba_backend", "mamba_config",
    "mamba_ssu_algorithm", "use_replayssm", "replayssm_buffer_len", "gdn_prefill_backend", "kda_prefill_backend",
    "kda_decode_backend", "compilation_config", "optimization_level", "engram_config",
    # Sampling.
    "generation_config", "override_generation_config", "logits_processors", "watermark_config", "speculative_config",
    "spec_method", "spec_model", "spec_tokens", "diffusion_config", "structured_outputs_config", "reasoning_config",
    "reasoning_parser", "reasoning_parser_plugin", "pooler_config",
    # Adapters.
    "enable_lora", "max_loras", "max_lora_rank", "default_mm_loras", "fully_sharded_loras", "max_cpu_loras",
    "lora_dtype", "lora_target_modules", "enable_tower_connector_lora", "specialize_active_lora",
    "enable_mixed_moe_lora_format", "enable_moe_shared_loras", "max_lora_cls_labels",
    # A user's classes in place of vLLM's.
    "scheduler_cls", "worker_cls", "worker_extension_cls",
    # Not known as harmless: they drop requests, return more than text, or read images, audio and video.
    "max_num_queued_reqs", "max_num_queued_tokens", "fault_tolerance_config", "enable_fault_tolerance",
    "_api_process_count", "_api_process_rank", "max_logprobs", "logprobs_mode", "return_sampling_mask",
    "enable_trace_replay", "enable_return_routed_experts", "aux_output_config", "allowed_local_media_path",
    "allowed_media_domains", "enable_mm_embeds", "media_io_kwargs", "mm_processor_kwargs", "mm_hasher_algorithm",
    "mm_encoder_only", "mm_encoder_tp_mode", "mm_encoder_attn_backend", "mm_encoder_attn_dtype",
    "mm_encoder_fp8_scale_path", "mm_encoder_fp8_scale_save_path", "mm_encoder_fp8_scale_save_margin",
    "mm_processor_device", "mm_device_do_normalize", "video_pruning_rate", "video_pruning_method",
    "ec_transfer_config", "ec_manager_config",
)
# fmt: on
"""vLLM's arguments that change the model's texts, or are not known as harmless."""
ARGUMENTS = sorted({*HARMLESS_ENGINE_ARGUMENTS, *CHANGES_TEXT})
engine_args = st.dictionaries(st.sampled_from(ARGUMENTS), json_values, max_size=4)


def fingerprint(args: dict[str, Any]) -> str:
    return fingerprint_of(recipe(engine={"args": args}))


def test_every_argument_of_vllm_is_harmless_or_changes_the_text_or_is_decided_by_other_settings() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    names = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    assert {*ARGUMENTS} <= names
    assert not HARMLESS_ENGINE_ARGUMENTS.intersection(CHANGES_TEXT)
    for name in sorted(names.difference(ARGUMENTS)):
        with pytest.raises(UserError, match=rf"\.{name}: decided by other settings"):
            engine_arguments(RewriteConfig(model="demo-rewriter", engine=EngineConfig(args={name: None})), seed=0)


@pytest.mark.parametrize("name", CHANGES_TEXT)
def test_an_argument_that_is_not_known_as_harmless_changes_the_fingerprint(name: str) -> None:
    assert len({fingerprint(args) for args in ({}, {name: None}, {name: "a"}, {name: "b"})}) == 4


@given(args=engine_args, name=st.sampled_from(CHANGES_TEXT) | st.text(characters), value=json_values)
def test_any_change_of_such_an_argument_beside_others_changes_the_fingerprint(
    args: dict[str, Any], name: str, value: Any
) -> None:
    assume(name not in HARMLESS_ENGINE_ARGUMENTS)
    assume(name not in args or json.dumps(args[name], sort_keys=True) != json.dumps(value, sort_keys=True))
    assert fingerprint({**args, name: value}) != fingerprint(args)


@given(args=engine_args, harmless=st.dictionaries(st.sampled_from(sorted(HARMLESS_ENGINE_ARGUMENTS)), json_values))
def test_harmless_arguments_do_not_change_the_fingerprint(args: dict[str, Any], harmless: dict[str, Any]) -> None:
    assert fingerprint({**args, **harmless}) == fingerprint(args)


def test_sets_keep_the_fingerprints_that_they_were_written_with() -> None:
    harmless = {
        "max_num_seqs": 64,
        "enforce_eager": True,
        "gpu_memory_utilization": 0.5,
        "max_model_len": 512,
        "enable_chunked_prefill": True,
    }
    deciding = {
        "dtype": "bfloat16",
        "hf_overrides": {"rope_theta": 5},
        "kv_cache_dtype": "fp8",
        "quantization": "fp8",
        "tokenizer": "org/words",
    }
    assert fingerprint({}) == "b4380886fdf237bf"
    assert fingerprint({**deciding, **harmless}) == "0f46402b40764602"


def test_a_secret_never_enters_a_recipe() -> None:
    assert "hf_secret" not in json.dumps(recipe(engine={"args": {"hf_token": "hf_secret"}}))
