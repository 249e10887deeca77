"""The demo's rewriter as a model: its hyperparameters, batches, loss and training loop.

Guarantees: the batches and the initial weights are functions of the seed. On a CPU the trained weights are too.
Not covered: bit-equal results on a GPU.
"""

import math
import time
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from laclip_ray.demo.train_rewriter.data import (
    IGNORED_LABEL,
    NO_HEAD,
    POSITIONS_MAX,
    TRAINING,
    collate,
    pack_texts,
    random_head,
    world_pair,
)
from laclip_ray.rewriting.prompting.prompts import PromptSet


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained model, except for the device."""

    seed: int = 0
    """Decides the data and the initial weights."""
    steps: int = 3000
    """Optimiser steps."""
    sequences_per_step: int = 4
    """Packed sequences in a step, each with one head."""
    captions_per_sequence: int = 24
    """Alt-texts that share a head."""
    learning_rate: float = 2e-3
    """Peak learning rate. It rises linearly, then falls as a cosine to a hundredth."""
    headless_share: float = 0.25
    """Share of the steps, at the start, whose prompts have no head. Without other text before the alt-text, the model
    learns much sooner to copy facts from it."""
    warmup_share: float = 0.05
    """Share of the steps during which the learning rate rises."""
    weight_decay: float = 0.05
    """AdamW's weight decay, on matrices only."""
    gradient_norm_max: float = 1.0
    """Clip the gradient to this norm."""
    vocabulary_size: int = 1280
    """Number of tokens, including the end token."""
    hidden_size: int = 128
    """Width of the model. Attention heads are 32 wide."""
    layers: int = 6
    """Number of transformer blocks."""
    feed_forward_size: int = 384
    """Inner width of a block's feed-forward part."""


def build_model(recipe: Recipe, vocabulary_size: int) -> LlamaForCausalLM:
    """Build the untrained model. Its weights are a function of the seed."""
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


def training_batch(
    tokenizer: PreTrainedTokenizerFast, prompt_sets: list[PromptSet], recipe: Recipe, step: int
) -> dict[str, torch.Tensor]:
    """Build the batch of `step`, as a function of the seed and the step. Styles take turns."""
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
    """Mean cross-entropy over the targets' tokens, in nats."""
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
    """Train `model` in place.

    Returns:
        (step, mean loss since the last entry in nats), about 40 times.
    """
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    report_every = max(1, recipe.steps // 40)
    history: list[tuple[int, float]] = []
    # The sum stays on the device, because reading each step's loss would stall a GPU.
    loss_sum, steps_since = torch.zeros((), device=device), 0
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
        steps_since += 1
        if steps_since == report_every or step + 1 == recipe.steps:
            mean = loss_sum.item() / steps_since
            history.append((step + 1, round(mean, 4)))
            print(f"step {step + 1:6d}  loss {mean:.4f}  {time.monotonic() - started_s:6.0f} s", flush=True)
            loss_sum.zero_()
            steps_since = 0
    return history
