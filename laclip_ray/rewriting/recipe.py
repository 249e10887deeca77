"""What decides a rewrite: the recipe of a rewrite set, and fingerprints."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laclip_ray.config import DEMO_REWRITER, GateConfig, RewriteConfig
from laclip_ray.rewriting.gate import VERSION as GATE_VERSION
from laclip_ray.rewriting.prompts import PAIRS_PER_HEAD, PromptSet, template_description


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a JSON object, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate_fingerprint(gate: GateConfig) -> str:
    """The fingerprint of a gate: verdicts of different gates lie beside each other."""
    weights = model_digest(gate.picture.model.removeprefix("local-dir:")) if gate.picture else None
    content = deciding_gate(gate.model_dump(mode="json"))
    return fingerprint_of({"version": GATE_VERSION, **content, "picture_weights": weights})


def deciding_gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate's configuration, as JSON, without what changes no verdict."""
    picture = gate["picture"] and {key: value for key, value in gate["picture"].items() if key not in _HOW_TO_SCORE}
    return {**gate, "picture": picture}


_HOW_TO_SCORE = frozenset({"batch_size", "actors", "gpus_per_actor"})

_DECIDING_ENGINE_ARGUMENTS = ("dtype", "hf_overrides", "kv_cache_dtype", "quantization", "tokenizer")
"""Arguments of vLLM's engine that change what the model writes."""


def build_recipe(rewrite: RewriteConfig, prompt_set: PromptSet, seed: int) -> dict[str, Any]:
    """All that decides what the model writes for one prompt set; not how often it is asked."""
    return {
        "model": rewrite.model,
        "revision": rewrite.revision,
        "weights": model_digest(rewrite.model),
        "prompt": template_description(rewrite.mode, rewrite.template),
        "pairs_per_head": PAIRS_PER_HEAD,
        "prompt_set": prompt_set.name,
        "pairs": [[pair.source, pair.target] for pair in prompt_set.pairs],
        "heads": rewrite.heads,
        "max_caption_characters": rewrite.max_caption_characters,
        "sampling": rewrite.sampling.model_dump(mode="json"),
        "engine": {key: rewrite.engine.args[key] for key in _DECIDING_ENGINE_ARGUMENTS if key in rewrite.engine.args},
        "seed": seed,
    }


def model_directory(model: str) -> str:
    """What vLLM is given to load: a directory, or a name on the hub."""
    return str(Path(__file__).parent.parent / "demo" / "rewriter") if model == DEMO_REWRITER else model


def model_digest(model: str) -> str | None:
    """A digest of a local model's files (the content of small ones, the size of others); None for a hub name."""
    directory = Path(model_directory(model))
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        if size <= 16 << 20:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
