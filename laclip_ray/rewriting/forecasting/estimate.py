"""Estimate what rewriting a dataset will take in tokens, GPU-hours and money; needs neither a GPU, Ray nor an engine.

`token_counts` counts the tokens. A throughput turns them into GPU-hours: the throughput that an earlier run into the
same output measured, else the assumption of the price list.

Guarantees: an estimate is a function of the data, the configuration and the price list. Its notes name every
assumption.

Not covered: the time to start engines and to read data, idle engines, and quantised or mixture-of-experts models, which
are treated as dense bf16 models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, RewriteConfig
from laclip_ray.config.rewriting import required_model
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads, load_llm_tokenizer
from laclip_ray.rewriting.forecasting.token_counts import (
    REJECTED_SHARE,
    SetTokens,
    count_captions,
    count_set,
    sample_captions,
)
from laclip_ray.rewriting.prices import PriceList, Spending, check_budget, load_prices, spending
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from laclip_ray.rewriting.recipe import model_directory
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE, read_recipe

SMALLEST_BILLION_PARAMETERS = 1.0
"""Smaller models are assumed to be as fast as this size: the engine's own work per request limits them."""

BF16_BYTES = 2

USABLE_MEMORY_SHARE = 0.85
"""Share of a GPU's memory that weights may take. The rest must hold the keys and values of enough requests."""


@dataclass(frozen=True)
class Cost:
    """Expected cost of the whole rewriting on one kind of GPU."""

    name: str
    """Name of the price, or `as measured`."""
    accelerator: str | None
    gpu_hours: float
    money: float | None
    fits: bool
    """Whether the weights leave an engine enough memory for requests. True if the model's size is unknown."""


@dataclass(frozen=True)
class Estimate:
    """Expected effort of rewriting with an experiment."""

    model: str
    billion_parameters: float | None
    """None if the model's configuration does not give its size."""
    shards: int
    captions: int
    """Rows of the dataset."""
    captions_are_counted: bool
    """Whether `captions` is exact. If not, it is extrapolated from the sampled shards."""
    shards_read: int
    captions_read: int
    captions_sampled: int
    """Captions whose tokens were counted."""
    distinct_share: float
    """Share of the captions read that will be rewritten: usable, and the first of equal captions in the shard."""
    sets: tuple[SetTokens, ...]
    costs: tuple[Cost, ...]
    currency: str
    measured: bool
    """Whether the throughput was measured by an earlier run."""
    spent: Spending
    """Spending of earlier runs into the same output."""
    notes: tuple[str, ...]
    """Assumptions, and consequences for the budget."""


@dataclass(frozen=True)
class Measured:
    """Totals that the runs into an output have measured so far."""

    gpu_hours: float
    computed_tokens: int
    output_tokens: int


def estimate_rewriting(experiment: Experiment) -> Estimate:
    """Estimate the tokens, GPU-hours and money of rewriting the whole dataset with `experiment`.

    Raises:
        UserError: no model is set, or the data, a prompt set, the price list or the model's tokenizer cannot be read.
    """
    rewrite, seed = experiment.rewrite, experiment.seed
    model = required_model(rewrite)
    check_budget(rewrite)
    prices = load_prices(rewrite.prices)
    prompt_sets = {prompt_set.name: prompt_set for prompt_set in map(load_prompt_set, rewrite.prompt_sets)}
    tokenizer, billions = load_llm_tokenizer(rewrite), load_size(rewrite)
    heads = build_heads(rewrite, prompt_sets, choose_heads(rewrite, prompt_sets, seed, experiment.rewrite_output))
    shards = list_shards(experiment.data, index=beside(experiment.output))
    sample = sample_captions(shards, experiment.data, rewrite, seed)
    captions = count_captions(shards, sample)
    distinct_share = sample.distinct / sample.rows if sample.rows else 0.0
    distinct_captions = captions * distinct_share
    sets = tuple(
        count_set(prompt_set, heads[name], sample.captions, distinct_captions, rewrite, seed, tokenizer)
        for name, prompt_set in prompt_sets.items()
    )
    measured, measurement_notes = _measured_before(experiment.rewrite_output, model, list(prompt_sets))
    costs = price_tokens(sets, rewrite, prices, billions, measured)
    return Estimate(
        model=model,
        billion_parameters=billions,
        shards=len(shards),
        captions=captions,
        captions_are_counted=sample.shards == len(shards) or sample.rows == sample.listed_rows,
        shards_read=sample.shards,
        captions_read=sample.rows,
        captions_sampled=len(sample.captions),
        distinct_share=distinct_share,
        sets=sets,
        costs=costs,
        currency=prices.currency,
        measured=measured is not None,
        spent=spending(measured.gpu_hours if measured else 0.0, rewrite),
        notes=(
            *measurement_notes,
            *_assumptions(sets, rewrite, prices, billions, measured),
            *consequences(costs, rewrite),
        ),
    )


def price_tokens(
    sets: Sequence[SetTokens],
    rewrite: RewriteConfig,
    prices: PriceList,
    billion_parameters: float | None,
    measured: Measured | None,
) -> tuple[Cost, ...]:
    """Turn tokens into GPU-hours and money, at `rewrite.price` or else at every price of the list.

    A measured throughput belongs to the GPUs of that run, so it gives a single cost.
    """
    computed, output = sum(tokens.computed_tokens for tokens in sets), sum(tokens.output_tokens for tokens in sets)
    if measured is not None:
        price = prices.price(rewrite.price) if rewrite.price else None
        # The kind of GPU only decides how many prompt tokens an output token is worth.
        accelerator = prices.accelerators[price.accelerator] if price else next(iter(prices.accelerators.values()))
        gpu_s = accelerator.gpu_s(measured.computed_tokens, measured.output_tokens)
        hours = measured.gpu_hours * accelerator.gpu_s(computed, output) / gpu_s
        money = hours * price.per_gpu_hour if price else None
        return (Cost(rewrite.price or "as measured", price.accelerator if price else None, hours, money, True),)
    size = billion_parameters or prices.reference_billion_parameters
    slowdown = max(size, SMALLEST_BILLION_PARAMETERS) / prices.reference_billion_parameters
    costs = []
    for name in [rewrite.price] if rewrite.price else prices.prices:
        price = prices.price(name)
        accelerator = prices.accelerators[price.accelerator]
        hours = accelerator.gpu_s(computed, output) * slowdown / 3_600
        memory_gb = accelerator.memory_gb * rewrite.engine.tensor_parallel_size
        fits = billion_parameters is None or billion_parameters * BF16_BYTES <= USABLE_MEMORY_SHARE * memory_gb
        costs.append(Cost(name, price.accelerator, hours, hours * price.per_gpu_hour, fits))
    return tuple(costs)


def billion_parameters_of(model_config: Any) -> float | None:
    """Size of a dense decoder, from its transformers configuration. None if the configuration does not give it."""
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


def load_size(rewrite: RewriteConfig) -> float | None:
    """The model's size in billions of parameters. None if its configuration cannot be read or does not give it."""
    from transformers import AutoConfig

    try:
        model_config = AutoConfig.from_pretrained(model_directory(required_model(rewrite)), revision=rewrite.revision)
    except (OSError, ValueError):  # ValueError: this transformers does not know the architecture
        return None
    return billion_parameters_of(model_config)


def _measured_before(output: str, model: str, set_names: Sequence[str]) -> tuple[Measured | None, list[str]]:
    """Read the measurements of earlier runs into `output`, or a note on why they do not count."""
    url = storage.join(output, "summary.json")
    if not storage.exists(url):
        return None, []
    try:
        measured = storage.read_state(url, "the summary", "The throughput is assumed.", measured_in)
    except UserError as error:
        return None, [str(error)]
    if measured is None:
        return None, [f"{url} has no GPU-hours: the throughput is assumed"]
    for name in set_names:
        location = storage.join(output, name)
        if storage.exists(storage.join(location, RECIPE_FILE)):
            earlier_model = read_recipe(location, lambda content: content["recipe"]["model"])
            if earlier_model != model:
                return None, [f"{output} holds rewrites of another model ({earlier_model}): the throughput is assumed"]
    return measured, []


def measured_in(summary: Mapping[str, Any]) -> Measured | None:
    """Extract the measurements from a run's `summary.json`. None before the first tokens and GPU-hours."""
    counts = list(summary.get("prompt_sets", {}).values())
    prompt, cached, output = (
        sum(int(count.get(name, 0)) for count in counts) for name in ("prompt_tokens", "cached_tokens", "output_tokens")
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
    """The assumptions of the estimate, most important first."""
    notes = []
    if measured is not None:
        notes.append(
            f"throughput: measured, {measured.gpu_hours:.2f} GPU-hours for {measured.output_tokens:,} output tokens by "
            "the runs into this output (engine start-up included)"
        )
    else:
        size = "of unknown size, taken for" if billion_parameters is None else "scaled by size from"
        notes.append(
            f"throughput: assumed, not measured; the list's rates, {size} a dense bf16 model with "
            f"{prices.reference_billion_parameters:g} billion parameters. Rewrite a few shards and estimate again"
        )
    expansions = ", ".join(f"{tokens.expansion:.2f} ({tokens.prompt_set})" for tokens in sets)
    notes.append(
        f"output tokens: assumed, tokens per caption token as in the sets' example pairs: {expansions}; at most "
        f"{rewrite.sampling.max_tokens}"
    )
    if rewrite.redraws and rewrite.sampling.temperature:
        notes.append(f"redraws: assumed, the gate rejects {REJECTED_SHARE:.0%} of the draws of each round")
    return notes


def consequences(costs: Sequence[Cost], rewrite: RewriteConfig) -> list[str]:
    """What expected costs mean for the run: its duration, memory and budget, as sentences."""
    notes = []
    gpus = rewrite.engine.actors.max * rewrite.engine.tensor_parallel_size
    if len(costs) == 1 and gpus > 1:
        notes.append(f"time: {costs[0].gpu_hours / gpus:.1f} h if all {gpus} GPUs are busy all the time")
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
