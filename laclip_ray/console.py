"""Print the result of each verb to the console. Texts from data are printed with their control characters escaped."""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from laclip_ray import storage
from laclip_ray.intervals import Interval
from laclip_ray.printable import counted, printable_line
from laclip_ray.tuning.comparison import differences

if TYPE_CHECKING:  # the verb has imported what it needs; the others cost seconds at its end
    from laclip_ray.onejob.plan import RunPlan
    from laclip_ray.onejob.run import OneJobResult
    from laclip_ray.rewriting.forecasting.estimate import Estimate
    from laclip_ray.rewriting.forecasting.probe import ProbeResult, Trial
    from laclip_ray.rewriting.inspection import Inspection
    from laclip_ray.rewriting.running.result import RewritingResult
    from laclip_ray.rewriting.storing.score_columns import ScoreRange
    from laclip_ray.training.summary import TrainingResult
    from laclip_ray.tuning.results import Sweep


def _table(title: str, *headings: str, left: Collection[str] = ()) -> Table:
    """An empty table with right-aligned columns, except the ones in `left`."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(Text(heading), justify="left" if heading in left else "right")
    return table


def _money(amount: float | None) -> str:
    return "no price set" if amount is None else f"{amount:,.2f}"


def _print_data(console: Console, line: str, highlight: bool = False) -> None:
    """Print a line that holds texts from data, as they are."""
    console.print(printable_line(line), markup=False, emoji=False, highlight=highlight)


def print_rewriting(console: Console, result: "RewritingResult", output: str) -> None:
    """Print the outcomes of captions by prompt set, every reason for a missing rewrite, and the costs.

    Args:
        console: prints.
        result: of rewriting.
        output: directory or URL of the rewrite sets.
    """
    headings = ("prompt set", "captions", "accepted", "without a rewrite", "output tokens", "cached prompt")
    table = _table(f"rewrite sets in {output}", *headings, left=("prompt set",))
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
            for reason, count in reasons.most_common():
                examples = ", ".join(counts.named.get(reason, [])[:3]) + (", …" if count > 3 else "")
                _print_data(console, f"  {name}: {kind} {reason} {count:,} ({examples})", highlight=True)
    console.print(
        f"{result.shards} shards, {result.shards_done_before} done before, {result.commits} committed now by "
        f"{counted(len(result.engines), 'engine')} in {result.elapsed_s:.0f} s"
    )
    if costs := result.costs:
        money = f", {costs['money']:,.2f} {costs['currency']}" if costs["money"] is not None else ""
        unit_cost = costs["cost_per_thousand_accepted"]
        per_thousand = ""
        if unit_cost is not None:
            per_thousand = f", {unit_cost:.4f} {costs['currency']} a thousand accepted rewrites"
        hours = f"{costs['engine_hours']:.2f} engine-hours, {costs['gpu_hours']:.2f} GPU-hours"
        tokens = f"{costs['prompt_tokens']:,} prompt tokens ({costs['cached_share']:.0%} cached)"
        console.print(f"all runs: {hours}{money}{per_thousand}; {tokens}, {costs['output_tokens']:,} written")
    if (speed := result.speed.tokens_per_s) is not None:
        share = ""
        if result.bare_tokens_per_s is not None:
            share = f", {speed / result.bare_tokens_per_s:.0%} of the bare engine's {result.bare_tokens_per_s:,.0f}"
            share += " (laclip rewrites probe)"
        console.print(f"this run: {speed:,.0f} output tokens/s an engine{share}")


def print_trial(console: Console, trial: "Trial") -> None:
    """Print a setting of the engine as soon as it is measured."""
    settings = ", ".join(f"{name} {value:,}" for name, value in trial.settings.items()) or "as configured"
    outcome = f"{trial.tokens_per_s:,.0f} tokens/s" if trial.problem is None else trial.problem
    _print_data(console, f"{settings}: {outcome} (started in {trial.start_s:.0f} s)")


def print_probe(console: Console, result: "ProbeResult") -> None:
    """Print the trials of a probe, and how to use the best setting."""
    names = list(result.trials[0].settings)
    table = _table(
        f"{result.record.model} on {result.record.hardware}", *names, "tokens/s", "requests/s", "cached prompt", ""
    )
    for trial in result.trials:
        speed = [f"{trial.tokens_per_s:,.0f}", f"{trial.requests_per_s:,.1f}", f"{trial.cached_share:.0%}"]
        if trial.problem is not None:
            speed = ["did not run", "", ""]
        table.add_row(*(f"{trial.settings[name]:,}" for name in names), *speed, "best" if trial is result.best else "")
    console.print(table)
    if result.overrides:
        _print_data(console, f"best setting: {' '.join(result.overrides)}")
    else:
        console.print("no setting was notably faster than the configured one")
    _print_data(
        console, f"written: {', '.join(result.files)}; later runs of this recipe print their share of this speed"
    )


def print_inspection(console: Console, inspection: "Inspection") -> None:
    """Print counts by reason and set, and the chosen examples."""
    console.print(_inspection_table(inspection))
    if any(inspection.scores.values()):
        console.print(_scores_table(inspection.scores))
    for shard, missing in inspection.changed.items():
        _print_data(
            console, f"{shard}: its rows have changed since they were rewritten, {missing:,} of them have no rewrites"
        )
    for note in inspection.notes:
        _print_data(console, note)
    reason = ""
    for shown in inspection.shown:
        if shown.reason != reason:
            reason = shown.reason
            console.print(f"\n{reason}", style="bold", markup=False, highlight=False)
        _print_data(console, f"  {shown.id} ({shown.rewrite_set})")
        _print_data(console, f"    {shown.caption}")
        if shown.text is not None:
            _print_data(console, f"    => {shown.text}")
    console.print(
        f"\ncounts are of all committed shards, samples of {inspection.shards_read} (a few a set)", highlight=False
    )


def _scores_table(scores: Mapping[str, Mapping[str, "ScoreRange"]]) -> Table:
    names = dict.fromkeys(name for ranges in scores.values() for name in ranges)
    table = _table("scores of accepted draws (10 %, median, 90 %), of the shards read", "", *scores, left=("",))
    for name in names:
        found = [ranges.get(name) for ranges in scores.values()]
        cells = ["" if each is None else "  ".join(f"{value:.3g}" for value in each) for each in found]
        table.add_row(Text(name), *cells)
    return table


def _inspection_table(inspection: "Inspection") -> Table:
    statistics = inspection.statistics
    table = _table("rewrites by outcome", "", *statistics, left=("",))
    table.add_row("shards", *(f"{inspection.shards[name]:,}" for name in statistics))
    table.add_row("captions", *(f"{counts.captions:,}" for counts in statistics.values()))
    table.add_row("without a rewrite", *(f"{counts.captions_without_rewrite:,}" for counts in statistics.values()))
    table.add_row("accepted", *(f"{counts.accepted:,}" for counts in statistics.values()))
    for reason in sorted({reason for counts in statistics.values() for reason in counts.rejected}):
        table.add_row(Text(reason), *(f"{counts.rejected[reason]:,}" for counts in statistics.values()))
    return table


def print_estimate(console: Console, estimate: "Estimate") -> None:
    """Print tokens by prompt set, GPU-hours and money by price, and the assumptions."""
    about = "" if estimate.captions_are_counted else "about "
    size = f" ({estimate.billion_parameters:.2g} billion parameters)" if estimate.billion_parameters else ""
    console.print(
        f"{about}{estimate.captions:,} captions in {estimate.shards:,} shards, for {estimate.model}{size}; "
        f"read {estimate.captions_read:,} in {estimate.shards_read} shards, {estimate.distinct_share:.1%} of them to "
        f"rewrite, and counted the tokens of {estimate.captions_sampled:,}",
        markup=False,
    )
    console.print(_tokens_table(estimate))
    console.print(_costs_table(estimate))
    if estimate.spent.gpu_hours:
        money = "" if estimate.spent.money is None else f", {estimate.spent.money:,.2f} {estimate.spent.currency}"
        console.print(f"of that, spent already: {estimate.spent.gpu_hours:,.2f} GPU-hours{money}")
    for note in estimate.notes:
        console.print(f"  {note}", markup=False)


def _tokens_table(estimate: "Estimate") -> Table:
    headings = ("prompt set", "requests", "prompt", "of it cached", "computed", "output")
    table = _table("tokens", *headings, left=("prompt set",))
    rows = {
        tokens.prompt_set: (tokens.requests, tokens.prompt_tokens, tokens.computed_tokens, tokens.output_tokens)
        for tokens in estimate.sets
    }
    totals = tuple(map(sum, zip(*rows.values(), strict=True)))
    for name, (requests, prompt, computed, output) in [*rows.items(), ("all", totals)]:
        cached = 1 - computed / prompt if prompt else 0.0
        table.add_row(name, f"{requests:,}", f"{prompt:,}", f"{cached:.0%}", f"{computed:,}", f"{output:,}")
    return table


def _costs_table(estimate: "Estimate") -> Table:
    title = f"cost, throughput {'measured' if estimate.measured else 'assumed'}"
    table = _table(title, "price", "GPU", "GPU-hours", estimate.currency, left=("price", "GPU"))
    for cost in estimate.costs:
        gpu = f"{cost.accelerator or ''}{'' if cost.fits else ' (does not fit)'}"
        table.add_row(cost.name, gpu, f"{cost.gpu_hours:,.2f}", _money(cost.money))
    return table


def print_training(console: Console, result: "TrainingResult") -> None:
    """Print the model's location, the requested and the shown p, and skipped samples."""
    summary = result.summary
    console.print(
        f"trained {summary['steps']:,} steps, {summary['samples']:,} samples ({summary['epochs']} epochs of "
        f"{summary['samples_per_epoch']:,}); {summary['not_trained_on']:,} not trained on (skipped, or in the last "
        "incomplete batch)"
    )
    fallbacks = ", ".join(f"{reason} {count:,}" for reason, count in summary["fallbacks"].items())
    # Summaries of earlier versions count no missing scores.
    unscored = f"; without the score {count:,}" if (count := summary.get("unscored", 0)) else ""
    console.print(f"p {summary['p']:g} asked for, {summary['p_effective']:.4f} shown; fallbacks: {fallbacks}{unscored}")
    for reason, count in summary["skipped"].items():
        examples = ", ".join(summary["skipped_names"][reason][:3])
        _print_data(console, f"  skipped {reason} {count:,} ({examples})", highlight=True)
    note = f"open_clip loads the model as local-dir:{result.export}"
    if not storage.is_local(result.export):
        note = "copy the model to load it with open_clip"
    console.print(note, markup=False, soft_wrap=True)


def print_one_job(console: Console, result: "OneJobResult", output: str) -> None:
    """Print the results of rewriting and training, the share of rewrites by epoch, and the timeline."""
    print_rewriting(console, result.rewriting, output)
    print_training(console, result.training)
    by_epoch = result.training.summary["by_epoch"]
    for epoch, shares in sorted(by_epoch.items(), key=lambda item: int(item[0])):
        late = shares["fallbacks"]["not_rewritten"]
        console.print(f"  epoch {epoch}: p {shares['p']:g}, {shares['p_effective']:.4f} shown, late {late:,}")
    for event in result.timeline:
        console.print(f"  {event['s']:8.1f} s  {event['event']}", markup=False, highlight=False)


def print_plan(console: Console, plan: "RunPlan") -> None:
    """Print the stages, the remaining work, and a forecast for each delivery."""
    console.print(_stages_table(plan))
    _print_remaining_work(console, plan)
    for note in (*plan.estimate.notes, *plan.doubts):
        console.print(f"  {note}", markup=False)
    if plan.images_per_s is None:
        console.print(
            "How long training takes is not known: give train.expected_images_per_s, or train for a while first"
        )
        return
    console.print(_forecasts_table(plan))
    assert plan.cheapest is not None
    console.print(f"cheapest: {plan.cheapest.delivery}")


def _stages_table(plan: "RunPlan") -> Table:
    title = f"laclip run, rewrite.delivery: {plan.delivery}"
    table = _table(title, "stage", "processes", "CPUs each", "GPUs each", "nodes", left=("stage", "nodes"))
    for stage, group, minimum in (
        ("rewriting", plan.engines, plan.fewest_engines),
        ("training", plan.workers, plan.workers.min_processes),
    ):
        count = f"{group.processes}" if minimum in (None, group.processes) else f"{minimum} to {group.processes}"
        gpus = "1 if there are any" if group.gpus is None else f"{group.gpus:g}"
        accelerator = [group.accelerator_type] if group.accelerator_type else []
        labels = [f"{key}: {value}" for key, value in group.label_selector.items()]
        nodes = ", ".join([*accelerator, *labels]) or "any"
        table.add_row(stage, f"{count} {group.name}", f"{group.cpus:g}", gpus, escape(nodes))
    return table


def _print_remaining_work(console: Console, plan: "RunPlan") -> None:
    about = "" if plan.estimate.captions_are_counted else "about "
    console.print(
        f"{plan.shards_done:,} of {plan.shards:,} shards are rewritten; {plan.left_share:.0%} of all shards and prompt "
        f"sets are left to draw. Training: {plan.epochs_left:.2f} epochs of {about}{plan.estimate.captions:,} samples "
        f"are left, {about}{plan.steps_left:,} steps"
    )
    prompt = sum(tokens.prompt_tokens for tokens in plan.estimate.sets) * plan.left_share
    output = sum(tokens.output_tokens for tokens in plan.estimate.sets) * plan.left_share
    console.print(f"expected tokens: {prompt:,.0f} of prompts, {output:,.0f} written")
    cost = plan.estimate.costs[0]
    money = "" if cost.money is None else f" and {cost.money * plan.left_share:,.2f} {plan.estimate.currency}"
    console.print(f"Rewriting takes {cost.gpu_hours * plan.left_share:,.2f} GPU-hours{money}")


def _forecasts_table(plan: "RunPlan") -> Table:
    title = (
        f"at {plan.images_per_s:,.0f} images/s ({'measured' if plan.is_measured else 'as expected'}) and "
        f"{plan.estimate.costs[0].name} ({'measured' if plan.estimate.measured else 'assumed'})"
    )
    headings = ("delivery", "hours", "GPU-hours", plan.estimate.currency, "late in epoch 0, 1, 2")
    table = _table(title, *headings, left=("delivery",))
    for forecast in plan.forecasts:
        late = ", ".join(f"{share:.0%}" for share in forecast.late_shares[:3])
        hours, gpu_hours = f"{forecast.hours:,.2f}", f"{forecast.gpu_hours:,.2f}"
        table.add_row(forecast.delivery, hours, gpu_hours, _money(forecast.money), late)
    return table


def print_sweep(console: Console, sweep: "Sweep") -> None:
    """Print the compared metric of each complete point, its differences from the baselines, and the verdicts."""
    values = sweep.values(sweep.metric)
    table = Table(title=f"sweep in {sweep.experiment.tune_output}", title_justify="left")
    table.add_column("point")
    table.add_column(f"{sweep.metric}, mean ± standard deviation", justify="right")
    for baseline in sweep.baselines:
        table.add_column(f"above {baseline}, 95 % interval", justify="right")
    above = {
        baseline: {difference.point: difference.paired for difference in differences(values, baseline, sweep.begun)}
        for baseline in sweep.baselines
    }
    for point, by_seed in values.items():
        cells = [_difference(intervals.get(point)) for intervals in above.values()]
        table.add_row(point, _mean_and_spread([*by_seed.values()]), *cells)
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
