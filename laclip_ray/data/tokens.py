"""Texts to tokens, by the tokeniser of the CLIP model's text tower."""

import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from laclip_ray import storage
from laclip_ray.safe_import import import_safely


@dataclass(frozen=True)
class TokenizerSpec:
    """Which of open_clip's tokenisers a model uses; enough to load it in any process."""

    model_name: str | None
    """A model that open_clip knows; None: the other fields say which tokeniser."""
    context_length: int | None = None
    hugging_face_name: str | None = None
    options: str = "{}"
    """Of the tokeniser's own, a JSON object: `tokenizer_kwargs` in a model's config."""


def tokenizer_spec(model_name: str) -> TokenizerSpec:
    """The tokeniser of an open_clip model name, of one of the paper's, or of a model config file (`*.json`)."""
    if model_name.startswith("laclip_vit_"):  # the paper's models; open_clip does not know them
        return TokenizerSpec(None, 77)
    url = model_name if model_name.endswith(".json") else str(_open_clip() / "model_configs" / f"{model_name}.json")
    if url != model_name and not storage.exists(url):
        return TokenizerSpec(model_name)
    config = storage.read_json(url)
    text = config.get("model_cfg", config)["text_cfg"]
    options = text.get("tokenizer_kwargs") or {}
    if url != model_name and ("siglip" in model_name.lower() or options):
        return TokenizerSpec(model_name)
    return TokenizerSpec(None, text.get("context_length", 77), text.get("hf_tokenizer_name"), json.dumps(options))


@lru_cache(maxsize=2)
def load_clip_tokenizer(spec: TokenizerSpec) -> Any:
    """The tokeniser, kept by the process: called with a list of N texts it gives int64 [N, L]."""
    return import_safely(lambda: _load(spec))  # it imports torch


def _load(spec: TokenizerSpec) -> Any:
    if spec.model_name is not None:
        import open_clip

        return open_clip.get_tokenizer(spec.model_name)
    tokenizers, options = _open_clip_tokenizers(), json.loads(spec.options)
    if spec.hugging_face_name:
        return tokenizers.HFTokenizer(spec.hugging_face_name, context_length=spec.context_length, **options)
    simple = tokenizers.SimpleTokenizer(context_length=spec.context_length, **options)
    return simple if options else WordTokenizer(simple)


class WordTokenizer:
    """What open_clip's `SimpleTokenizer` gives, in a quarter of its time: the tokens of each word are kept."""

    def __init__(self, simple: Any) -> None:
        """A tokeniser with the words and the length of `simple`, which is as open_clip makes it without options."""
        self._simple = simple
        self._known: dict[str, list[int]] = {}
        self._special = frozenset(simple.cache)

    def __call__(self, texts: Sequence[str]) -> Any:
        """The tokens of N texts, int64 [N, L]; those of a text that is too long end with the end token."""
        import torch

        length = self._simple.context_length
        first, last = [self._simple.sot_token_id], [self._simple.eot_token_id]
        encoded = [first + self.encode(text)[: length - 2] + last for text in texts]
        counts = np.fromiter(map(len, encoded), np.int64, len(encoded))
        rows = np.zeros((len(texts), length), np.int64)
        rows[np.arange(length) < counts[:, None]] = np.fromiter(chain.from_iterable(encoded), np.int64, counts.sum())
        return torch.from_numpy(rows)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        if text.isascii() and text.isprintable() and "&" not in text:
            clean = text.lower()  # there is nothing for ftfy to mend, nor HTML
        else:
            clean = self._simple.clean_fn(text)
        return self._joined(clean.split())  # what is between spaces is cut into tokens by itself

    def _joined(self, words: Iterable[str]) -> list[int]:
        tokens: list[int] = []
        for word in words:
            known = self._known.get(word)
            tokens += known if known is not None else self._encode(word)
        return tokens

    def _encode(self, word: str) -> list[int]:
        parts = self._simple.pat.findall(word)
        tokens = self._encode_part(word) if parts == [word] else self._joined(parts)
        if len(self._known) < _MOST_WORDS:
            self._known[word] = tokens
        return tokens

    def _encode_part(self, part: str) -> list[int]:
        symbols = "".join(map(self._simple.byte_encoder.__getitem__, part.encode("utf-8")))
        tokens = [self._simple.encoder[symbol] for symbol in self._simple.bpe(symbols).split(" ")]
        if symbols not in self._special:
            self._simple.cache.pop(symbols, None)  # which grows without limit
        return tokens


_MOST_WORDS = 100_000
"""Whose tokens are kept: some tens of megabytes."""


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
    tokenizer = load_clip_tokenizer(spec)
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text)["input_ids"])
