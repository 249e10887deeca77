"""The other side of a ratio, as a process that answers JSON lines: `... -m tests.figures.rewriting_peers KIND CONFIG`.

`bare` is vLLM's engine alone, given prompts. `published` is what the LaCLIP authors' script does with each caption:
three random pairs, Hugging Face `generate`, static batches of 100, a fixed number of new tokens.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from laclip_ray.config import Experiment, load_experiment
from laclip_ray.config.rewriting import required_model
from laclip_ray.rewriting.engines.engine import VllmEngine
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads, load_llm_tokenizer
from laclip_ray.rewriting.prompting.completions import parse_completion
from laclip_ray.rewriting.prompting.prompts import choose_head, completion_head, load_prompt_set
from laclip_ray.rewriting.prompting.stops import COMPLETION_STOPS
from laclip_ray.rewriting.recipe import model_directory

BATCH = 100
_IN_FLIGHT = 1024


class Bare:
    """vLLM's `AsyncLLM` as the pipeline starts it, without the pipeline."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._set = load_prompt_set(experiment.rewrite.prompt_sets[0])
        name, rewrite = self._set.name, experiment.rewrite
        chosen = choose_heads(rewrite, {name: self._set}, experiment.seed, experiment.rewrite_output)
        self._heads = build_heads(rewrite, {name: self._set}, chosen)[name]
        self._engine: Any = VllmEngine(experiment.rewrite, experiment.seed)._engine

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Generate for the captions of a request, nothing cached at the start."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        rewrite = self._experiment.rewrite
        fixed = request.get("tokens")
        sampling = SamplingParams(
            temperature=rewrite.sampling.temperature,
            top_p=rewrite.sampling.top_p,
            max_tokens=fixed or rewrite.sampling.max_tokens,
            min_tokens=fixed or 0,
            ignore_eos=bool(fixed),
            stop=None if fixed else list(COMPLETION_STOPS),
            output_kind=RequestOutputKind.FINAL_ONLY,
            logprobs=0 if rewrite.log_probability else None,
            flat_logprobs=rewrite.log_probability,
        )
        captions = request["captions"]
        numbers = [choose_head(self._set.name, caption, rewrite.heads, self._experiment.seed) for caption in captions]
        await self._engine.reset_prefix_cache()
        order = sorted(range(len(captions)), key=numbers.__getitem__)
        waiting = iter(order)
        prompts = [self._heads[head].prompt(caption) for head, caption in zip(numbers, captions, strict=True)]
        cached: dict[int, int] = {}

        async def work() -> None:
            for number in waiting:
                async for output in self._engine.generate(prompts[number], sampling, f"{time.monotonic_ns()}-{number}"):
                    cached[number] = output.num_cached_tokens or 0

        started_s = time.monotonic()
        await asyncio.gather(*(work() for _ in range(min(_IN_FLIGHT, len(prompts)))))
        answer: dict[str, Any] = {"seconds": time.monotonic() - started_s}
        if request.get("by_head"):
            answer |= self._cached_share(order, numbers, cached)
        return answer

    def _cached_share(self, order: Sequence[int], heads: Sequence[int], cached: dict[int, int]) -> dict[str, Any]:
        tokenizer = load_llm_tokenizer(self._experiment.rewrite)
        block = self._engine.vllm_config.cache_config.block_size
        whole = [len(tokenizer.encode(head.before)) // block * block for head in self._heads]
        seen: set[int] = set()
        found = possible = 0
        for number in order:
            head = heads[number]
            if head in seen:
                found += min(cached[number], whole[head])
                possible += whole[head]
            seen.add(head)
        return {"block_size": block, "cached_share": found / possible}


class Published:
    """Hugging Face's `generate` in static batches."""

    def __init__(self, experiment: Experiment) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._pairs = load_prompt_set(experiment.rewrite.prompt_sets[0]).pairs
        self._sampling = experiment.rewrite.sampling
        self._tokenizer = load_llm_tokenizer(experiment.rewrite)
        self._tokenizer.padding_side = "left"
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(
            model_directory(required_model(experiment.rewrite)), dtype=torch.bfloat16
        ).eval()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Generate for the captions of a request."""
        import torch

        choice = random.Random(request["seed"])
        torch.manual_seed(request["seed"])
        texts: list[tuple[str, bool]] = []
        started_s = time.monotonic()
        for start in range(0, len(request["captions"]), BATCH):
            prompts = [
                completion_head(tuple(choice.sample(self._pairs, 3))).prompt(caption)
                for caption in request["captions"][start : start + BATCH]
            ]
            given = self._tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
            with torch.no_grad():
                made = self._model.generate(
                    **given, do_sample=True, temperature=self._sampling.temperature, top_p=self._sampling.top_p,
                    max_new_tokens=request["tokens"], min_new_tokens=request["tokens"],
                    pad_token_id=self._tokenizer.pad_token_id,
                )  # fmt: skip
            written = self._tokenizer.batch_decode(made[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
            texts.extend((parse_completion(text), "\n" not in text.strip()) for text in written)
        return {"seconds": time.monotonic() - started_s, "texts": texts}


async def main() -> None:
    """Answer until standard input ends."""
    kind, config = sys.argv[1:]
    experiment = load_experiment(config, [])
    side = Bare(experiment) if kind == "bare" else Published(experiment)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await side.answer(json.loads(line))), flush=True)
    if isinstance(side, Bare):
        side._engine.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
