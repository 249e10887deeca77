"""What rewriting costs: the price list, an estimate before a run, and the spending that a budget limits.

The estimate counts the tokens of real prompts for a sample of the captions with the model's own tokenizer, and turns
them into GPU-hours by a throughput: that which an earlier run into the same output measured, else that which the
price list assumes. It needs no GPU, and starts neither Ray nor an engine.

Guarantees: an estimate is a function of the data, the configuration and the price list; the sample is drawn by hash.
Everything that is assumed rather than counted is named in the estimate's notes.

Not covered: the time to start engines and to read data, engines that wait for work, and quantised or
mixture-of-experts models, which are taken for dense bf16.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig, Experiment, RewriteConfig
from laclip_ray.data.records import NO_CAPTION, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.engine import build_heads, load_llm_tokenizer
from laclip_ray.rewriting.prices import PriceList, Spending, check_budget, load_prices, spending
from laclip_ray.rewriting.prompts import Head, PromptSet, choose_head, load_prompt_set
from laclip_ray.rewriting.recipe import model_directory

SAMPLED_SHARDS = 8

SAMPLED_CAPTIONS = 400
"""The mean of a few hundred caption lengths is known to a few per cent, which no other assumption here is."""

REJECTED_SHARE = 0.1
"""Share of draws that the gate is assumed to reject and have drawn again; a run's summary has the true one."""

DEFAULT_BLOCK_TOKENS = 16
"""vLLM's cache block on a GPU where `rewrite.engine.args.block_size` does not set it; only whole blocks are shared."""

SMALLEST_BILLION_PARAMETERS = 1.0
"""Smaller models are not faster than one of this size: the engine's own work for each request bounds them."""

BF16_BYTES = 2

USABLE_MEMORY_SHARE = 0.85
"""What weights may take of a GPU's memory for an engine to have room for a useful number of requests."""


@dataclass(frozen=True)
class SetTokens:
    """What one prompt set is expected to take."""

    prompt_set: str
    requests: int
    """Prompts that an engine is sent: each distinct caption of a shard, and those drawn again."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens that the prefix cache holds: the whole blocks of the head."""
    output_tokens: int
    """Assumed, see `expansion`."""
    expansion: float
    """Output tokens for a token of the caption: targets over sources of the set's pairs, by the model's tokenizer."""

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that the engine computes."""
        return self.prompt_tokens - self.cached_tokens


@dataclass(frozen=True)
class Cost:
    """What all of the rewriting is expected to cost on one kind of GPU."""

    name: str
    """The name of the price, or `as measured`."""
    accelerator: str | None
    gpu_hours: float
    money: float | None
    fits: bool
    """Whether the weights leave an engine room for requests, as far as the model's size is known."""


@dataclass(frozen=True)
class Estimate:
    """What rewriting with an experiment is expected to take."""

    model: str
    billion_parameters: float | None
    """None where the model's configuration does not tell."""
    shards: int
    captions: int
    """Rows of the data set."""
    captions_are_counted: bool
    """Whether `captions` is known, or taken from the shards that were read."""
    shards_read: int
    captions_read: int
    captions_sampled: int
    """Captions whose tokens were counted."""
    distinct_share: float
    """Captions of the shards read that are usable and the first of their text in the shard: the rest costs nothing."""
    sets: tuple[SetTokens, ...]
    costs: tuple[Cost, ...]
    currency: str
    measured: bool
    """Whether the throughput is that of an earlier run."""
    spent: Spending
    """By earlier runs into the same output."""
    notes: tuple[str, ...]
    """What is assumed, and what follows for the budget."""


@dataclass(frozen=True)
class CaptionSample:
    """Captions of a few shards."""

    shards: int
    """Shards that were read, all of their rows."""
    rows: int
    distinct: int
    """Usable captions, each counted once a shard."""
    captions: tuple[tuple[str, str], ...]
    """(id, caption) of some of the distinct ones."""


@dataclass(frozen=True)
class Measured:
    """What the runs into an output have measured so far."""

    gpu_hours: float
    computed_tokens: int
    output_tokens: int


def estimate_rewriting(experiment: Experiment) -> Estimate:
    """What rewriting the whole data set with `experiment` takes in tokens, GPU-hours and money.

    Raises:
        UserError: the data, a prompt set, the price list or the model's tokenizer cannot be read.
    """
    rewrite = experiment.rewrite
    check_budget(rewrite)
    prices = load_prices(rewrite.prices)
    prompt_sets = [load_prompt_set(name) for name in rewrite.prompt_sets]
    tokenizer, billions = load_llm_tokenizer(rewrite), _load_size(rewrite)
    heads = build_heads(rewrite, prompt_sets, experiment.seed)
    shards = list_shards(experiment.data)
    sample = sample_captions(shards, experiment.data, rewrite, experiment.seed)
    captions = count_captions(shards, sample)
    distinct_share = sample.distinct / sample.rows if sample.rows else 0.0
    sets = tuple(
        count_set(
            each, heads[each.name], sample.captions, captions * distinct_share, rewrite, experiment.seed, tokenizer
        )
        for each in prompt_sets
    )
    measured, notes = _measured(experiment, [each.name for each in prompt_sets])
    costs = price_tokens(sets, rewrite, prices, billions, measured)
    return Estimate(
        model=rewrite.model,
        billion_parameters=billions,
        shards=len(shards),
        captions=captions,
        captions_are_counted=sample.shards == len(shards) or all(shard.row_count is not None for shard in shards),
        shards_read=sample.shards,
        captions_read=sample.rows,
        captions_sampled=len(sample.captions),
        distinct_share=distinct_share,
        sets=sets,
        costs=costs,
        currency=prices.currency,
        measured=measured is not None,
        spent=spending(measured.gpu_hours if measured else 0.0, rewrite),
        notes=(*notes, *_assumptions(sets, rewrite, prices, billions, measured), *_limits(costs, rewrite)),
    )


def sample_captions(
    shards: Sequence[Shard],
    data: DataConfig,
    rewrite: RewriteConfig,
    seed: int,
    shard_count: int = SAMPLED_SHARDS,
    caption_count: int = SAMPLED_CAPTIONS,
) -> CaptionSample:
    """Captions drawn by hash from shards drawn by hash; the shards are read whole, without images.

    Only captions that would be rewritten are drawn, each text once a shard, as rewriting has it.

    Raises:
        UserError: a shard cannot be read.
    """
    chosen = heapq.nsmallest(shard_count, shards, key=lambda shard: hash64("estimate_shard", seed, shard.name))

    def read(shard: Shard) -> tuple[int, list[tuple[int, str, str]]]:
        rows = 0
        first_of: dict[str, str] = {}  # caption to the id of its first sample
        try:
            for sample in read_samples(shard, data, with_images=False):
                rows += 1
                usable = not NO_CAPTION.intersection(sample.problems)
                if usable and len(sample.caption) <= rewrite.max_caption_characters:
                    first_of.setdefault(sample.caption, sample.id)
        except (OSError, ValueError) as error:
            raise UserError(f"data.path: {shard.url} cannot be read: {error}") from error
        return rows, [
            (hash64("estimate_caption", seed, shard.name, sample_id), sample_id, caption)
            for caption, sample_id in first_of.items()
        ]

    with ThreadPoolExecutor(max(len(chosen), 1)) as pool:  # waits for storage, mostly
        parts = list(pool.map(read, chosen))
    drawn = heapq.nsmallest(caption_count, (entry for _, entries in parts for entry in entries))
    return CaptionSample(
        shards=len(chosen),
        rows=sum(rows for rows, _ in parts),
        distinct=sum(len(entries) for _, entries in parts),
        captions=tuple((sample_id, caption) for _, sample_id, caption in drawn),
    )


def count_captions(shards: Sequence[Shard], sample: CaptionSample) -> int:
    """Rows of all shards; a shard that does not tell (a tar) is taken to have as many as those that were read."""
    known = sum(shard.row_count for shard in shards if shard.row_count is not None)
    unknown = sum(1 for shard in shards if shard.row_count is None)
    return known + round(unknown * sample.rows / sample.shards) if unknown else known


def expected_redraws(rewrite: RewriteConfig) -> tuple[float, float]:
    """Further prompts, and further draws, for each caption, if the gate rejects `REJECTED_SHARE` of all draws.

    The draws of a caption that were rejected are asked for together. Greedy draws are all the same, and not repeated.
    """
    rounds = range(1, (rewrite.redraws if rewrite.sampling.temperature else 0) + 1)
    wanted = rewrite.rewrites_per_set
    prompts = sum(1 - (1 - REJECTED_SHARE**number) ** wanted for number in rounds)
    return prompts, sum(wanted * REJECTED_SHARE**number for number in rounds)


def count_set(
    prompt_set: PromptSet,
    heads: Sequence[Head],
    captions: Sequence[tuple[str, str]],
    captions_in_all: float,
    rewrite: RewriteConfig,
    seed: int,
    tokenizer: Any,
) -> SetTokens:
    """The tokens of one prompt set, from those of sampled captions.

    Args:
        prompt_set: the set.
        heads: its heads.
        captions: (id, caption) of the sample.
        captions_in_all: how many captions the sample stands for.
        rewrite: the configuration.
        seed: the experiment's.
        tokenizer: a transformers tokenizer.
    """
    # A chat template writes its special tokens itself; to other prompts the engine's tokenizer adds its own.
    special = rewrite.mode == "completion"
    block = int(rewrite.engine.args.get("block_size") or DEFAULT_BLOCK_TOKENS)
    head_of = [choose_head(prompt_set.name, sample_id, len(heads), seed) for sample_id, _ in captions]
    used = sorted(set(head_of))
    # What two prompts of a head share, by tokens: a tokenizer may join a head's last characters with the caption's.
    probes = [_token_ids(tokenizer, [heads[head].prompt(word) for word in ("a", "7")], special) for head in used]
    cacheable_of = {
        head: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*probe, strict=False))) // block * block
        for head, probe in zip(used, probes, strict=True)
    }
    prompts = _token_ids(
        tokenizer, [heads[head].prompt(caption) for head, (_, caption) in zip(head_of, captions, strict=True)], special
    )
    expansion = _token_count(tokenizer, (pair.target for pair in prompt_set.pairs)) / _token_count(
        tokenizer, (pair.source for pair in prompt_set.pairs)
    )
    lengths = [len(ids) for ids in _token_ids(tokenizer, [" ".join(text.split()) for _, text in captions], False)]
    # One more: the line break or end token that ends a rewrite is generated too.
    outputs = [min(rewrite.sampling.max_tokens, expansion * length + 1) for length in lengths]
    prompts_again, draws_again = expected_redraws(rewrite)
    requests = captions_in_all * (1 + prompts_again)
    cacheable = _mean(cacheable_of[head] for head in head_of)
    # Every engine computes every head once before it can share it.
    shared = max(requests - len(heads) * rewrite.engine.actors.max, 0.0)
    return SetTokens(
        prompt_set=prompt_set.name,
        requests=round(requests),
        prompt_tokens=round(requests * _mean(map(len, prompts))),
        cached_tokens=round(shared * cacheable),
        output_tokens=round(captions_in_all * (rewrite.rewrites_per_set + draws_again) * _mean(outputs)),
        expansion=expansion,
    )


def price_tokens(
    sets: Sequence[SetTokens],
    rewrite: RewriteConfig,
    prices: PriceList,
    billion_parameters: float | None,
    measured: Measured | None,
) -> tuple[Cost, ...]:
    """GPU-hours and money for the tokens: at `rewrite.price`, else at every price of the list.

    A measured throughput is that of the GPUs it was measured on, so that there is one row then.
    """
    computed, output = sum(each.computed_tokens for each in sets), sum(each.output_tokens for each in sets)
    if measured is not None:
        price = prices.price(rewrite.price) if rewrite.price else None
        # The kind of GPU only decides how many prompt tokens an output token is worth.
        accelerator = prices.accelerators[price.accelerator] if price else next(iter(prices.accelerators.values()))
        gpu_s = accelerator.gpu_s(measured.computed_tokens, measured.output_tokens)
        hours = measured.gpu_hours * accelerator.gpu_s(computed, output) / gpu_s
        money = hours * price.per_gpu_hour if price else None
        return (Cost(rewrite.price or "as measured", price.accelerator if price else None, hours, money, True),)
    size = billion_parameters or prices.reference_billion_parameters
    slower = max(size, SMALLEST_BILLION_PARAMETERS) / prices.reference_billion_parameters
    costs = []
    for name in [rewrite.price] if rewrite.price else prices.prices:
        price = prices.price(name)
        accelerator = prices.accelerators[price.accelerator]
        hours = accelerator.gpu_s(computed, output) * slower / 3_600
        memory_gb = accelerator.memory_gb * rewrite.engine.tensor_parallel_size
        fits = billion_parameters is None or billion_parameters * BF16_BYTES <= USABLE_MEMORY_SHARE * memory_gb
        costs.append(Cost(name, price.accelerator, hours, hours * price.per_gpu_hour, fits))
    return tuple(costs)


def billion_parameters_of(model_config: Any) -> float | None:
    """Size of a dense decoder from its transformers configuration; None where that does not tell."""
    text = model_config.get_text_config()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    values = [getattr(text, name, None) for name in names]
    experts = any(getattr(text, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    if experts or not all(isinstance(value, int) for value in values):
        return None
    hidden, intermediate, layers, attention_heads, vocabulary = (int(value) for value in values if value is not None)
    head_size = getattr(text, "head_dim", None) or hidden // attention_heads
    key_value_heads = getattr(text, "num_key_value_heads", None) or attention_heads
    attention = 2 * hidden * head_size * (attention_heads + key_value_heads)
    feed_forward = 3 * hidden * intermediate
    embeddings = vocabulary * hidden * (1 if getattr(text, "tie_word_embeddings", False) else 2)
    return (layers * (attention + feed_forward) + embeddings) / 1e9


def _load_size(rewrite: RewriteConfig) -> float | None:
    """The model's size in billions of parameters, where its configuration can be read and tells."""
    from transformers import AutoConfig

    try:
        model_config = AutoConfig.from_pretrained(model_directory(rewrite.model), revision=rewrite.revision)
    except (OSError, ValueError):  # an architecture that this transformers does not know
        return None
    return billion_parameters_of(model_config)


def _token_ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    if not texts:
        return []
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
    return found


def _token_count(tokenizer: Any, texts: Iterable[str]) -> int:
    return sum(map(len, _token_ids(tokenizer, list(texts), False)))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0


def _measured(experiment: Experiment, set_names: Sequence[str]) -> tuple[Measured | None, list[str]]:
    """What earlier runs into this output measured, and a note where they do not count."""
    place = experiment.rewrite_output
    url = storage.join(place, "summary.json")
    if not storage.exists(url):
        return None, []
    measured = measured_in(storage.read_json(url))
    if measured is None:
        return None, [f"{url} has no GPU-hours: the throughput is assumed"]
    for name in set_names:
        recipe_url = storage.join(place, name, "recipe.json")
        if storage.exists(recipe_url):
            before = storage.read_json(recipe_url).get("recipe", {}).get("model")
            if before != experiment.rewrite.model:
                return None, [f"{place} holds rewrites of another model ({before}): the throughput is assumed"]
    return measured, []


def measured_in(summary: Mapping[str, Any]) -> Measured | None:
    """What a run's `summary.json` has measured; None before any tokens and GPU-hours."""
    counts = list(summary.get("prompt_sets", {}).values())
    prompt, cached, output = (
        sum(int(each.get(name, 0)) for each in counts) for name in ("prompt_tokens", "cached_tokens", "output_tokens")
    )
    gpu_hours = float(summary.get("gpu_hours") or 0.0)
    if gpu_hours <= 0 or output <= 0:
        return None
    return Measured(gpu_hours, max(prompt - cached, 0), output)


def _assumptions(
    sets: Sequence[SetTokens],
    rewrite: RewriteConfig,
    prices: PriceList,
    billion_parameters: float | None,
    measured: Measured | None,
) -> list[str]:
    """What the estimate rests on, most important first."""
    notes = []
    if measured is not None:
        notes.append(
            f"throughput: measured, {measured.gpu_hours:.2f} GPU-hours for {measured.output_tokens:,} output tokens by "
            "the runs into this output (the start of engines included)"
        )
    else:
        size = "of unknown size, taken for" if billion_parameters is None else "scaled by size from"
        notes.append(
            f"throughput: assumed, not measured; the list's rates, {size} a dense bf16 model of "
            f"{prices.reference_billion_parameters:g} billion parameters. Rewrite a few shards and estimate again"
        )
    expansions = ", ".join(f"{each.expansion:.2f} ({each.prompt_set})" for each in sets)
    notes.append(
        f"output tokens: assumed, tokens for each of the caption's as in the sets' pairs: {expansions}; at most "
        f"{rewrite.sampling.max_tokens}"
    )
    if rewrite.redraws and rewrite.sampling.temperature:
        notes.append(f"draws rejected and drawn again: assumed, {REJECTED_SHARE:.0%} of each round")
    return notes


def _limits(costs: Sequence[Cost], rewrite: RewriteConfig) -> list[str]:
    """What follows from the estimate for the run."""
    notes = []
    gpus = rewrite.engine.actors.max * rewrite.engine.tensor_parallel_size
    if len(costs) == 1 and gpus > 1:
        notes.append(f"time: {costs[0].gpu_hours / gpus:.1f} h where all {gpus} GPUs work all of the time")
    if any(not cost.fits for cost in costs):
        notes.append(
            f"does not fit: bf16 weights would take more than {USABLE_MEMORY_SHARE:.0%} of an engine's memory; use "
            "another GPU, rewrite.engine.tensor_parallel_size, or quantisation"
        )
    for cost in costs if len(costs) == 1 else ():
        for name, limit, needed in (
            ("gpu_hours", rewrite.budget.gpu_hours, cost.gpu_hours),
            ("money", rewrite.budget.money, cost.money),
        ):
            if limit is not None and needed is not None and needed > limit:
                notes.append(f"rewrite.budget.{name} ({limit:g}) is reached after about {limit / needed:.0%} of it")
    return notes
