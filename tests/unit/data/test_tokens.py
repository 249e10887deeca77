"""The name or config file of a model gives its tokeniser, with open_clip's own tokens."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import tokens
from laclip_ray.data.tokens import TokenizerSpec, count_tokens, load_clip_tokenizer, tokenizer_spec


def test_a_model_name_gives_open_clips_own_tokeniser() -> None:
    texts = ["a photo of a dog", ""]
    ours, theirs = load_clip_tokenizer(tokenizer_spec("ViT-B-32")), open_clip.get_tokenizer("ViT-B-32")
    assert torch.equal(ours(texts), theirs(texts))


@cache
def open_clips_own() -> Any:
    """A tokeniser that takes a while to load."""
    return open_clip.get_tokenizer("ViT-B-32")


@given(
    text=st.text(max_size=60)
    | st.text(st.characters(max_codepoint=127), max_size=60)
    | st.text("a&lt;#39'S \t", max_size=20)
    | st.lists(st.sampled_from(["dog", "'s", "'", "-", ",", "3", "d", " ", "<end_of_text>", "é"])).map("".join)
)
def test_every_text_has_open_clips_own_tokens(text: str) -> None:
    ours, theirs = load_clip_tokenizer(tokenizer_spec("ViT-B-32")), open_clips_own()
    assert ours.encode(text) == theirs.encode(text)
    assert ours.encode(text) == theirs.encode(text), "from the cache of words"


def test_a_text_that_is_too_long_is_cut_as_open_clip_cuts_it() -> None:
    spec, theirs = TokenizerSpec(None, 8), open_clip.SimpleTokenizer(context_length=8)
    texts = ["a dog " * count for count in range(6)]
    assert torch.equal(load_clip_tokenizer(spec)(texts), theirs(texts))


def test_the_cache_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_CACHED_WORDS", 2)
    theirs = open_clip.SimpleTokenizer()
    simple = open_clip.SimpleTokenizer()
    ours = tokens.WordTokenizer(simple)
    text = "seven words that are not in it <start_of_text>"
    assert ours.encode(text) == ours.encode(text) == theirs.encode(text)
    assert simple.cache.keys() == {"<start_of_text>", "<end_of_text>"}
    assert len(ours._tokens_by_word) == 2


def test_options_of_a_model_config_are_the_tokenisers(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    text = {"context_length": 12, "tokenizer_kwargs": {"clean": "canonicalize"}}
    path.write_text(json.dumps({"embed_dim": 8, "text_cfg": text}))
    theirs = open_clip.SimpleTokenizer(context_length=12, clean="canonicalize")
    assert torch.equal(load_clip_tokenizer(tokenizer_spec(str(path)))(["A dog, a cat."]), theirs(["A dog, a cat."]))


@pytest.mark.parametrize("name", ["ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "hf-hub:org/name"])
def test_tokenisers_with_options_of_their_own_are_left_to_open_clip(name: str) -> None:
    assert tokenizer_spec(name) == TokenizerSpec(name)


def test_a_name_resolved_here_gives_open_clips_own_tokeniser() -> None:
    names = [name for name in open_clip.list_models() if tokenizer_spec(name).model_name is None]
    assert len(names) > 50
    for name in names:
        text = open_clip.get_model_config(name)["text_cfg"]
        spec = tokenizer_spec(name)
        assert (spec.context_length, spec.hugging_face_name) == (
            text.get("context_length", 77),
            text.get("hf_tokenizer_name"),
        )


def test_a_process_that_only_tokenises_does_not_load_open_clips_models() -> None:
    program = (
        "import sys; from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec; "
        "print(load_clip_tokenizer(tokenizer_spec('ViT-B-32'))(['a dog'])[0, :4].tolist(), 'open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = open_clip.get_tokenizer("ViT-B-32")(["a dog"])[0, :4].tolist()
    assert done.stdout.strip() == f"{expected} False"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_config_gives_its_context_length(wrapped: bool, tmp_path: Path) -> None:
    config = {"embed_dim": 8, "text_cfg": {"context_length": 12}}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"model_cfg": config} if wrapped else config), encoding="utf-8")
    spec = tokenizer_spec(str(path))
    assert spec == TokenizerSpec(None, 12, None)
    assert load_clip_tokenizer(spec)(["a dog"]).shape == (1, 12)


def test_a_model_config_names_its_hugging_face_tokeniser(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"text_cfg": {"hf_tokenizer_name": "org/name"}}), encoding="utf-8")
    assert tokenizer_spec(str(path)) == TokenizerSpec(None, 77, "org/name")


@given(text=st.text(max_size=60))
def test_the_count_is_the_number_of_tokens_without_padding(text: str) -> None:
    spec = TokenizerSpec(None, 512, None)
    row = load_clip_tokenizer(spec)([text])[0]
    assert count_tokens(spec, text) == int((row != 0).sum()) + text_tokens_that_are_zero(row)


def text_tokens_that_are_zero(row: torch.Tensor) -> int:
    """`!` has token 0, like padding: count the zeros before the end token."""
    end = int((row == 49407).nonzero()[0])
    return int((row[:end] == 0).sum())


def test_the_count_has_no_limit() -> None:
    assert count_tokens(TokenizerSpec(None, 16, None), "dog " * 100) == 102
