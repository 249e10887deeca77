"""The heads of a prompt set, as a function of the seed."""

from collections.abc import Callable

from laclip_ray.config import Template
from laclip_ray.rewriting.prompting.head_choice import pairs_of, unaligned_heads
from laclip_ray.rewriting.prompting.prompts import ExamplePair, Head, Messages, PromptSet, chat_head, completion_head


def head_pairs(prompt_set: PromptSet, count: int, seed: int) -> tuple[tuple[ExamplePair, ...], ...]:
    """The pairs of each head."""
    return pairs_of(prompt_set, unaligned_heads(prompt_set, count, seed))


def completion_heads(prompt_set: PromptSet, count: int, seed: int, template: Template = "plain") -> tuple[Head, ...]:
    """Heads for a base model."""
    return tuple(completion_head(pairs, template) for pairs in head_pairs(prompt_set, count, seed))


def chat_heads(
    prompt_set: PromptSet, count: int, seed: int, apply_chat_template: Callable[[Messages], str]
) -> tuple[Head, ...]:
    """Heads for an instruct model."""
    return tuple(chat_head(pairs, apply_chat_template) for pairs in head_pairs(prompt_set, count, seed))
