"""The prompt heads of a run: which pairs they show (`head_choice`), their texts, and the tokens that captions share.

Guarantees: the pairs of a new set are a function of the prompt set, the number of heads, the seed, the model's
tokenizer and the engine's cache block. A set that exists keeps the heads of its recipe. The driver chooses the heads
once; engines, gates and estimates use the same ones.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import takewhile
from statistics import fmean
from typing import Any

from laclip_ray import storage
from laclip_ray.config import RewriteConfig
from laclip_ray.config.rewriting import required_model
from laclip_ray.errors import UserError
from laclip_ray.models.hub import check_hub_model
from laclip_ray.rewriting.engines.arguments import cache_block_tokens
from laclip_ray.rewriting.engines.work import CacheWatch
from laclip_ray.rewriting.prompting.head_choice import (
    HeadNumbers,
    aligned_heads,
    pack,
    pairs_of,
    unaligned_heads,
    unpack,
)
from laclip_ray.rewriting.prompting.prompts import (
    PAIRS_PER_HEAD,
    ExamplePair,
    Head,
    PromptSet,
    chat_head,
    chat_template_of,
    completion_head,
)
from laclip_ray.rewriting.recipe import HEAD_PAIRS, build_recipe, fingerprint_of, model_directory
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE, read_recipe

logger = logging.getLogger(__name__)

_CAPTION_STARTS = (
    *("a", "A", "the", "7", "2020", '"a', "'s", "(a", "[a", "<a", "#a", "@a", "-a", "$5", "&", "...", "!", "%", "/"),
    *("\u00e9", "\u042f", "\u4e2d", "\u0e01", "\u05d0", "\u0645", "\U0001f642", "\u201ca", "\u2013", "\u00ab"),
)
"""Beginnings of captions. A tokenizer may join the last characters of a head with some of them."""


def load_llm_tokenizer(rewrite: RewriteConfig) -> Any:
    """The language model's own tokenizer; a process loads it once.

    Raises:
        UserError: no model is set, or its tokenizer cannot be loaded.
    """
    return _load_tokenizer(model_directory(required_model(rewrite)), rewrite.revision)


@cache
def _load_tokenizer(model: str, revision: str | None, is_local: bool = False) -> Any:
    from transformers import AutoTokenizer

    if not is_local:
        check_hub_model(model, revision)
    try:
        return AutoTokenizer.from_pretrained(model, revision=revision, local_files_only=is_local)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"rewrite.model: the tokeniser of {model!r} cannot be loaded: {reason}") from error


def choose_heads(
    rewrite: RewriteConfig, prompt_sets: Mapping[str, PromptSet], seed: int, output: str
) -> dict[str, HeadNumbers]:
    """The heads of each prompt set: listed in its recipe if the set exists, else chosen by `rewrite.head_choice`.

    Args:
        rewrite: the rewriting configuration.
        prompt_sets: by name.
        seed: the experiment's seed.
        output: directory or URL of the rewrite sets.

    Raises:
        UserError: the model's tokenizer is needed and cannot be loaded, or a recipe is damaged.
    """
    chosen = {}
    for name, prompt_set in prompt_sets.items():
        chosen[name] = unaligned = unaligned_heads(prompt_set, rewrite.heads, seed)
        if rewrite.head_choice == "aligned":
            recorded = _recorded_heads(rewrite, prompt_set, seed, unaligned, storage.join(output, name))
            chosen[name] = recorded or _choose_aligned(rewrite, prompt_set, seed)
    return chosen


def _recorded_heads(
    rewrite: RewriteConfig, prompt_set: PromptSet, seed: int, unaligned: HeadNumbers, location: str
) -> HeadNumbers | None:
    """The heads of the set at `location`; None if it holds no set, or one of another recipe."""
    if not storage.exists(storage.join(location, RECIPE_FILE)):
        return None
    recipe: dict[str, Any] = read_recipe(location, lambda content: dict(content["recipe"]))
    heads = recipe.pop(HEAD_PAIRS, None)
    if fingerprint_of(recipe) != fingerprint_of(build_recipe(rewrite, prompt_set, seed, unaligned)):
        return None
    if heads is None:
        logger.info("%s was begun with heads that are not aligned with cache blocks, and keeps them", location)
        return unaligned
    return tuple(tuple(numbers) for numbers in heads)


def _choose_aligned(rewrite: RewriteConfig, prompt_set: PromptSet, seed: int) -> HeadNumbers:
    build = head_builder(rewrite)
    try:
        tokenizer = load_llm_tokenizer(rewrite)
    except UserError as error:
        raise UserError(
            f"{error}; it aligns prompt heads with the blocks of the prefix cache, and rewrite.head_choice=any does "
            "without"
        ) from error
    repeated = [build((pair,) * PAIRS_PER_HEAD) for pair in prompt_set.pairs]
    tokens = [count / PAIRS_PER_HEAD for count in shared_tokens(tokenizer, repeated, rewrite.mode == "completion")]
    return aligned_heads(prompt_set, rewrite.heads, seed, tokens, cache_block_tokens(rewrite.engine))


def head_builder(rewrite: RewriteConfig) -> Callable[[tuple[ExamplePair, ...]], Head]:
    """A function that builds the head of some pairs, in the configured mode and template.

    Raises:
        UserError: the model's tokenizer cannot be loaded, or has no chat template.
    """
    if rewrite.mode == "completion":
        return lambda pairs: completion_head(pairs, rewrite.template)
    template = chat_template_of(load_llm_tokenizer(rewrite))
    return lambda pairs: chat_head(pairs, template)


def build_heads(
    rewrite: RewriteConfig, prompt_sets: Mapping[str, PromptSet], chosen: Mapping[str, HeadNumbers]
) -> dict[str, tuple[Head, ...]]:
    """The prompt heads of each prompt set, from the numbers of their pairs (`choose_heads`).

    Raises:
        UserError: the model's chat template cannot ask for rewrites.
    """
    build = head_builder(rewrite)
    return {
        name: tuple(build(pairs) for pairs in pairs_of(prompt_set, chosen[name]))
        for name, prompt_set in prompt_sets.items()
    }


def packed_heads(
    rewrite: RewriteConfig, prompt_sets: Mapping[str, PromptSet], chosen: Mapping[str, HeadNumbers]
) -> Callable[[], dict[str, tuple[Head, ...]]]:
    """`build_heads` of these arguments, as a function that pickles to few bytes."""
    return partial(_build_packed, rewrite, prompt_sets, {name: pack(numbers) for name, numbers in chosen.items()})


def _build_packed(
    rewrite: RewriteConfig, prompt_sets: Mapping[str, PromptSet], packed: Mapping[str, bytes]
) -> dict[str, tuple[Head, ...]]:
    return build_heads(rewrite, prompt_sets, {name: unpack(numbers) for name, numbers in packed.items()})


def shared_tokens(tokenizer: Any, heads: Sequence[Head], special: bool) -> list[int]:
    """The tokens at the beginning of each head's prompts that all captions share.

    Args:
        tokenizer: the model's, as transformers has it.
        heads: heads of one template.
        special: whether the tokenizer adds special tokens: for completions, as a chat template writes its own.
    """
    if not heads:
        return []
    alone = _token_ids(tokenizer, [head.before for head in heads], special)
    with_caption = _token_ids(tokenizer, [heads[0].prompt(start) for start in _CAPTION_STARTS], special)
    # All heads of a template end alike, so one of them shows how many tokens at its end depend on the caption.
    seam = len(alone[0]) - min(_common(alone[0], ids) for ids in with_caption)
    return [max(len(ids) - seam, 0) for ids in alone]


def watch_cache(rewrite: RewriteConfig, heads: Mapping[str, Sequence[Head]]) -> CacheWatch | None:
    """A watch over the use of the prefix cache, which knows how many tokens of each prompt set's heads it can hold.

    None without heads, or if this machine does not hold the model's tokenizer; it is not fetched for this.
    """
    if not heads:
        return None
    try:
        tokenizer = _load_tokenizer(model_directory(required_model(rewrite)), rewrite.revision, is_local=True)
    except UserError:
        return None
    block, special = cache_block_tokens(rewrite.engine), rewrite.mode == "completion"
    promised = {
        name: fmean(count // block * block for count in shared_tokens(tokenizer, of_set, special))
        for name, of_set in heads.items()
    }
    return CacheWatch(promised, rewrite.heads)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _token_ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    ids: list[list[int]] = tokenizer([str(text) for text in texts], add_special_tokens=special, verbose=False)[
        "input_ids"
    ]
    return ids
