"""Tables on the console, one for each verb's result."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.rewriting.pipeline import Outcome
from laclip_ray.training.run import TrainingResult
from laclip_ray.tuning import Sweep


def print_rewriting(console: Console, outcome: Outcome, experiment: Experiment) -> None:
    """What became of the captions, by prompt set, and every reason why one was not rewritten."""
    table = Table(title=f"rewrite sets in {experiment.rewrite_output}", title_justify="left")
    for heading in (
        "prompt set",
        "captions",
        "accepted",
        "without a rewrite",
        "output tokens",
        "cached prompt",
    ):
        table.add_column(heading, justify="left" if heading == "prompt set" else "right")
    for name, counts in outcome.statistics.items():
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
    for name, counts in outcome.statistics.items():
        for kind, reasons in (("rejected", counts.rejected), ("noted", counts.problems)):
            for reason, number in reasons.most_common():
                named = ", ".join(counts.named.get(reason, [])[:3])
                console.print(
                    f"  {name}: {kind} {reason} {number:,} ({named}{', …' if number > 3 else ''})",
                    markup=False,
                )
    console.print(
        f"{outcome.shards} shards, {outcome.shards_done_before} done before, {outcome.commits} committed now by "
        f"{len(outcome.engines)} engine(s) in {outcome.elapsed_s:.0f} s"
    )


def print_training(console: Console, result: TrainingResult, experiment: Experiment) -> None:
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
    """Each metric against p: mean and standard deviation over the seeds."""
    table = Table(title=f"sweep in {sweep.output}", title_justify="left")
    values_of = {metric: sweep.values(metric) for metric in sweep.metrics}
    for heading in ("p", "seeds", *values_of):
        table.add_column(heading, justify="right")
    for p in sorted({result.trial.p for result in sweep.results}):
        seeds = [result for result in sweep.results if result.trial.p == p and result.error is None]
        cells = [_mean_and_spread(values.get(p, [])) for values in values_of.values()]
        table.add_row(f"{p:g}", str(len(seeds)), *cells)
    console.print(table)


def _mean_and_spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2%}" if values else "failed"
    return f"{fmean(values):.2%} ± {stdev(values):.2%}"
