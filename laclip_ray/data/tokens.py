"""The tokeniser of a CLIP model's text tower.

Guarantees: the tokens are open_clip's own. open_clip's models are not imported: that takes three seconds in every
process that reads.
"""

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

_MAX_CACHED_WORDS = 100_000
"""Words whose tokens a tokeniser caches: some tens of megabytes."""


@dataclass(frozen=True)
class TokenizerSpec:
    """Which of open_clip's tokenisers a model uses. Any process can load the tokeniser from it."""

    model_name: str | None
    """open_clip's name of the model. None: the other fields specify the tokeniser."""
    context_length: int | None = None
    """Tokens per text."""
    hugging_face_name: str | None = None
    """The tokeniser's name on Hugging Face. None: open_clip's `SimpleTokenizer`."""
    options: str = "{}"
    """Options of the tokeniser as a JSON object: `tokenizer_kwargs` in a model's config."""


def tokenizer_spec(model_name: str) -> TokenizerSpec:
    """Find the tokeniser of a model.

    Args:
        model_name: open_clip's name, the name of one of the paper's models, or a model config file (`*.json`).
    """
    if model_name.startswith("laclip_vit_"):  # the paper's models, which open_clip does not list
        return TokenizerSpec(None, 77)
    is_file = model_name.endswith(".json")
    url = model_name if is_file else str(_open_clip_directory() / "model_configs" / f"{model_name}.json")
    if not is_file and not storage.exists(url):
        return TokenizerSpec(model_name)
    config = storage.read_json(url)
    text = config.get("model_cfg", config)["text_cfg"]
    options = text.get("tokenizer_kwargs") or {}
    if not is_file and ("siglip" in model_name.lower() or options):
        return TokenizerSpec(model_name)
    return TokenizerSpec(None, text.get("context_length", 77), text.get("hf_tokenizer_name"), json.dumps(options))


@lru_cache(maxsize=2)
def load_clip_tokenizer(spec: TokenizerSpec) -> Any:
    """Load a tokeniser; the process caches it. Calling it with a list of N texts returns int64 [N, L]."""
    return import_safely(lambda: _load(spec))  # imports torch


def _load(spec: TokenizerSpec) -> Any:
    if spec.model_name is not None:
        from laclip_ray.light_open_clip import open_clip

        return open_clip.get_tokenizer(spec.model_name)
    tokenizers, options = _open_clip_tokenizers(), json.loads(spec.options)
    if spec.hugging_face_name:
        return tokenizers.HFTokenizer(spec.hugging_face_name, context_length=spec.context_length, **options)
    simple = tokenizers.SimpleTokenizer(context_length=spec.context_length, **options)
    return simple if options else WordTokenizer(simple)


class WordTokenizer:
    """open_clip's `SimpleTokenizer` in a quarter of its time: caches the tokens of each word."""

    def __init__(self, simple: Any) -> None:
        """Take the vocabulary and context length of `simple`, an open_clip tokeniser created without options."""
        self._simple = simple
        self._tokens_by_word: dict[str, list[int]] = {}
        self._special = frozenset(simple.cache)

    def __call__(self, texts: Sequence[str]) -> Any:
        """The tokens of N texts, int64 [N, L]. A text over L tokens is cut, and ends with the end token."""
        import torch

        length = self._simple.context_length
        first, last = [self._simple.sot_token_id], [self._simple.eot_token_id]
        encoded = [first + self.encode(text)[: length - 2] + last for text in texts]
        counts = np.fromiter(map(len, encoded), np.int64, len(encoded))
        rows = np.zeros((len(texts), length), np.int64)
        rows[np.arange(length) < counts[:, None]] = np.fromiter(chain.from_iterable(encoded), np.int64, counts.sum())
        return torch.from_numpy(rows)

    def encode(self, text: str) -> list[int]:
        """All tokens of a text, without start and end tokens."""
        if text.isascii() and text.isprintable() and "&" not in text:
            clean = text.lower()  # `clean_fn` would only lower-case it: no text for ftfy to fix, no HTML entities
        else:
            clean = self._simple.clean_fn(text)
        return self._encode_words(clean.split())  # no token spans a space

    def _encode_words(self, words: Iterable[str]) -> list[int]:
        tokens: list[int] = []
        for word in words:
            cached = self._tokens_by_word.get(word)
            tokens += cached if cached is not None else self._encode_word(word)
        return tokens

    def _encode_word(self, word: str) -> list[int]:
        parts = self._simple.pat.findall(word)
        tokens = self._encode_part(word) if parts == [word] else self._encode_words(parts)
        if len(self._tokens_by_word) < _MAX_CACHED_WORDS:
            self._tokens_by_word[word] = tokens
        return tokens

    def _encode_part(self, part: str) -> list[int]:
        symbols = "".join(map(self._simple.byte_encoder.__getitem__, part.encode("utf-8")))
        tokens = [self._simple.encoder[symbol] for symbol in self._simple.bpe(symbols).split(" ")]
        if symbols not in self._special:
            self._simple.cache.pop(symbols, None)  # this cache would grow without limit
        return tokens


def _open_clip_directory() -> Path:
    """The directory of the open_clip package, found without importing it."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0])


@cache
def _open_clip_tokenizers() -> Any:
    """open_clip's `tokenizer` module, imported without the rest of the package."""
    if "open_clip" in sys.modules:
        return sys.modules["open_clip.tokenizer"]
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", _open_clip_directory() / "tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count_tokens(spec: TokenizerSpec, text: str) -> int:
    """Number of tokens of a text without a limit, start and end tokens included."""
    tokenizer = load_clip_tokenizer(spec)
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text)["input_ids"])
