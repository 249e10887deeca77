"""Makes the demo's rewriter: a Llama of 1.4 million parameters that rewrites alt-texts of the demo's world.

    python -m laclip_ray.demo.train_rewriter --output laclip_ray/demo/rewriter --device cuda

It learns on the platform's own prompts (instruction, three pairs of a built-in prompt set, an alt-text) to
continue with a faithful rewrite in that set's style, a line break and the end token; the loss covers these
only. Many alt-texts share one head in a sequence: each sees the head and itself alone, at the positions it
would have in a prompt of its own, so that a packed sequence trains exactly as separate prompts would.

Guarantees: data and weights at the start are functions of the seed; on a CPU so is the result. Written beside
the model, `training.json` says how it was made and what share of its rewrites is faithful.
Not covered: alt-texts of other worlds, and bit-equal results on a GPU. Needs neither Ray nor pydantic.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from laclip_ray.demo.language import STYLES, is_faithful, rewrite_pair
from laclip_ray.demo.scenes import draw_scene
from laclip_ray.randomness import Key, permutation
from laclip_ray.rewriting.prompts import (
    INSTRUCTION,
    PAIRS_PER_HEAD,
    Head,
    PromptSet,
    completion_head,
    load_prompt_set,
    parse_completion,
)

END_TOKEN = "<|end|>"  # noqa: S105
POSITIONS_MAX = 1024
"""Longest prompt and rewrite in tokens."""
IGNORED_LABEL = -100
"""What the loss of transformers' models skips."""
HELD_OUT = "held out"
TRAINING = "training"
NO_HEAD = Head((), "", completion_head(()).after)
"""Makes a prompt's rest: all of it but the head."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the trained model, but for the device."""

    seed: int = 0
    """Decides the data and the weights at the start."""
    steps: int = 3000
    """Optimiser steps."""
    sequences_per_step: int = 4
    """Packed sequences in a step, each with one head."""
    captions_per_sequence: int = 24
    """Alt-texts that share a head."""
    learning_rate: float = 2e-3
    """Highest learning rate; it rises linearly, then falls as a cosine to a hundredth."""
    headless_share: float = 0.25
    """Share of the steps, at the start, whose prompts have no head: what a rewrite takes from its alt-text is
    found much sooner when nothing else stands before it."""
    warmup_share: float = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.05
    """AdamW's decay, on matrices only."""
    gradient_norm_max: float = 1.0
    """Longer gradients are shortened to this."""
    vocabulary_size: int = 1280
    """Tokens, the end token among them."""
    hidden_size: int = 128
    """Width of the model; heads are 32 wide."""
    layers: int = 6
    """Transformer blocks."""
    feed_forward_size: int = 384
    """Inner width of a block's feed-forward part."""


@dataclass(frozen=True)
class Packed:
    """One head and many continuations of it, as tokens of one sequence.

    Tensors are `[T]`, `visible` is `[T, T]`: which tokens (columns) a token (row) sees.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    visible: torch.Tensor


def world_pair(split: str, style: str, *keys: Key) -> tuple[str, str]:
    """(alt-text, rewrite) of a scene of `split`; splits are drawn apart, their texts may coincide."""
    return rewrite_pair(draw_scene("rewriter", split, *keys), style, "rewriter", split, *keys)


def random_head(prompt_set: PromptSet, *keys: Key) -> Head:
    """A head with three random pairs of `prompt_set`."""
    order = permutation(len(prompt_set.pairs), "random head", *keys)
    return completion_head(tuple(prompt_set.pairs[pair] for pair in order[:PAIRS_PER_HEAD]))


def train_tokenizer(prompt_sets: list[PromptSet], vocabulary_size: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the prompts' and the world's text; it can write every text.

    Line breaks and digits are always tokens of their own, so that a prompt's tokens are those of its head
    followed by those of its rest.
    """

    def texts() -> Iterator[str]:
        for _ in range(40):
            yield INSTRUCTION
            for prompt_set in prompt_sets:
                for pair in prompt_set.pairs:
                    yield f"{pair.source} => {pair.target}"
        for index in range(6000):
            source, target = world_pair("tokenizer", STYLES[index % len(STYLES)], seed, index)
            yield f"{source} => {target}"

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
        model_max_length=POSITIONS_MAX,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(recipe: Recipe, vocabulary_size: int) -> LlamaForCausalLM:
    """The untrained model; its weights are a function of the seed."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.feed_forward_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden_size // 32,
        num_key_value_heads=recipe.hidden_size // 32,
        head_dim=32,
        max_position_embeddings=POSITIONS_MAX,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def pack(head: list[int], continuations: list[tuple[list[int], list[int]]]) -> Packed:
    """`head` and then every (caption tokens, target tokens), one sequence that trains like separate prompts.

    A token is labelled with its successor where that is part of a target.
    """
    tokens, positions, labels, groups = (
        list(head),
        list(range(len(head))),
        [IGNORED_LABEL] * len(head),
        [0] * len(head),
    )
    for group, (caption, target) in enumerate(continuations, start=1):
        assert caption, "the separator is always there"
        assert target, "the line break is always there"
        text = [*caption, *target]
        tokens += text
        positions += range(len(head), len(head) + len(text))
        labels += [IGNORED_LABEL] * (len(caption) - 1) + target + [IGNORED_LABEL]
        groups += [group] * len(text)
    group_of = torch.tensor(groups)
    same = (group_of[:, None] == group_of[None, :]) | (group_of[None, :] == 0)
    return Packed(torch.tensor(tokens), torch.tensor(positions), torch.tensor(labels), same.tril())


def collate(sequences: list[Packed]) -> dict[str, torch.Tensor]:
    """The model's inputs for a batch, padded on the right; padding sees itself and nothing sees it.

    `labels` are already shifted: `labels[b, t]` is what position t is to predict.
    """
    length = max(len(sequence.tokens) for sequence in sequences)
    count = len(sequences)
    tokens = torch.zeros(count, length, dtype=torch.long)
    positions = torch.zeros(count, length, dtype=torch.long)
    labels = torch.full((count, length), IGNORED_LABEL)
    visible = torch.eye(length, dtype=torch.bool).repeat(count, 1, 1)
    for row, sequence in enumerate(sequences):
        size = len(sequence.tokens)
        tokens[row, :size], positions[row, :size] = sequence.tokens, sequence.positions
        labels[row, :size], visible[row, :size, :size] = sequence.labels, sequence.visible
    return {
        "input_ids": tokens,
        "position_ids": positions,
        "labels": labels,
        "attention_mask": visible[:, None],
    }


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    tokens: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return tokens


def pack_texts(tokenizer: PreTrainedTokenizerFast, head: Head, pairs: list[tuple[str, str]]) -> Packed:
    """A packed sequence of `head` and (caption, rewrite) pairs."""
    captions = [NO_HEAD.prompt(source) for source, _ in pairs]
    targets = [f" {target}\n" for _, target in pairs]
    head_tokens, *rest = _encode(tokenizer, [head.before, *captions, *targets])
    end: int = tokenizer.eos_token_id
    continuations = [
        (caption, [*target, end]) for caption, target in zip(rest[: len(pairs)], rest[len(pairs) :], strict=True)
    ]
    return pack(head_tokens, continuations)


def training_batch(
    tokenizer: PreTrainedTokenizerFast, prompt_sets: list[PromptSet], recipe: Recipe, step: int
) -> dict[str, torch.Tensor]:
    """The batch of `step`: a function of the seed and the step. Styles take turns."""
    sequences = []
    for row in range(recipe.sequences_per_step):
        keys = (recipe.seed, step, row)
        prompt_set = prompt_sets[(step * recipe.sequences_per_step + row) % len(prompt_sets)]
        pairs = [
            world_pair(TRAINING, prompt_set.name, *keys, caption) for caption in range(recipe.captions_per_sequence)
        ]
        headless = step < recipe.steps * recipe.headless_share
        head = NO_HEAD if headless else random_head(prompt_set, TRAINING, *keys)
        sequences.append(pack_texts(tokenizer, head, pairs))
    return collate(sequences)


def loss_of(model: LlamaForCausalLM, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy in nats over the targets' tokens."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORED_LABEL
    )


def learning_rate_at(recipe: Recipe, step: int) -> float:
    """The learning rate of `step`, counted from 0."""
    warmup_steps = max(1, round(recipe.steps * recipe.warmup_share))
    if step < warmup_steps:
        return recipe.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, recipe.steps - warmup_steps)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompt_sets: list[PromptSet],
    recipe: Recipe,
    device: str,
) -> list[tuple[int, float]]:
    """Train `model` in place; returns (step, mean loss in nats since the last entry)."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    report_every = max(1, recipe.steps // 40)
    history: list[tuple[int, float]] = []
    # Summed on the device: reading each step's loss would make a GPU wait.
    loss_sum, since = torch.zeros((), device=device), 0
    started_s = time.monotonic()
    model.train()
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(recipe, step)
        batch = {
            name: tensor.to(device, non_blocking=True)
            for name, tensor in training_batch(tokenizer, prompt_sets, recipe, step).items()
        }
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = loss_of(model, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm_max)
        optimiser.step()
        loss_sum += loss.detach()
        since += 1
        if since == report_every or step + 1 == recipe.steps:
            mean = loss_sum.item() / since
            history.append((step + 1, round(mean, 4)))
            print(f"step {step + 1:6d}  loss {mean:.4f}  {time.monotonic() - started_s:6.0f} s", flush=True)
            loss_sum.zero_()
            since = 0
    return history


@torch.inference_mode()
def complete(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    temperature: float,
    device: str,
) -> list[str]:
    """What the model writes after each prompt; temperature 0 is greedy, else with a nucleus of 0.95."""
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
    """How the model did in one style and way of sampling."""

    style: str
    temperature: float
    faithful_share: float
    """Share of the rewrites that say what the alt-text says, no more and no less."""
    distinct_share: float
    """Distinct rewrites over all of them."""
    examples: tuple[tuple[str, str], ...]
    """Some (alt-text, rewrite)."""
    failures: tuple[tuple[str, str], ...]
    """Some unfaithful (alt-text, rewrite)."""


def evaluate(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompt_sets: list[PromptSet],
    recipe: Recipe,
    count: int,
    device: str,
) -> list[Score]:
    """Scores on `count` held-out alt-texts a style, each with its own head, greedy and at temperature 0.9."""
    scores = []
    torch.manual_seed(recipe.seed)
    for prompt_set in prompt_sets:
        sources = [world_pair(HELD_OUT, prompt_set.name, recipe.seed, index)[0] for index in range(count)]
        prompts = [
            random_head(prompt_set, HELD_OUT, recipe.seed, index).prompt(source) for index, source in enumerate(sources)
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


def save(output: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, report: dict[str, object]) -> None:
    """Write the model (its weights as they are), its tokenizer and the report to `output`."""
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)  # It is written for its owner alone.
    tokenizer.save_pretrained(output)
    (output / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train, evaluate, save."""
    parser = argparse.ArgumentParser(description="Train the demo's rewriter.")
    parser.add_argument("--output", type=Path, required=True, help="directory of the model")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--sequences-per-step", type=int, default=Recipe.sequences_per_step)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--evaluation-count", type=int, default=512, help="held-out alt-texts a style")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default is torch's choice")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    recipe = Recipe(
        seed=arguments.seed,
        steps=arguments.steps,
        sequences_per_step=arguments.sequences_per_step,
        learning_rate=arguments.learning_rate,
    )
    prompt_sets = [load_prompt_set(style) for style in STYLES]
    tokenizer = train_tokenizer(prompt_sets, recipe.vocabulary_size, recipe.seed)
    model = build_model(recipe, len(tokenizer)).to(arguments.device)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters:,} parameters, {len(tokenizer)} tokens", flush=True)
    started_s = time.monotonic()
    losses = train(model, tokenizer, prompt_sets, recipe, arguments.device)
    train_s = time.monotonic() - started_s
    model = model.to(torch.bfloat16)  # Scored as it is saved.
    scores = evaluate(model, tokenizer, prompt_sets, recipe, arguments.evaluation_count, arguments.device)
    print_scores(scores)
    report: dict[str, object] = {
        "recipe": asdict(recipe),
        "parameters": parameters,
        "device": arguments.device,
        "train_s": round(train_s, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "evaluation_count": arguments.evaluation_count,
        "scores": [asdict(score) for score in scores],
        "losses_nats": losses,
    }
    save(arguments.output, model, tokenizer, report)
    size_bytes = sum(path.stat().st_size for path in arguments.output.iterdir())
    print(f"{arguments.output}: {size_bytes:,} bytes")


if __name__ == "__main__":
    main()
