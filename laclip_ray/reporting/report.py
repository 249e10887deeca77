"""The page of the demo: results by p, plots, pictures with their rewrites, counts, times and versions.

Guarantees: those of `page`. The type of an image is read from its first bytes.
Not covered: choosing the samples, or checking the numbers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from laclip_ray.reporting.gallery import Gallery, RewrittenSample
from laclip_ray.reporting.names import metric_name
from laclip_ray.reporting.page import MISSING, Page, Pairs, Plot, Section, Table, render_page
from laclip_ray.reporting.plots import HalfWidth, loss_curves, metric_against_p


@dataclass(frozen=True)
class ResultRow:
    """A trained and evaluated run. Accuracies and recalls are shares from 0 to 1."""

    run: str
    p: float
    """Requested augmentation probability."""
    seed: int
    p_effective: float
    """Share of rewrites among the texts shown in training."""
    steps: int
    final_loss: float
    zero_shot_top1: float
    zero_shot_mean_per_class: float
    retrieval: Mapping[str, float]
    """Recall by metric, such as `image_to_text_r1`."""


@dataclass(frozen=True)
class RewritingSummary:
    """Outcomes of the captions under one prompt set."""

    prompt_set: str
    captions: int
    accepted: int
    """Number of rewrites that the gate accepted."""
    captions_without_rewrite: int
    rejected: Mapping[str, int]
    """Number of rewrites that the gate refused, by reason."""
    problems: Mapping[str, int]
    """Number of captions with a recorded problem, by problem."""


@dataclass(frozen=True)
class Report:
    """Content of a page."""

    title: str
    introduction: Sequence[str] = ()
    """Paragraphs."""
    samples: Sequence[RewrittenSample] = ()
    rewriting: Sequence[RewritingSummary] = ()
    results: Sequence[ResultRow] = ()
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """The (epoch, loss) points of each run, by its name."""
    elapsed: Mapping[str, float] = field(default_factory=dict)
    """Duration of each stage, in seconds."""
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version of each package."""


def render_report(report: Report, half_width: HalfWidth | None = None) -> str:
    """Render the page of `report` as a complete HTML document. Characters that UTF-8 cannot encode become `?`.

    Args:
        report: the content.
        half_width: computes the intervals of the plots against p. None: the plots have no intervals.
    """
    results = _result_tables(report.results, _has_several_seeds(report.results))
    gallery = Gallery.of(report.samples)
    elapsed = tuple((stage, _duration(seconds)) for stage, seconds in report.elapsed.items())
    sections = [
        Section("results", "Results", tables=results),
        Section("plots", "Plots", plots=_plots(report, half_width)),
        gallery_section(gallery),
        Section("rewriting", "Rewriting", tables=rewriting_tables(report.rewriting)),
        Section("time", "Time", pairs=_pairs("Time taken by stage", ("stage", "time"), elapsed)),
        Section("notes", "Notes", notes=report.notes),
        Section("versions", "Versions", pairs=versions_pairs(report.versions)),
    ]
    return render_page(Page(report.title, _result(report.results), report.introduction, sections=sections))


def _result(results: Sequence[ResultRow]) -> str:
    """Zero-shot top-1 by p, the mean over seeds; empty without results."""
    means = {p: fmean(row.zero_shot_top1 for row in rows) for p, rows in _by_p(results).items()}
    shown = ", ".join(f"{_percent(mean)} % with p = {p:g}" for p, mean in means.items())
    return f"Zero-shot top-1 {shown}" if shown else ""


def gallery_section(gallery: Gallery) -> Section:
    """The section of a gallery."""
    title = "Pictures and texts" if gallery.has_pictures else "Captions and rewrites"
    return Section("pictures", title, gallery=gallery if gallery.cards else None)


def versions_pairs(versions: Mapping[str, str]) -> list[Pairs]:
    """The versions of packages; empty without any."""
    return _pairs("Versions of the software", ("package", "version"), tuple(versions.items()))


def _pairs(caption: str, headings: tuple[str, str], pairs: tuple[tuple[str, str], ...]) -> list[Pairs]:
    return [Pairs(caption, headings, pairs)] if pairs else []


def _by_p(results: Sequence[ResultRow]) -> dict[float, list[ResultRow]]:
    return {p: [row for row in results if row.p == p] for p in sorted({row.p for row in results})}


def _has_several_seeds(results: Sequence[ResultRow]) -> bool:
    return any(len(rows) > 1 for rows in _by_p(results).values())


def _recalls(results: Iterable[ResultRow]) -> list[str]:
    """All retrieval metrics, in the order of their first appearance."""
    return list(dict.fromkeys(metric for row in results for metric in row.retrieval))


def _percent(share: float) -> str:
    """A share in per cent. The table's caption has the sign."""
    return f"{100 * share:.2f}"


def _mean(values: Sequence[float | None], scale: float, digits: int) -> str:
    """Mean ± standard deviation over seeds. One seed has no deviation; a missing value gives a dash."""
    scaled = [scale * value for value in values if value is not None]
    if len(scaled) < len(values):
        return MISSING
    spread = f" ± {stdev(scaled):.{digits}f}" if len(scaled) > 1 and all(map(math.isfinite, scaled)) else ""
    return f"{fmean(scaled):.{digits}f}{spread}"


def _result_tables(results: Sequence[ResultRow], several_seeds: bool) -> list[Table]:
    """The table of means (only with several seeds), then the table of runs."""
    if not results:
        return []
    recalls = _recalls(results)
    metrics = ("zero-shot top-1", "zero-shot mean per class", *map(metric_name, recalls))
    runs = Table(
        "Every run; accuracies and recalls in %",
        ("run", "p", "seed", *metrics, "final loss", "effective p", "steps"),
        tuple(
            (
                row.run,
                f"{row.p:g}",
                str(row.seed),
                _percent(row.zero_shot_top1),
                _percent(row.zero_shot_mean_per_class),
                *(_percent(row.retrieval[name]) if name in row.retrieval else MISSING for name in recalls),
                f"{row.final_loss:.4f}",
                f"{row.p_effective:.4f}",
                f"{row.steps:,}",
            )
            for row in results
        ),
    )
    if not several_seeds:
        return [runs]
    means = Table(
        "Mean ± standard deviation over seeds, by augmentation probability p; accuracies and recalls in %",
        ("p", "seeds", *metrics, "final loss", "effective p"),
        tuple(
            (
                f"{p:g}",
                str(len(rows)),
                _mean([row.zero_shot_top1 for row in rows], 100, 2),
                _mean([row.zero_shot_mean_per_class for row in rows], 100, 2),
                *(_mean([row.retrieval.get(name) for row in rows], 100, 2) for name in recalls),
                _mean([row.final_loss for row in rows], 1, 3),
                _mean([row.p_effective for row in rows], 1, 3),
            )
            for p, rows in _by_p(results).items()
        ),
    )
    return [means, runs]


def _plots(report: Report, half_width: HalfWidth | None) -> list[Plot]:
    """Zero-shot top-1 and the recalls at 1 against p (only with several p), then the loss curves."""
    plots = []
    grouped = _by_p(report.results)
    if len(grouped) > 1:
        plots.append(
            metric_against_p(
                {p: [row.zero_shot_top1 for row in rows] for p, rows in grouped.items()}, "Zero-shot top-1", half_width
            )
        )
        for metric in _recalls(report.results):
            points = {
                p: [row.retrieval[metric] for row in rows if metric in row.retrieval] for p, rows in grouped.items()
            }
            if metric.endswith("_r1") and sum(map(bool, points.values())) > 1:
                name = metric_name(metric)
                plots.append(metric_against_p(points, f"Retrieval, {name}", half_width))
    if any(report.curves.values()):
        plots.append(loss_curves(report.curves))
    return [Plot(plot) for plot in plots]


def rewriting_tables(summaries: Sequence[RewritingSummary]) -> list[Table]:
    """Counts by prompt set, then refusals by reason and problems, each by prompt set."""
    if not summaries:
        return []
    tables = [
        Table(
            "Captions and rewrites by prompt set",
            ("prompt set", "captions", "rewrites accepted", "rewrites refused", "captions without a rewrite"),
            tuple(
                (
                    summary.prompt_set,
                    f"{summary.captions:,}",
                    f"{summary.accepted:,}",
                    f"{sum(summary.rejected.values()):,}",
                    f"{summary.captions_without_rewrite:,}"
                    + (f" ({summary.captions_without_rewrite / summary.captions:.1%})" if summary.captions else ""),
                )
                for summary in summaries
            ),
        )
    ]
    names = tuple(summary.prompt_set for summary in summaries)
    for caption, heading, counts in (
        ("Rewrites refused, by reason", "reason", [summary.rejected for summary in summaries]),
        ("Captions with a recorded problem, by problem", "problem", [summary.problems for summary in summaries]),
    ):
        totals = {
            reason: sum(count.get(reason, 0) for count in counts)
            for reason in dict.fromkeys(reason for count in counts for reason in count)
        }
        if totals:
            ranked = sorted(totals, key=lambda reason: (-totals[reason], reason))
            rows = tuple((reason, *(f"{count.get(reason, 0):,}" for count in counts)) for reason in ranked)
            tables.append(Table(caption, (heading, *names), rows))
    return tables


def _duration(seconds: float) -> str:
    """Format a duration in seconds, and from two minutes also in minutes or hours."""
    text = f"{seconds:,.1f} s"
    if seconds >= 7200:
        return f"{text} ({seconds / 3600:.1f} h)"
    return f"{text} ({seconds / 60:.1f} min)" if seconds >= 120 else text
