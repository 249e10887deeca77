"""What rewriting the whole dataset will take at a preview's rate, in time, GPU-hours and money.

The tokens of the sampled captions stand for all captions, and the arithmetic is the estimate's. One number is
corrected: in a preview most requests are the first with their prompt head, and a long run finds the heads in the prefix
cache.

Not covered: engine start-up, and an engine that the few requests of a preview do not fill. On a GPU a run is faster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from laclip_ray.rewriting.engines.arguments import has_gpu
from laclip_ray.rewriting.engines.heads import load_llm_tokenizer
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.forecasting.estimate import Cost, Measured, consequences, load_size, price_tokens
from laclip_ray.rewriting.forecasting.preview import Preview, PreviewPlan
from laclip_ray.rewriting.forecasting.token_counts import SetTokens, count_captions, count_set
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.rewriting.running.pipeline import configured_gpus

_SECONDS_PER_HOUR = 3_600


@dataclass(frozen=True)
class Forecast:
    """The whole dataset at a preview's rate."""

    captions: int
    """Samples of the dataset."""
    captions_are_counted: bool
    """Whether `captions` is exact."""
    to_rewrite: int
    """Captions among them that an engine is asked for."""
    sets: tuple[SetTokens, ...]
    """Requests and tokens by prompt set."""
    cached_share: float
    """Expected share of prompt tokens from the prefix cache."""
    engine_hours: float
    """Of one engine like the preview's."""
    costs: tuple[Cost, ...]
    currency: str
    costs_are_measured: bool
    """Whether `costs` are at the preview's rate. If not, at the assumed rates of the price list: there is no GPU."""
    notes: tuple[str, ...]


def forecast(plan: PreviewPlan, preview: Preview) -> Forecast:
    """Extend a preview to the whole dataset.

    Raises:
        UserError: the price list or the model's tokenizer cannot be read.
    """
    rewrite, sample = plan.rewrite, preview.sample
    captions = count_captions(plan.shards, sample)
    to_rewrite = captions * sample.distinct / sample.rows
    tokenizer = load_llm_tokenizer(rewrite)
    sets = tuple(
        extend(
            preview.work[name],
            to_rewrite / len(sample.captions),
            count_set(prompt_set, plan.heads[name], sample.captions, to_rewrite, rewrite, plan.seed, tokenizer),
        )
        for name, prompt_set in plan.prompt_sets.items()
    )
    prices = load_prices(rewrite.prices)
    size = load_size(rewrite)
    gpus = gpus_per_engine(plan) if has_gpu() else 0.0
    # The price list's GPU decides only how much longer an output token takes than a computed prompt token.
    (of_engine,) = price_tokens(sets, rewrite, prices, size, measured(preview, 1.0))
    costs = price_tokens(sets, rewrite, prices, size, measured(preview, gpus) if gpus else None)
    prompt_tokens = sum(tokens.prompt_tokens for tokens in sets)
    cached_share = sum(tokens.cached_tokens for tokens in sets) / prompt_tokens if prompt_tokens else 0.0
    return Forecast(
        captions=captions,
        captions_are_counted=sample.shards == len(plan.shards) or sample.rows == sample.listed_rows,
        to_rewrite=round(to_rewrite),
        sets=sets,
        cached_share=cached_share,
        engine_hours=of_engine.gpu_hours,
        costs=costs,
        currency=prices.currency,
        costs_are_measured=bool(gpus),
        notes=(*_notes(plan, preview.work, cached_share, gpus), *consequences(costs, rewrite)),
    )


def gpus_per_engine(plan: PreviewPlan) -> float:
    """GPUs of an engine on a machine with GPUs."""
    configured = configured_gpus(plan.rewrite.engine)
    return 1.0 if configured is None else configured


def extend(work: EngineWork, factor: float, expected: SetTokens) -> SetTokens:
    """The requests and tokens of a prompt set for all captions.

    Args:
        work: the engine's, for the sample.
        factor: captions to rewrite for each caption of the sample.
        expected: the estimate for all captions, which knows what the prefix cache will hold. It counts no redraws,
            which find their whole prompt, so a run of few captions has at least the share of the preview.
    """
    here = work.cached_tokens / work.prompt_tokens if work.prompt_tokens else 0.0
    cached_share = max(here, expected.cached_tokens / expected.prompt_tokens if expected.prompt_tokens else 0.0)
    prompt_tokens = round(work.prompt_tokens * factor)
    return replace(
        expected,
        requests=round(work.requests * factor),
        prompt_tokens=prompt_tokens,
        cached_tokens=round(prompt_tokens * cached_share),
        output_tokens=round(work.output_tokens * factor),
    )


def total_work(work: Mapping[str, EngineWork]) -> EngineWork:
    """The requests and tokens of all prompt sets."""
    names = ("requests", "prompt_tokens", "cached_tokens", "output_tokens")
    return EngineWork("", **{name: sum(getattr(of_set, name) for of_set in work.values()) for name in names})


def measured(preview: Preview, gpus: float) -> Measured:
    """A preview's rate, as the estimate takes it."""
    total = total_work(preview.work)
    hours = preview.rewriting_s * gpus / _SECONDS_PER_HOUR
    return Measured(hours, max(total.prompt_tokens - total.cached_tokens, 1), max(total.output_tokens, 1))


def _notes(plan: PreviewPlan, work: Mapping[str, EngineWork], cached_share: float, gpus: float) -> Sequence[str]:
    """The grounds of the forecast, most important first."""
    rewrite, total = plan.rewrite, total_work(work)
    cached_here = total.cached_tokens / total.prompt_tokens if total.prompt_tokens else 0.0
    notes = []
    if f"{cached_here:.0%}" != f"{cached_share:.0%}":
        notes.append(
            f"The prefix cache gave {cached_here:.0%} of the prompt tokens here. The forecast takes "
            f"{cached_share:.0%}: a long run finds the whole blocks of every prompt head."
        )
    if gpus:
        notes.append(
            f"The {total.requests:,} requests of this preview do not fill an engine on a GPU, so a run is faster. "
            "`laclip rewrites probe CONFIG` measures a full engine."
        )
    else:
        notes.append(
            "This engine ran on a CPU. GPU-hours and money take the tokens of this preview and the price list's rates, "
            "which are assumed (`laclip estimate`)."
        )
    if rewrite.gate.picture is not None:
        notes.append("The picture gate (rewrite.gate.picture) was not applied; it refuses more rewrites in a run.")
    if gpus and rewrite.price is None:
        names = ", ".join(load_prices(rewrite.prices).prices)
        notes.append(f"No price is set, so there is no sum of money: rewrite.price takes a name ({names}).")
    return notes
