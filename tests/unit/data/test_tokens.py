"""Tokenisers are those of the model, found by its name or its config file."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray.data.tokens import TokenizerSpec, count_tokens, load_tokenizer, tokenizer_spec


def test_a_model_name_gives_open_clips_own_tokeniser() -> None:
    spec = tokenizer_spec("ViT-B-32")
    assert spec == TokenizerSpec("ViT-B-32")
    texts = ["a photo of a dog", ""]
    assert torch.equal(load_tokenizer(spec)(texts), open_clip.get_tokenizer("ViT-B-32")(texts))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_config_gives_its_context_length(wrapped: bool, tmp_path: Path) -> None:
    config = {"embed_dim": 8, "text_cfg": {"context_length": 12}}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"model_cfg": config} if wrapped else config), encoding="utf-8")
    spec = tokenizer_spec(str(path))
    assert spec == TokenizerSpec(None, 12, None)
    assert load_tokenizer(spec)(["a dog"]).shape == (1, 12)


def test_a_model_config_names_its_hugging_face_tokeniser(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"text_cfg": {"hf_tokenizer_name": "org/name"}}), encoding="utf-8")
    assert tokenizer_spec(str(path)) == TokenizerSpec(None, 77, "org/name")


@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_the_count_is_the_number_of_tokens_that_are_not_padding(text: str) -> None:
    spec = TokenizerSpec(None, 512, None)
    row = load_tokenizer(spec)([text])[0]
    assert count_tokens(spec, text) == int((row != 0).sum()) + text_tokens_that_are_zero(row)


def text_tokens_that_are_zero(row: torch.Tensor) -> int:
    """`!` has token 0, as padding has: those before the end token."""
    end = int((row == 49407).nonzero()[0])
    return int((row[:end] == 0).sum())


def test_the_count_knows_no_limit() -> None:
    assert count_tokens(TokenizerSpec(None, 16, None), "dog " * 100) == 102
