"""The page of a preview, and the sentences that the terminal shows too."""

from collections.abc import Collection, Mapping, Sequence

from laclip_ray.data.sample_pictures import PlacedKey
from laclip_ray.redaction import redact
from laclip_ray.reporting.gallery import Gallery, Rewrite, RewrittenSample
from laclip_ray.reporting.page import Table
from laclip_ray.reporting.preview_page import PreviewPage, ShownShare
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.forecasting.estimate import Cost
from laclip_ray.rewriting.forecasting.preview import (
    Preview,
    PreviewDraw,
    PreviewedCaption,
    PreviewPlan,
)
from laclip_ray.rewriting.forecasting.preview_forecast import Forecast, total_work
from laclip_ray.rewriting.forecasting.preview_outcome import Outcome, advice, outcome_of, outcomes_of
from laclip_ray.rewriting.prices import Spending, cost_per_thousand
from laclip_ray.rewriting.running.generator import useful_redraws
from laclip_ray.rewriting.tables import LOG_PROBABILITY, MEANING_SCORES
from laclip_ray.versions import package_versions

_HOURS_PER_DAY = 24
_LEAST_MONEY = 0.01
ALL = "all"
"""The row of all prompt sets together."""


def preview_page(
    name: str,
    plan: PreviewPlan,
    preview: Preview,
    expected: Forecast,
    pictures: Mapping[PlacedKey, bytes] | None = None,
    notes: Sequence[str] = (),
) -> PreviewPage:
    """The content of a preview's page.

    Args:
        name: of the experiment.
        plan: of the preview.
        preview: its outcome.
        expected: for the whole dataset.
        pictures: of the captions, by their keys. None: the captions have none.
        notes: on missing pictures.
    """
    outcomes = all_outcomes(preview)
    pictures = pictures or {}
    return PreviewPage(
        title=f"Preview of {name}",
        introduction=[sample_sentence(plan, preview), left_out_sentence(preview), _model_sentence(plan, preview)],
        advice=advice(outcomes_of(preview.captions, plan.heads)),
        shares=[_share(name, outcome) for name, outcome in outcomes.items()],
        refusals=[_refusals(outcomes)] if outcomes[ALL].refused else [],
        figures=[*figures(plan, preview, expected).items()],
        tables=[_tokens(preview, expected), *([_costs(expected)] if has_cost_table(expected) else [])],
        notes=[note.replace("`", "") for note in (*expected.notes, *notes)],
        gallery=Gallery.of([_sample(caption, pictures) for caption in preview.captions]),
        settings=[(key, redact(value)) for key, value in _settings(plan, preview).items()],
        versions=package_versions(),
    )


def all_outcomes(preview: Preview) -> dict[str, Outcome]:
    """The outcomes by prompt set, and of `ALL` of them."""
    outcomes = outcomes_of(preview.captions, preview.work)
    return {**outcomes, ALL: outcome_of(preview.captions)} if len(outcomes) > 1 else {ALL: outcome_of(preview.captions)}


def sample_sentence(plan: PreviewPlan, preview: Preview) -> str:
    """Where the captions are from."""
    sample = preview.sample
    read = f"{sample.shards:,} of the data's {len(plan.shards):,} shards"
    return f"{len(sample.captions):,} captions, drawn at random from the {sample.rows:,} samples of {read}."


def left_out_sentence(preview: Preview) -> str:
    """The samples that could not be drawn."""
    sample = preview.sample
    without = sum(sample.not_rewritten.values())
    repeated = sample.rows - without - sample.distinct
    counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(sample.not_rewritten.items()))
    reasons = f" ({counts})" if counts else ""
    return (
        f"Samples without a caption to rewrite: {without:,}{reasons}. Samples with a repeated caption, which is "
        f"rewritten once: {repeated:,}."
    )


def accepted_text(outcome: Outcome) -> str:
    """The share of accepted rewrites with its interval.

    >>> accepted_text(Outcome(captions=50, slots=100, accepted=60))
    '60% (46 to 72), 60 of 100'
    """
    interval = outcome.interval
    return (
        f"{outcome.share:.0%} ({100 * interval.low:.0f} to {100 * interval.high:.0f}), {outcome.accepted:,} of "
        f"{outcome.slots:,}"
    )


def figures(plan: PreviewPlan, preview: Preview, expected: Forecast) -> dict[str, str]:
    """The most important numbers, by name."""
    total, outcome = total_work(preview.work), outcome_of(preview.captions)
    engines = plan.rewrite.engine.actors.max
    about = "" if expected.captions_are_counted else "about "
    speed = f"{total.output_tokens / preview.rewriting_s:,.0f} tokens/s, {outcome.slots / preview.rewriting_s:,.1f} "
    found = {
        "captions to rewrite": f"{about}{expected.to_rewrite:,} of {expected.captions:,}",
        "rewrites accepted here": accepted_text(outcome),
        "speed of one engine": f"{speed}rewrites/s",
        "prompt tokens from the cache": f"{cached_share(total):.0%} here, {expected.cached_share:.0%} in a run",
        "time for all, one engine": duration(expected.engine_hours),
    }
    if engines > 1:
        found[f"time for all, {engines:,} engines"] = duration(expected.engine_hours / engines)
    if len(expected.costs) == 1:
        found |= _money_figures(expected, outcome)
    elif not has_cost_table(expected):
        found["cost of all, at any price of the list"] = f"under {_LEAST_MONEY} {expected.currency}"
    return found


def has_cost_table(expected: Forecast) -> bool:
    """Whether a table of costs by price says something: there are several prices, and one is a sum that counts."""
    return len(expected.costs) > 1 and any(cost.money is None or cost.money >= _LEAST_MONEY for cost in expected.costs)


def _money_figures(expected: Forecast, outcome: Outcome) -> dict[str, str]:
    (cost,) = expected.costs
    rate = "at this rate" if expected.costs_are_measured else "at assumed rates"
    found = {f"GPU-hours for all, {rate}": f"{cost.gpu_hours:,.2f}"}
    if cost.money is None:
        return found
    found[f"cost of all, {rate}"] = f"{cost.money:,.2f} {expected.currency} ({cost.name})"
    spent = Spending(cost.gpu_hours, cost.money, expected.currency)
    accepted = round(outcome.accepted / outcome.captions * expected.to_rewrite)
    if (per_thousand := cost_per_thousand(spent, accepted)) is not None:
        found["cost of a thousand accepted"] = f"{per_thousand:,.4f} {expected.currency}"
    return found


def cached_share(work: EngineWork) -> float:
    """Share of prompt tokens that the prefix cache gave."""
    return work.cached_tokens / work.prompt_tokens if work.prompt_tokens else 0.0


def duration(hours: float) -> str:
    """A duration for a person.

    >>> duration(0.004), duration(0.3), duration(5.25), duration(60)
    ('14 s', '18 min', '5.2 h', '2.5 days')
    """
    if hours * 3_600 < 90:
        return f"{hours * 3_600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:,.1f} h" if hours < 2 * _HOURS_PER_DAY else f"{hours / _HOURS_PER_DAY:,.1f} days"


def score_texts(draw: PreviewDraw, names: Collection[str] = (*MEANING_SCORES, LOG_PROBABILITY)) -> tuple[str, ...]:
    """The scores of a draw, each with its name.

    Args:
        draw: the draw.
        names: leave out the others.
    """
    shown = {LOG_PROBABILITY: "log p"}
    return tuple(f"{shown.get(name, name)} {value:.2f}" for name, value in draw.scores.items() if name in names)


def _model_sentence(plan: PreviewPlan, preview: Preview) -> str:
    rewrite = plan.rewrite
    meaning = rewrite.gate.meaning
    judged = "by its words" if meaning is None else f"by its words and, with {meaning.model}, by its meaning"
    redraws = useful_redraws(rewrite)
    return redact(
        f"{rewrite.model} wrote the rewrites on {preview.hardware}, with the prompts, sampling and gate of a run. The "
        f"gate judges each text {judged}. Redraws of a refused one: at most {redraws:,}. Only this page was written."
    )


def _share(name: str, outcome: Outcome) -> ShownShare:
    interval = outcome.interval
    text = f"{100 * interval.low:.0f} to {100 * interval.high:.0f}; {outcome.accepted:,} of {outcome.slots:,}"
    return ShownShare(name, outcome.share, interval.low, interval.high, text)


def _refusals(outcomes: Mapping[str, Outcome]) -> Table:
    rows = tuple(
        (reason, *(f"{outcome.refused[reason]:,}" for outcome in outcomes.values()))
        for reason, _ in outcomes[ALL].refused.most_common()
    )
    texts = ("all texts", *(f"{outcome.texts:,}" for outcome in outcomes.values()))
    return Table("Texts refused, by reason; redraws count too", ("reason", *outcomes), (texts, *rows))


def _tokens(preview: Preview, expected: Forecast) -> Table:
    rows = []
    for of_all in expected.sets:
        work = preview.work[of_all.prompt_set]
        of_both = (work.requests, work.prompt_tokens, work.output_tokens)
        expected_of_all = (of_all.requests, of_all.prompt_tokens, of_all.output_tokens)
        rows.append(
            (of_all.prompt_set, *(f"{count:,}" for count in (*of_both, *expected_of_all)), f"{cached_share(work):.0%}")
        )
    headings = ("prompt set", "requests", "prompt tokens", "output tokens")
    return Table(
        "Requests and tokens of this preview, and of all captions",
        (*headings, *(f"{heading}, all" for heading in headings[1:]), "cached here"),
        tuple(rows),
    )


def _costs(expected: Forecast) -> Table:
    rate = "at this preview's rate" if expected.costs_are_measured else "at the assumed rates of the price list"
    return Table(
        f"Cost of rewriting all captions, {rate}",
        ("price", "GPU", "GPU-hours", expected.currency),
        tuple((cost.name, _gpu(cost), f"{cost.gpu_hours:,.2f}", _money(cost.money)) for cost in expected.costs),
    )


def _gpu(cost: Cost) -> str:
    return f"{cost.accelerator or ''}{'' if cost.fits else ' (does not fit)'}"


def _money(amount: float | None) -> str:
    return "no price set" if amount is None else f"{amount:,.2f}"


def _sample(caption: PreviewedCaption, pictures: Mapping[PlacedKey, bytes]) -> RewrittenSample:
    rewrites = tuple(
        Rewrite(
            name, draw.text or "", draw.reason, (*_label(draw, len({each.slot for each in draws})), *score_texts(draw))
        )
        for name, draws in caption.draws.items()
        for draw in draws
    )
    return RewrittenSample(caption.id, pictures.get(caption.key), caption.caption, rewrites)


def _label(draw: PreviewDraw, slots: int) -> list[str]:
    """What tells a draw from the others of its caption and prompt set."""
    return ([f"rewrite {draw.slot + 1}"] if slots > 1 else []) + (["drawn again"] if draw.attempt else [])


def _settings(plan: PreviewPlan, preview: Preview) -> dict[str, str]:
    rewrite = plan.rewrite
    sampling, meaning = rewrite.sampling, rewrite.gate.meaning
    return {
        "rewrite.model": f"{rewrite.model}{f' at {rewrite.revision}' if rewrite.revision else ''}",
        "rewrite.mode": rewrite.mode,
        "rewrite.heads": f"{rewrite.heads:,}",
        "rewrite.rewrites_per_set": f"{rewrite.rewrites_per_set:,}",
        "rewrite.redraws": f"{rewrite.redraws:,}",
        "rewrite.sampling": (
            f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, at most {sampling.max_tokens:,} tokens"
        ),
        "rewrite.gate.meaning": (
            "off" if meaning is None else f"{meaning.model}, at least {meaning.min_faithfulness:g} faithful"
        ),
        "engine": preview.hardware,
        "start of engine and encoder": f"{preview.start_s:,.1f} s",
        "rewriting": f"{preview.rewriting_s:,.1f} s",
    }
