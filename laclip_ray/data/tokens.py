"""Texts to tokens, by the tokeniser of the CLIP model's text tower."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from laclip_ray import storage


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
    if not model_name.endswith(".json"):
        return TokenizerSpec(model_name)
    config = storage.read_json(model_name)
    text = config.get("model_cfg", config)["text_cfg"]
    return TokenizerSpec(None, text.get("context_length", 77), text.get("hf_tokenizer_name"))


@lru_cache(maxsize=2)
def load_tokenizer(spec: TokenizerSpec) -> Any:
    """The tokeniser, kept by the process: called with a list of N texts it gives int64 [N, L]."""
    # Imported here: open_clip brings torch, which takes seconds to load.
    import open_clip

    if spec.model_name is not None:
        return open_clip.get_tokenizer(spec.model_name)
    if spec.hugging_face_name:
        return open_clip.tokenizer.HFTokenizer(spec.hugging_face_name, context_length=spec.context_length)
    return open_clip.SimpleTokenizer(context_length=spec.context_length)


def count_tokens(spec: TokenizerSpec, text: str) -> int:
    """How many tokens a text has, special ones included, were there no limit."""
    tokenizer = load_tokenizer(spec)
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text)["input_ids"])
