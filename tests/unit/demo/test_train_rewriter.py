"""Packed training equals separate prompts, no token crosses the head's end, the shipped model is small."""

from pathlib import Path
from typing import Any

import pytest
import torch

from laclip_ray.demo.language import STYLES
from laclip_ray.demo.train_rewriter.data import (
    IGNORED_LABEL,
    NO_HEAD,
    TRAINING,
    collate,
    pack_texts,
    random_head,
    train_tokenizer,
    world_pair,
)
from laclip_ray.demo.train_rewriter.training import Recipe, build_model, learning_rate_at, loss_of, training_batch
from laclip_ray.rewriting.prompting.prompts import PromptSet, load_prompt_set

REWRITER = Path(__file__).parents[3] / "laclip_ray" / "demo" / "rewriter"
TINY = Recipe(
    steps=2,
    headless_share=0.5,
    sequences_per_step=2,
    captions_per_sequence=3,
    hidden_size=64,
    layers=2,
    feed_forward_size=96,
)


@pytest.fixture(scope="module")
def prompt_sets() -> list[PromptSet]:
    return [load_prompt_set(style) for style in STYLES]


@pytest.fixture(scope="module")
def tokenizer(prompt_sets: list[PromptSet]) -> Any:
    return train_tokenizer(prompt_sets, TINY.vocabulary_size, TINY.seed)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


def test_a_prompts_tokens_are_its_heads_tokens_then_its_rests(tokenizer: Any, prompt_sets: list[PromptSet]) -> None:
    captions = ["", "2", "=> ", "  spaced", "'s", "été ☂", "a\nb", "...", "#12"]
    captions += [world_pair(TRAINING, "cleaned", index)[0] for index in range(100)]
    for index, caption in enumerate(captions):
        head = random_head(prompt_sets[index % 4], index)
        prompt = head.prompt(caption)
        rest = NO_HEAD.prompt(caption)
        assert _tokens(tokenizer, prompt) == _tokens(tokenizer, head.before) + _tokens(tokenizer, rest)
        assert _tokens(tokenizer, prompt + " A cup.\n") == _tokens(tokenizer, prompt) + _tokens(tokenizer, " A cup.\n")


def test_tokens_give_back_every_text(tokenizer: Any) -> None:
    for text in ("3 red mugs => Three cups.\n", "été ☂ 漢字\n\n", "IMG_2041.jpg , x4"):
        assert tokenizer.decode(_tokens(tokenizer, text)) == text


def test_packed_logits_equal_those_of_separate_prompts(tokenizer: Any, prompt_sets: list[PromptSet]) -> None:
    model = build_model(TINY, len(tokenizer)).eval()
    head = random_head(prompt_sets[0], "packed")
    pairs = [world_pair(TRAINING, STYLES[0], index) for index in range(5)]
    packed = pack_texts(tokenizer, head, pairs)
    other = pack_texts(tokenizer, random_head(prompt_sets[1], "packed"), pairs * 2)
    batch = collate([packed, other])
    labels = batch.pop("labels")[0]
    with torch.inference_mode():
        logits = model(**batch).logits[0]
        start = len(_tokens(tokenizer, head.before))
        for source, target in pairs:
            prompt = _tokens(tokenizer, head.prompt(source))
            written = [*_tokens(tokenizer, f" {target}\n"), tokenizer.eos_token_id]
            alone = model(input_ids=torch.tensor([prompt + written])).logits[0]
            own = len(prompt) + len(written) - len(_tokens(tokenizer, head.before))
            torch.testing.assert_close(logits[start : start + own], alone[-own:], atol=1e-4, rtol=1e-4)
            labelled = [label for label in labels[start : start + own].tolist() if label != IGNORED_LABEL]
            assert labelled == written
            start += own


def test_labels_are_the_next_tokens(tokenizer: Any, prompt_sets: list[PromptSet]) -> None:
    packed = pack_texts(tokenizer, random_head(prompt_sets[2], 1), [world_pair(TRAINING, STYLES[2], 1)])
    labelled = packed.labels[:-1] != IGNORED_LABEL
    assert torch.equal(packed.labels[:-1][labelled], packed.tokens[1:][labelled])


def test_batches_are_functions_of_seed_and_step(tokenizer: Any, prompt_sets: list[PromptSet]) -> None:
    first, again, next_step = (training_batch(tokenizer, prompt_sets, TINY, step) for step in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["input_ids"].shape != next_step["input_ids"].shape or not torch.equal(
        first["input_ids"], next_step["input_ids"]
    )


def test_a_random_models_loss_is_that_of_guessing(tokenizer: Any, prompt_sets: list[PromptSet]) -> None:
    model = build_model(TINY, len(tokenizer))
    loss = loss_of(model, training_batch(tokenizer, prompt_sets, TINY, 0))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(len(tokenizer))).item(), abs=0.3)


def test_the_learning_rate_rises_then_falls() -> None:
    recipe = Recipe(steps=100)
    rates = [learning_rate_at(recipe, step) for step in range(100)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.02 * recipe.learning_rate


def test_the_shipped_rewriter_is_whole_and_small() -> None:
    names = {path.name for path in REWRITER.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    } <= names
    assert sum(path.stat().st_size for path in REWRITER.iterdir()) <= 4_000_000
