"""Score the demo's rewriter: the share of faithful rewrites of held-out alt-texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from laclip_ray.demo.language import is_faithful
from laclip_ray.demo.train_rewriter.data import HELD_OUT, random_head, world_pair
from laclip_ray.rewriting.prompting.completions import parse_completion
from laclip_ray.rewriting.prompting.prompts import PromptSet


@torch.inference_mode()
def complete(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    temperature: float,
    device: str,
) -> list[str]:
    """Complete each prompt, greedily at temperature 0, else by nucleus sampling with top-p 0.95."""
    sampling: dict[str, bool | float] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0}
    written: list[str] = []
    model.eval()
    remaining = iter(prompts)
    while part := list(islice(remaining, 128)):
        inputs = tokenizer(part, return_tensors="pt", padding=True, add_special_tokens=False)
        tokens, mask = inputs["input_ids"].to(device), inputs["attention_mask"].to(device)
        output = model.generate(input_ids=tokens, attention_mask=mask, max_new_tokens=64, **sampling)
        written += tokenizer.batch_decode(output[:, tokens.shape[1] :], skip_special_tokens=True)
    return [parse_completion(text) for text in written]


@dataclass(frozen=True)
class Score:
    """Result for one style and temperature."""

    style: str
    temperature: float
    faithful_share: float
    """Share of the rewrites that state exactly the facts of the alt-text."""
    distinct_share: float
    """Share of distinct rewrites."""
    examples: tuple[tuple[str, str], ...]
    """A few (alt-text, rewrite) pairs."""
    failures: tuple[tuple[str, str], ...]
    """A few unfaithful (alt-text, rewrite) pairs."""


def evaluate(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompt_sets: list[PromptSet],
    seed: int,
    count: int,
    device: str,
) -> list[Score]:
    """Score `count` held-out alt-texts per style, each with its own head, greedily and at temperature 0.9."""
    scores = []
    torch.manual_seed(seed)
    for prompt_set in prompt_sets:
        sources = [world_pair(HELD_OUT, prompt_set.name, seed, index)[0] for index in range(count)]
        prompts = [
            random_head(prompt_set, HELD_OUT, seed, index).prompt(source) for index, source in enumerate(sources)
        ]
        for temperature in (0.0, 0.9):
            rewrites = complete(model, tokenizer, prompts, temperature, device)
            pairs = list(zip(sources, rewrites, strict=True))
            failures = [pair for pair in pairs if not is_faithful(*pair)]
            scores.append(
                Score(
                    style=prompt_set.name,
                    temperature=temperature,
                    faithful_share=round(1 - len(failures) / count, 4),
                    distinct_share=round(len(set(rewrites)) / count, 4),
                    examples=tuple(pairs[:3]),
                    failures=tuple(failures[:3]),
                )
            )
    return scores


def print_scores(scores: list[Score]) -> None:
    """Print the scores as a table, then examples and failures."""
    print(f"{'style':20s} {'temperature':>11s} {'faithful':>9s} {'distinct':>9s}")
    for score in scores:
        print(f"{score.style:20s} {score.temperature:11.1f} {score.faithful_share:9.1%} {score.distinct_share:9.1%}")
    for score in scores:
        for mark, pairs in (("  ", score.examples), ("! ", score.failures)):
            for source, target in pairs:
                print(f"{mark}{score.style} @{score.temperature}: {source} => {target}")
