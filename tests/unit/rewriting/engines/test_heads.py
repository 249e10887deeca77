"""The heads of a run: aligned with the model's tokenizer, recorded in the recipe, and the same for everyone."""

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import RewriteConfig, Template
from laclip_ray.errors import UserError
from laclip_ray.rewriting.engines import arguments as engine_arguments
from laclip_ray.rewriting.engines import heads
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads, load_llm_tokenizer, shared_tokens
from laclip_ray.rewriting.prompting.head_choice import unaligned_heads
from laclip_ray.rewriting.prompting.prompts import (
    PAIRS_PER_HEAD,
    ExamplePair,
    PromptSet,
    built_in_prompt_sets,
    load_prompt_set,
)
from laclip_ray.rewriting.recipe import HEAD_PAIRS, build_recipe, fingerprint_of
from laclip_ray.rewriting.storing import store
from tests.cases import case

SETS = {name: load_prompt_set(name) for name in built_in_prompt_sets()}
NAME = "crowd"
ONE = {NAME: SETS[NAME]}


def config(**settings: Any) -> RewriteConfig:
    return RewriteConfig.model_validate({"model": "demo-rewriter", **settings})


def claim(location: Path, rewrite: RewriteConfig, prompt_set: PromptSet, seed: int = 0) -> dict[str, Any]:
    """Begin a set as a run does; its recipe."""
    chosen = choose_heads(rewrite, {prompt_set.name: prompt_set}, seed, str(location))[prompt_set.name]
    recipe = build_recipe(rewrite, prompt_set, seed, chosen)
    store.open_for_writing(str(location / prompt_set.name), recipe, "gate", "rewrite.output")
    return recipe


@pytest.mark.parametrize("template", ["plain", "reference"])
@pytest.mark.parametrize("block", [16, 32])
def test_aligned_heads_lose_a_quarter_of_what_other_heads_lose(template: Template, block: int, tmp_path: Path) -> None:
    lost = {}
    tokenizer = load_llm_tokenizer(config())
    for choice in ("aligned", "any"):
        rewrite = config(template=template, head_choice=choice, engine={"args": {"block_size": block}})
        built = build_heads(rewrite, SETS, choose_heads(rewrite, SETS, 0, str(tmp_path)))
        counts = [count for each in built.values() for count in shared_tokens(tokenizer, each, True)]
        lost[choice] = sum(count % block for count in counts) / len(counts)
    assert 4 * lost["aligned"] < lost["any"]


@given(caption=st.text(min_size=1), number=st.integers(0, 3))
@pytest.mark.parametrize("template", ["plain", "reference"])
def test_prompts_of_a_head_share_at_least_the_tokens_that_are_counted(
    template: Template, caption: str, number: int
) -> None:
    rewrite, tokenizer = config(template=template), load_llm_tokenizer(config())
    head = build_heads(rewrite, ONE, {NAME: unaligned_heads(SETS[NAME], 4, 0)})[NAME][number]
    (count,) = shared_tokens(tokenizer, [head], True)
    prompt = head.prompt(caption)
    if prompt.caption:
        ids, plain = (tokenizer(str(text))["input_ids"] for text in (prompt, head.prompt("a")))
        # A tokenizer may join the end of the head with a few characters in a way that no probe shows: at most there.
        assert ids[: count - 2] == plain[: count - 2]


def test_the_order_of_pairs_and_their_neighbours_do_not_change_a_heads_tokens() -> None:
    tokenizer, pairs = load_llm_tokenizer(config()), SETS[NAME].pairs
    build = heads.head_builder(config())
    repeated = shared_tokens(tokenizer, [build((pair,) * PAIRS_PER_HEAD) for pair in pairs], True)
    for triple in unaligned_heads(SETS[NAME], 50, 1):
        (count,) = shared_tokens(tokenizer, [build(tuple(pairs[number] for number in triple))], True)
        assert count == round(sum(repeated[number] for number in triple) / PAIRS_PER_HEAD)


def test_the_recipe_follows_the_heads(tmp_path: Path) -> None:
    prompts, unaligned = SETS[NAME], unaligned_heads(SETS[NAME], 32, 0)
    recipes = []
    variants: list[dict[str, Any]] = [
        {},
        {"engine": {"args": {"block_size": 64}}},
        {"head_choice": "any"},
        {"head_choice": "any", "heads": 8},
    ]
    for number, settings in enumerate(variants):
        rewrite = config(**settings)
        chosen = choose_heads(rewrite, ONE, 0, str(tmp_path / str(number)))[NAME]
        recipes.append(build_recipe(rewrite, prompts, 0, chosen))
        assert (HEAD_PAIRS in recipes[-1]) == (chosen != unaligned_heads(prompts, rewrite.heads, 0))
    assert len({fingerprint_of(recipe) for recipe in recipes}) == 4
    assert recipes[2] == build_recipe(config(), prompts, 0, unaligned)


@case("Identity", "a rewrite set continued with another cache block, or where the tokenizer cannot be loaded",
      "it keeps the heads of its recipe")  # fmt: skip
def test_a_set_that_exists_keeps_its_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = claim(tmp_path, config(), SETS[NAME])
    monkeypatch.setattr(heads, "load_llm_tokenizer", lambda rewrite: pytest.fail("the tokenizer was loaded"))
    for settings in ({}, {"engine": {"args": {"block_size": 128}}}):
        rewrite = config(**settings)
        chosen = choose_heads(rewrite, ONE, 0, str(tmp_path))[NAME]
        assert build_recipe(rewrite, SETS[NAME], 0, chosen) == recipe


@case("Identity", "a rewrite set of an earlier version, whose heads are not aligned with cache blocks",
      "it keeps them, and says so")  # fmt: skip
def test_a_set_begun_with_any_heads_keeps_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = claim(tmp_path, config(head_choice="any"), SETS[NAME])
    with caplog.at_level(logging.INFO, logger=heads.logger.name):
        assert claim(tmp_path, config(), SETS[NAME]) == recipe
    assert any("was begun with heads that are not aligned" in message for message in caplog.messages)


def test_another_recipe_in_the_output_does_not_decide_the_heads(tmp_path: Path) -> None:
    claim(tmp_path, config(), SETS[NAME])
    fresh = choose_heads(config(), ONE, 1, str(tmp_path / "elsewhere"))
    assert choose_heads(config(), ONE, 1, str(tmp_path)) == fresh


def test_a_set_of_any_heads_does_not_take_those_of_a_recipe(tmp_path: Path) -> None:
    claim(tmp_path, config(), SETS[NAME])
    with pytest.raises(UserError, match=r"holds another rewrite set \(head_pairs differ\)"):
        claim(tmp_path, config(head_choice="any"), SETS[NAME])


@case("How a run ends", "a model without a tokenizer, and heads that need one",
      "refused; `rewrite.head_choice: any` does without", exit_code=2)  # fmt: skip
def test_a_tokenizer_that_cannot_be_loaded_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    rewrite = config(model=str(tmp_path))
    with pytest.raises(UserError, match=r"the tokeniser of .* cannot be loaded: .*; .*rewrite\.head_choice=any does"):
        choose_heads(rewrite, ONE, 0, str(tmp_path / "out"))
    assert choose_heads(config(model=str(tmp_path), head_choice="any"), ONE, 0, str(tmp_path / "out"))


def test_heads_fit_the_block_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_gpu, args, expected in ((True, {}, 16), (False, {}, 32), (True, {"block_size": 64}, 64)):
        monkeypatch.setattr(engine_arguments, "has_gpu", lambda is_gpu=is_gpu: is_gpu)
        assert engine_arguments.cache_block_tokens(config(engine={"args": args}).engine) == expected


def test_heads_in_order_show_the_pairs_of_their_numbers() -> None:
    prompts = PromptSet("s", "", tuple(ExamplePair(f"a {n}", f"b {n}") for n in range(4)))
    (head,) = build_heads(config(), {"s": prompts}, {"s": ((2, 0, 3),)})["s"]
    assert head.pairs == (prompts.pairs[2], prompts.pairs[0], prompts.pairs[3])
