"""Texts to tokens, by the tokeniser of the CLIP model's text tower."""

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.uninterrupted import uninterrupted


@dataclass(frozen=True)
class TokenizerSpec:
    """Which of open_clip's tokenisers a model uses; enough to load it in any process."""

    model_name: str | None
    """A model that open_clip knows; None: the other fields say which tokeniser."""
    context_length: int | None = None
    hugging_face_name: str | None = None


def tokenizer_spec(model_name: str) -> TokenizerSpec:
    """The tokeniser of an open_clip model name, of one of the paper's, or of a model config file (`*.json`)."""
    if model_name.startswith("laclip_vit_"):  # the paper's models; open_clip does not know them
        return TokenizerSpec(None, 77)
    url = model_name if model_name.endswith(".json") else str(_open_clip() / "model_configs" / f"{model_name}.json")
    if url != model_name and not storage.exists(url):
        return TokenizerSpec(model_name)
    config = storage.read_json(url)
    text = config.get("model_cfg", config)["text_cfg"]
    if url != model_name and ("siglip" in model_name.lower() or text.get("tokenizer_kwargs")):
        return TokenizerSpec(model_name)
    return TokenizerSpec(None, text.get("context_length", 77), text.get("hf_tokenizer_name"))


@lru_cache(maxsize=2)
def load_tokenizer(spec: TokenizerSpec) -> Any:
    """The tokeniser, kept by the process: called with a list of N texts it gives int64 [N, L]."""
    return uninterrupted(lambda: _load(spec))  # it imports torch


def _load(spec: TokenizerSpec) -> Any:
    if spec.model_name is not None:
        import open_clip

        return open_clip.get_tokenizer(spec.model_name)
    tokenizers = _open_clip_tokenizers()
    if spec.hugging_face_name:
        return tokenizers.HFTokenizer(spec.hugging_face_name, context_length=spec.context_length)
    return tokenizers.SimpleTokenizer(context_length=spec.context_length)


def _open_clip() -> Path:
    """The directory of open_clip, which is not loaded for that."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0])


@cache
def _open_clip_tokenizers() -> Any:
    """open_clip's module of tokenisers, without its models, which take three seconds of every process that reads."""
    if "open_clip" in sys.modules:
        return sys.modules["open_clip.tokenizer"]
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", _open_clip() / "tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count_tokens(spec: TokenizerSpec, text: str) -> int:
    """How many tokens a text has, special ones included, were there no limit."""
    tokenizer = load_tokenizer(spec)
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text)["input_ids"])
