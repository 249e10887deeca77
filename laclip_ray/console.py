"""Tables on the console, one for each verb's result."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from laclip_ray import storage
from laclip_ray.intervals import Interval
from laclip_ray.onejob.plan import RunPlan
from laclip_ray.onejob.run import OneJobResult
from laclip_ray.rewriting.estimate import Estimate
from laclip_ray.rewriting.inspection import Inspection
from laclip_ray.rewriting.result import RewritingResult
from laclip_ray.training.summary import TrainingResult
from laclip_ray.tuning.comparison import differences
from laclip_ray.tuning.results import Sweep


def print_rewriting(console: Console, result: RewritingResult, output: str) -> None:
    """Print the outcomes of captions for each prompt set, the reasons of missing rewrites, and the costs.

    Args:
        console: prints.
        result: of rewriting.
        output: directory or URL of the rewrite sets.
    """
    table = Table(title=f"rewrite sets in {output}", title_justify="left")
    for heading in (
        "prompt set",
        "captions",
        "accepted",
        "without a rewrite",
        "output tokens",
        "cached prompt",
    ):
        table.add_column(heading, justify="left" if heading == "prompt set" else "right")
    for name, counts in result.statistics.items():
        cached = counts.cached_tokens / counts.prompt_tokens if counts.prompt_tokens else 0.0
        table.add_row(
            name,
            f"{counts.captions:,}",
            f"{counts.accepted:,}",
            f"{counts.captions_without_rewrite:,}",
            f"{counts.output_tokens:,}",
            f"{cached:.0%}",
        )
    console.print(table)
    for name, counts in result.statistics.items():
        for kind, reasons in (("rejected", counts.rejected), ("noted", counts.problems)):
            for reason, number in reasons.most_common():
                named = ", ".join(counts.named.get(reason, [])[:3])
                console.print(
                    f"  {name}: {kind} {reason} {number:,} ({named}{', …' if number > 3 else ''})",
                    markup=False,
                )
    console.print(
        f"{result.shards} shards, {result.shards_done_before} done before, {result.commits} committed now by "
        f"{len(result.engines)} engine(s) in {result.elapsed_s:.0f} s"
    )
    if costs := result.costs:
        money = f", {costs['money']:,.2f} {costs['currency']}" if costs["money"] is not None else ""
        each = costs["cost_per_thousand_accepted"]
        per_thousand = f", {each:.4f} {costs['currency']} a thousand accepted rewrites" if each is not None else ""
        hours = f"{costs['engine_hours']:.2f} engine-hours, {costs['gpu_hours']:.2f} GPU-hours"
        tokens = f"{costs['prompt_tokens']:,} prompt tokens ({costs['cached_share']:.0%} cached)"
        console.print(f"all runs: {hours}{money}{per_thousand}; {tokens}, {costs['output_tokens']:,} written")


def print_inspection(console: Console, inspection: Inspection) -> None:
    """Counts by reason and set, and the samples that were chosen."""
    counts_of = inspection.statistics
    table = Table(title="rewrites by outcome", title_justify="left")
    for heading in ("", *counts_of):
        table.add_column(Text(heading), justify="right" if heading else "left")
    table.add_row("shards", *(f"{inspection.shards[name]:,}" for name in counts_of))
    for label, attribute in (("captions", "captions"), ("without a rewrite", "captions_without_rewrite")):
        table.add_row(label, *(f"{getattr(counts, attribute):,}" for counts in counts_of.values()))
    table.add_row("accepted", *(f"{counts.accepted:,}" for counts in counts_of.values()))
    for reason in sorted({reason for counts in counts_of.values() for reason in counts.rejected}):
        table.add_row(Text(reason), *(f"{counts.rejected[reason]:,}" for counts in counts_of.values()))
    console.print(table)
    for name, missing in inspection.changed.items():
        console.print(
            f"{name}: its rows have changed since they were rewritten, {missing:,} of them have no rewrites",
            markup=False,
            highlight=False,
        )
    for note in inspection.notes:
        console.print(note, markup=False, highlight=False)
    reason = ""
    for shown in inspection.shown:
        if shown.reason != reason:
            reason = shown.reason
            console.print(f"\n{reason}", style="bold", markup=False, highlight=False)
        console.print(f"  {shown.id} ({shown.rewrite_set})", markup=False, highlight=False)
        console.print(f"    {shown.caption}", markup=False, highlight=False, emoji=False)
        if shown.text is not None:
            console.print(f"    => {shown.text}", markup=False, highlight=False, emoji=False)
    console.print(
        f"\ncounts are of all committed shards, samples of {inspection.shards_read} (a few a set)", highlight=False
    )


def print_estimate(console: Console, estimate: Estimate) -> None:
    """Tokens by prompt set, GPU-hours and money by price, and what the numbers rest on."""
    about = "" if estimate.captions_are_counted else "about "
    size = f" ({estimate.billion_parameters:.2g} billion parameters)" if estimate.billion_parameters else ""
    console.print(
        f"{about}{estimate.captions:,} captions in {estimate.shards:,} shards, for {estimate.model}{size}; "
        f"read {estimate.captions_read:,} in {estimate.shards_read} shards, {estimate.distinct_share:.1%} of them to "
        f"rewrite, and counted the tokens of {estimate.captions_sampled:,}",
        markup=False,
    )
    tokens = Table(title="tokens", title_justify="left")
    for heading in ("prompt set", "requests", "prompt", "of it cached", "computed", "output"):
        tokens.add_column(heading, justify="left" if heading == "prompt set" else "right")
    columns = [(each.requests, each.prompt_tokens, each.computed_tokens, each.output_tokens) for each in estimate.sets]
    names = [each.prompt_set for each in estimate.sets]
    for name, counts in zip(
        [*names, "all"], [*columns, [sum(each) for each in zip(*columns, strict=True)]], strict=True
    ):
        requests, prompt, computed, output = counts
        cached = 1 - computed / prompt if prompt else 0.0
        tokens.add_row(name, f"{requests:,}", f"{prompt:,}", f"{cached:.0%}", f"{computed:,}", f"{output:,}")
    console.print(tokens)
    costs = Table(title=f"cost, throughput {'measured' if estimate.measured else 'assumed'}", title_justify="left")
    for heading in ("price", "GPU", "GPU-hours", estimate.currency):
        costs.add_column(heading, justify="left" if heading in ("price", "GPU") else "right")
    for cost in estimate.costs:
        money = "no price set" if cost.money is None else f"{cost.money:,.2f}"
        gpu = f"{cost.accelerator or ''}{'' if cost.fits else ' (does not fit)'}"
        costs.add_row(cost.name, gpu, f"{cost.gpu_hours:,.2f}", money)
    console.print(costs)
    if estimate.spent.gpu_hours:
        money = "" if estimate.spent.money is None else f", {estimate.spent.money:,.2f} {estimate.spent.currency}"
        console.print(f"of that, spent already: {estimate.spent.gpu_hours:,.2f} GPU-hours{money}")
    for note in estimate.notes:
        console.print(f"  {note}", markup=False)


def print_training(console: Console, result: TrainingResult) -> None:
    """Where the model is, the text shares asked for and reached, and what was skipped."""
    summary = result.summary
    console.print(
        f"trained {summary['steps']:,} steps, {summary['samples']:,} samples ({summary['epochs']} epochs of "
        f"{summary['samples_per_epoch']:,}); {summary['not_trained_on']:,} not trained on (skipped, or in the last "
        "incomplete batch)"
    )
    fallbacks = ", ".join(f"{reason} {number:,}" for reason, number in summary["fallbacks"].items())
    console.print(f"p {summary['p']:g} asked for, {summary['p_effective']:.4f} shown; fallbacks: {fallbacks}")
    for reason, number in summary["skipped"].items():
        console.print(
            f"  skipped {reason} {number:,} ({', '.join(summary['skipped_names'][reason][:3])})", markup=False
        )
    local = storage.is_local(result.export)
    note = f"open_clip loads it as local-dir:{result.export}" if local else "copy it to load it with open_clip"
    console.print(f"model exported to {result.export}; {note}", markup=False, soft_wrap=True)


def print_one_job(console: Console, result: OneJobResult, output: str) -> None:
    """Both halves, and when what happened."""
    print_rewriting(console, result.rewriting, output)
    print_training(console, result.training)
    by_epoch = result.training.summary["by_epoch"]
    for epoch, shares in sorted(by_epoch.items(), key=lambda item: int(item[0])):
        late = shares["fallbacks"]["not_rewritten"]
        console.print(f"  epoch {epoch}: p {shares['p']:g}, {shares['p_effective']:.4f} shown, late {late:,}")
    for event in result.timeline:
        console.print(f"  {event['s']:8.1f} s  {event['event']}", markup=False, highlight=False)


def print_plan(console: Console, plan: RunPlan) -> None:
    """Stages, what is done, and a forecast for each delivery."""
    stages = Table(title=f"laclip run, rewrite.delivery: {plan.delivery}", title_justify="left")
    for heading in ("stage", "processes", "CPUs each", "GPUs each", "nodes"):
        stages.add_column(heading, justify="left" if heading in ("stage", "nodes") else "right")
    for stage, group, fewest in (
        ("rewriting", plan.engines, plan.fewest_engines),
        ("training", plan.workers, plan.workers.min_processes),
    ):
        count = f"{group.processes}" if fewest in (None, group.processes) else f"{fewest} to {group.processes}"
        gpus = "1 where there are any" if group.gpus is None else f"{group.gpus:g}"
        labels = [f"{key}: {value}" for key, value in group.label_selector.items()]
        nodes = ", ".join([*([group.accelerator_type] if group.accelerator_type else []), *labels]) or "any"
        stages.add_row(stage, f"{count} {group.name}", f"{group.cpus:g}", gpus, escape(nodes))
    console.print(stages)
    about = "" if plan.estimate.captions_are_counted else "about "
    console.print(
        f"{plan.shards_done:,} of {plan.shards:,} shards are rewritten; {plan.left_share:.0%} of all shards and prompt "
        f"sets are left to draw. Training: {plan.epochs_left:.2f} epochs of {about}{plan.estimate.captions:,} samples "
        f"are left, {about}{plan.steps_left:,} steps"
    )
    prompt, output = (
        sum(getattr(each, name) for each in plan.estimate.sets) * plan.left_share
        for name in ("prompt_tokens", "output_tokens")
    )
    console.print(f"expected tokens: {prompt:,.0f} of prompts, {output:,.0f} written")
    cost = plan.estimate.costs[0]
    money = "" if cost.money is None else f" and {cost.money * plan.left_share:,.2f} {plan.estimate.currency}"
    console.print(f"Rewriting takes {cost.gpu_hours * plan.left_share:,.2f} GPU-hours{money}")
    for note in plan.estimate.notes:
        console.print(f"  {note}", markup=False)
    if plan.images_per_s is None:
        console.print(
            "How long training takes is not known: give train.expected_images_per_s, or train for a while first"
        )
        return
    table = Table(
        title=f"at {plan.images_per_s:,.0f} images/s ({'measured' if plan.is_measured else 'as expected'}) and "
        f"{cost.name} ({'measured' if plan.estimate.measured else 'assumed'})",
        title_justify="left",
    )
    for heading in ("delivery", "hours", "GPU-hours", plan.estimate.currency, "late in epoch 0, 1, 2"):
        table.add_column(heading, justify="left" if heading == "delivery" else "right")
    for each in plan.forecasts:
        money = "no price set" if each.money is None else f"{each.money:,.2f}"
        late = ", ".join(f"{share:.0%}" for share in each.late_shares[:3])
        table.add_row(each.delivery, f"{each.hours:,.2f}", f"{each.gpu_hours:,.2f}", money, late)
    console.print(table)
    assert plan.cheapest is not None
    console.print(f"cheapest: {plan.cheapest.delivery}")


def print_evaluation(console: Console, results: dict[str, Any]) -> None:
    """A line a metric."""
    table = Table(title=f"evaluation of {results['checkpoint']}", title_justify="left")
    for heading in ("task", "dataset", "metric", "value"):
        table.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=True)
    for result in results["results"]:
        for metric, value in result.items():
            if isinstance(value, float):
                table.add_row(result["task"], result["dataset"], metric, f"{value:.2%}")
        if result["skipped"]:
            table.add_row(result["task"], result["dataset"], "skipped images", f"{result['skipped']:,}")
    console.print(table)


def print_sweep(console: Console, sweep: Sweep) -> None:
    """The metric that is compared, by complete point, its differences from the baselines, and what is to be said."""
    values = sweep.values(sweep.metric)
    table = Table(title=f"sweep in {sweep.experiment.tune_output}", title_justify="left")
    table.add_column("point")
    table.add_column(f"{sweep.metric}, mean ± standard deviation", justify="right")
    for baseline in sweep.baselines:
        table.add_column(f"above {baseline}, 95 % interval", justify="right")
    for point in values:
        cells = [_mean_and_spread([*values[point].values()])]
        for baseline in sweep.baselines:
            found = {each.point: each.paired for each in differences(values, baseline, sweep.begun)}
            cells.append(_difference(found.get(point)))
        table.add_row(point, *cells)
    console.print(table)
    for sentence in sweep.verdicts():
        console.print(sentence, markup=False)


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval.mean:.2f}" + ("" if interval.half_width is None else f" ± {100 * interval.half_width:.2f}")


def _mean_and_spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2%}" if values else "failed"
    return f"{fmean(values):.2%} ± {stdev(values):.2%}"
