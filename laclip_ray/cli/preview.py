"""`laclip rewrites preview`: the verb, and what it prints. Texts from data are printed with their control characters
escaped."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from laclip_ray.cli.ending import announce, finish
from laclip_ray.cli.options import ConfigArgument, OverridesArgument, console, read_experiment
from laclip_ray.cli.working import working
from laclip_ray.printable import printable_line

if TYPE_CHECKING:
    from laclip_ray.config import DataConfig
    from laclip_ray.data.sample_pictures import PlacedKey
    from laclip_ray.rewriting.forecasting.preview import Preview, PreviewPlan
    from laclip_ray.rewriting.forecasting.preview_forecast import Forecast

PRINTED = 3
"""Captions in the terminal; the page has all."""


def preview_rewrites(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    captions: Annotated[int, typer.Option(min=1, max=2_000, help="Captions to rewrite, drawn at random.")] = 50,
    seed: Annotated[int, typer.Option(help="Decides which captions are drawn.")] = 0,
    page: Annotated[str | None, typer.Option(help="HTML page to write. Default: preview.html below output.")] = None,
) -> None:
    """Rewrite a few captions with one engine, as a run would, and show what comes of it. Writes only a page."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{config}: rewriting {captions} captions")
    with working("rewrites preview"):
        from laclip_ray import storage
        from laclip_ray.reporting.preview_page import render_preview
        from laclip_ray.rewriting.forecasting.preview import check_page, plan_preview, run_preview
        from laclip_ray.rewriting.forecasting.preview_forecast import forecast
        from laclip_ray.rewriting.forecasting.preview_report import preview_page

        url = check_page(experiment.output, page, experiment.ray.shared_paths)
        plan = plan_preview(experiment, captions, seed)
        preview = run_preview(plan)
        expected = forecast(plan, preview)
        pictures, notes = _pictures(experiment.data, experiment.output, plan, preview)
        content = preview_page(experiment.name, plan, preview, expected, pictures, notes)
        storage.write_bytes(url, render_preview(content).encode())
        rest_s = time.monotonic() - preview.started_at_s
    from laclip_ray.cli.conclusions import Conclusions

    finish(
        Conclusions.of(config, overrides, experiment).previewed(plan, preview, expected, rest_s, url),
        lambda: print_preview(console, plan, preview, expected),
    )


def _pictures(
    data: "DataConfig", output: str, plan: "PreviewPlan", preview: "Preview"
) -> "tuple[dict[PlacedKey, bytes], list[str]]":
    """The pictures of the captions, if they lie on this machine or at the beginning of their shards."""
    from laclip_ray import storage
    from laclip_ray.data.sample_pictures import ROWS, pictures_of

    keys = [caption.key for caption in preview.captions]
    are_here = all(storage.is_local(shard.url) for shard in plan.shards)
    rows = data.max_rows_per_shard if are_here else ROWS
    return pictures_of(data, output, keys, len(plan.shards), rows)


def print_preview(to: Console, plan: "PreviewPlan", preview: "Preview", expected: "Forecast") -> None:
    """Print some captions with their rewrites, the accepted shares, the reasons, and the forecast."""
    from laclip_ray.rewriting.forecasting.preview_outcome import advice, outcomes_of
    from laclip_ray.rewriting.forecasting.preview_report import (
        figures,
        has_cost_table,
        left_out_sentence,
        sample_sentence,
    )

    to.print(_captions_table(preview))
    to.print(_outcomes_table(preview))
    for line in (sample_sentence(plan, preview), left_out_sentence(preview)):
        _print_line(to, line)
    for name, value in figures(plan, preview, expected).items():
        _print_line(to, f"{name}: {value}")
    if has_cost_table(expected):
        to.print(_costs_table(expected))
    for note in expected.notes:
        _print_line(to, f"  {note}")
    if found := advice(outcomes_of(preview.captions, plan.heads)):
        to.print(Text(printable_line(found), style="bold"))


def _print_line(to: Console, line: str) -> None:
    to.print(printable_line(line), markup=False, emoji=False, highlight=False)


def _captions_table(preview: "Preview") -> Table:
    from laclip_ray.rewriting.forecasting.preview_report import score_texts
    from laclip_ray.rewriting.tables import MEANING_SCORES

    title = f"{min(PRINTED, len(preview.captions))} of the captions"
    table = Table(title=title, title_justify="left", expand=True)
    for heading, weight in (("caption", 3), ("prompt set", None), ("text", 5), ("outcome", None), ("scores", 2)):
        table.add_column(heading, overflow="fold", ratio=weight, no_wrap=weight is None)
    for caption in preview.captions[:PRINTED]:
        shown = caption.caption
        for name, draws in caption.draws.items():
            for draw in draws:
                scores = score_texts(draw, MEANING_SCORES)
                cells = (shown, name, draw.text or "", draw.reason or "accepted", ", ".join(scores))
                # As `Text`, for which square brackets are no markup.
                table.add_row(*(Text(printable_line(cell)) for cell in cells))
                shown = ""
        table.add_section()
    return table


def _outcomes_table(preview: "Preview") -> Table:
    from laclip_ray.rewriting.forecasting.preview_report import ALL, all_outcomes

    outcomes = all_outcomes(preview)
    table = Table(title="rewrites accepted after redraws, and texts refused by reason", title_justify="left")
    table.add_column("")
    for name in outcomes:
        table.add_column(Text(printable_line(name)), justify="right")
    table.add_row("accepted", *(f"{outcome.accepted:,} of {outcome.slots:,}" for outcome in outcomes.values()))
    table.add_row("accepted share", *(f"{outcome.share:.0%}" for outcome in outcomes.values()))
    intervals = [outcome.interval for outcome in outcomes.values()]
    table.add_row("95% interval", *(f"{100 * each.low:.0f} to {100 * each.high:.0f}%" for each in intervals))
    table.add_section()
    for reason, _ in outcomes[ALL].refused.most_common():
        table.add_row(Text(printable_line(reason)), *(f"{outcome.refused[reason]:,}" for outcome in outcomes.values()))
    return table


def _costs_table(expected: "Forecast") -> Table:
    rate = "at this rate" if expected.costs_are_measured else "at assumed rates"
    table = Table(title=f"cost of all captions, {rate}", title_justify="left", min_width=40)
    table.add_column("price")
    for heading in ("GPU-hours", expected.currency):
        table.add_column(Text(heading), justify="right")
    for cost in expected.costs:
        money = "no price set" if cost.money is None else f"{cost.money:,.2f}"
        fits = "" if cost.fits else " (does not fit)"
        table.add_row(Text(f"{cost.name}{fits}"), f"{cost.gpu_hours:,.2f}", money)
    return table
