"""Train the demo's rewriter.

    python -m laclip_ray.demo.train_rewriter --output laclip_ray/demo/rewriter --device cuda

`training.json` beside the model records how it was made and the share of faithful rewrites. Does not need Ray.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from laclip_ray.demo.language import STYLES
from laclip_ray.demo.train_rewriter.data import train_tokenizer
from laclip_ray.demo.train_rewriter.evaluation import evaluate, print_scores
from laclip_ray.demo.train_rewriter.training import Recipe, build_model, train
from laclip_ray.rewriting.prompting.prompts import load_prompt_set


def save(output: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, report: dict[str, object]) -> None:
    """Write the model (without changing the number format of its weights), its tokenizer and the report to `output`."""
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)  # written with mode 0600
    tokenizer.save_pretrained(output)
    (output / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train, evaluate and save the model."""
    parser = argparse.ArgumentParser(description="Train the demo's rewriter.")
    parser.add_argument("--output", type=Path, required=True, help="directory of the model")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--sequences-per-step", type=int, default=Recipe.sequences_per_step)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--evaluation-count", type=int, default=512, help="held-out alt-texts per style")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; torch chooses by default")
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
    model = model.to(torch.bfloat16)  # scored with the saved weights
    scores = evaluate(model, tokenizer, prompt_sets, recipe.seed, arguments.evaluation_count, arguments.device)
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
