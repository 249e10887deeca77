"""The results of a sweep: `sweep.csv`, a plot of each metric, `best.yaml`, and a page with the verdicts.

Guarantees: results are computed from the stored stages alone. A partial sweep has partial results in the same form.
"""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from laclip_ray import storage
from laclip_ray.config import EvaluateConfig, Experiment, TuneConfig, to_config, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.evaluation.tasks import metric_names
from laclip_ray.intervals import Interval, mean_interval
from laclip_ray.nearest import did_you_mean
from laclip_ray.reporting.names import full_name, order_of
from laclip_ray.reporting.page import MISSING, Page, Plot, Section, Table, render_page
from laclip_ray.reporting.plots import metric_against_p, metrics_against_p, on_ground
from laclip_ray.reporting.report import versions_pairs
from laclip_ray.tuning.comparison import Values, agreement, best_point, complete, differences, verdict
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import P_KEY, baseline_ps, constant_p
from laclip_ray.tuning.stages import Stage
from laclip_ray.versions import package_versions


@dataclass(frozen=True)
class Sweep:
    """A sweep's results so far."""

    experiment: Experiment
    stages: tuple[Stage, ...]
    """Of all runs, ordered by point, seed and epoch."""
    rewrites: int
    """M, the most rewrites of a caption: the paper's uniform choice is p = M / (M + 1)."""
    was_finished: bool = False
    """Whether earlier starts had trained every point, so this one did nothing."""

    @cached_property
    def finished(self) -> list[Stage]:
        """The last stage of each complete run."""
        return [stage for stage in self.stages if stage.epoch == self.experiment.train.epochs]

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that every stage has."""
        names = [set(stage.metrics) for stage in self.stages]
        return sorted(set.intersection(*names)) if names else []

    @property
    def metric(self) -> str:
        """The metric that the sweep maximises."""
        return objective_metric(self.experiment.tune, self.experiment.evaluate)

    @property
    def shown_metrics(self) -> list[str]:
        """The metrics in the order of tables and plots: the maximised one first."""
        return sorted(self.metrics, key=lambda name: (name != self.metric, order_of(name)))

    @cached_property
    def begun(self) -> int:
        """Number of points with at least one stage."""
        return len({stage.point for stage in self.stages})

    def values(self, metric: str, epoch: int | None = None) -> dict[str, dict[int, float]]:
        """A metric after an epoch (default: the last one), by point and seed, of points with a value for every seed."""
        epoch = epoch or self.experiment.train.epochs
        values: dict[str, dict[int, float]] = {}
        for stage in self.stages:
            if stage.epoch == epoch and metric in stage.metrics:
                values.setdefault(stage.point, {})[stage.seed] = stage.metrics[metric]
        return complete(values, self.experiment.tune.seeds)

    @cached_property
    def baselines(self) -> list[str]:
        """The points to compare with: like the best point, but with p = 0 (CLIP) or the paper's uniform choice.

        Only complete points count. Empty if the best point has no value of p.
        """
        objective = self.values(self.metric) if self.metrics else {}
        points = {stage.point: stage.values for stage in self.finished if stage.point in objective}
        if not objective or P_KEY not in points[best_point(objective)]:
            return []
        best_without_p = _without_p(points[best_point(objective)])
        by_p: dict[float, str] = {}
        for point, values in points.items():
            p = constant_p(values.get(P_KEY), self.rewrites)
            if p is not None and _without_p(values) == best_without_p:
                by_p.setdefault(p, point)
        return list(dict.fromkeys(by_p[p] for p in baseline_ps(self.rewrites) if p in by_p))

    def verdicts(self) -> list[str]:
        """One verdict per baseline. Without a baseline, a sentence about the best point."""
        values = self.values(self.metric) if self.metrics else {}
        if not values:
            return ["No point is complete yet."]
        if not self.baselines:
            best = best_point(values)
            return [
                f"{full_name(self.metric)}: {best} is best, {statistics.fmean(values[best].values()):.4f}. No complete "
                "point is the same with p = 0 or the paper's uniform choice, so the gain from p is unknown."
            ]
        return [verdict(values, baseline, full_name(self.metric), begun=self.begun) for baseline in self.baselines]


def _without_p(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != P_KEY}


@dataclass(frozen=True)
class Ranking:
    """The order of the points after an epoch, compared with the final order."""

    epoch: int
    images: int
    """Images that a run had trained on by then."""
    agreement: float
    """Kendall's tau of the two orders."""


def rankings(sweep: Sweep, metric: str) -> list[Ranking]:
    """How well the order of the complete points agrees with the final order, by epoch.

    Empty for fewer than two complete points.
    """
    final = _means(sweep.values(metric))
    if len(final) < 2:
        return []
    by_epoch: list[Ranking] = []
    for epoch in sorted({stage.epoch for stage in sweep.stages}):
        means = _means(sweep.values(metric, epoch))
        if final.keys() <= means.keys():
            images = max(stage.images for stage in sweep.stages if stage.epoch == epoch)
            by_epoch.append(Ranking(epoch, images, agreement({point: means[point] for point in final}, final)))
    return by_epoch


def _means(values: Values) -> dict[str, float]:
    return {point: statistics.fmean(by_seed.values()) for point, by_seed in values.items()}


def objective_metric(tune: TuneConfig, evaluate: EvaluateConfig) -> str:
    """The name of the metric to maximise: `tune.metric`, or else the first top-1, or else the first recall.

    Raises:
        UserError: the evaluation does not compute `tune.metric`.
    """
    names = metric_names(evaluate)
    if tune.metric is None:
        return names[0]
    if tune.metric not in names:
        near = did_you_mean(tune.metric, names)
        raise UserError(f"tune.metric: there is no {tune.metric}; there are {', '.join(names)}{near}")
    return tune.metric


def write_sweep(sweep: Sweep) -> None:
    """Write all result files of a sweep, if it has any stage."""
    if not sweep.stages:
        return
    paths, best = SweepPaths(sweep.experiment.tune_output), best_experiment(sweep)
    plot = _plot_of_all(sweep)
    files = {
        paths.table: _csv(sweep),
        paths.plot: on_ground(plot) if plot else None,
        paths.best: to_config(best) if best else None,
    }
    for url, content in files.items():
        if content is None:  # an earlier start may have written one
            storage.remove(url)
        else:
            storage.write_bytes(url, content.encode())
    storage.write_bytes(paths.report, render_page(sweep_page(sweep)).encode())


def sweep_page(sweep: Sweep) -> Page:
    """The page about a sweep."""
    return Page(
        title=f"Sweep of {sweep.experiment.name}",
        result=result_of(sweep),
        introduction=sweep.verdicts(),
        sections=[*sweep_sections(sweep), Section("versions", "Versions", pairs=versions_pairs(package_versions()))],
    )


def result_of(sweep: Sweep) -> str:
    """The best complete point, beside those it is compared with; empty without one."""
    values = sweep.values(sweep.metric) if sweep.metrics else {}
    if not values:
        return ""
    best = best_point(values)
    points = [best, *(baseline for baseline in sweep.baselines if baseline != best)]
    shown = (f"{_percent(mean_interval([*values[point].values()]))} % at {point}" for point in points)
    return f"{full_name(sweep.metric)} {', '.join(shown)}"


def sweep_sections(sweep: Sweep) -> list[Section]:
    """The plots of a sweep, the compared metric first, and its means, differences and rankings."""
    points = len(sweep.values(sweep.metric)) if sweep.metrics else 0
    about = (
        f"{points} complete points of {sweep.begun}, {len(sweep.experiment.tune.seeds)} seeds each. All points share a "
        "seed's initial weights, order, crops and text draws, so they are compared seed by seed. Intervals of "
        "differences are widened for the number of points compared."
    )
    tables = [_means_table(sweep), *(_differences_table(sweep, baseline) for baseline in sweep.baselines)]
    return [
        Section(
            "sweep",
            "Sweep",
            paragraphs=[about],
            plots=_plots(sweep),
            tables=[table for table in [*tables, _rankings_table(sweep)] if table.rows],
        )
    ]


def _plots(sweep: Sweep) -> list[Plot]:
    """Each metric against p: the compared one large, with the paper's p."""
    uniform = baseline_ps(sweep.rewrites)[1]
    marked = (uniform, f"the paper's p = {sweep.rewrites}/{sweep.rewrites + 1}") if sweep.rewrites else None
    plots = []
    for metric in sweep.shown_metrics:
        if points := _by_p(sweep, metric):
            is_compared = metric == sweep.metric
            svg = metric_against_p(
                points, full_name(metric), _half_width, marked=marked if is_compared else None,
                is_wide=is_compared, has_legend=is_compared,
            )  # fmt: skip
            plots.append(Plot(svg, is_compared))
    return plots


def _plot_of_all(sweep: Sweep) -> str | None:
    """Each metric against p, of complete points that set p alone, to a number; None without such points."""
    metrics = {full_name(metric): values for metric in sweep.shown_metrics if (values := _by_p(sweep, metric))}
    return metrics_against_p(metrics, _half_width) if metrics else None


def _half_width(values: Sequence[float]) -> float | None:
    return mean_interval(values).half_width


def _means_table(sweep: Sweep) -> Table:
    rows = []
    for point in sweep.values(sweep.metric) if sweep.metrics else ():
        stages = [stage for stage in sweep.finished if stage.point == point]
        cells = [_percent(mean_interval([*sweep.values(metric)[point].values()])) for metric in sweep.shown_metrics]
        p_effective = statistics.fmean(stage.p_effective for stage in stages)
        rows.append((point, *cells, f"{p_effective:.3f}", f"{sum(stage.gpu_hours for stage in stages):.2f}"))
    return _by_fewer(
        "Complete points: mean over the seeds and its 95 % interval, in %",
        ("point", *map(full_name, sweep.shown_metrics), "effective p", "GPU-hours"),
        rows,
    )


def _differences_table(sweep: Sweep, baseline: str) -> Table:
    by_metric = {
        metric: {each.point: each.paired for each in differences(sweep.values(metric), baseline, sweep.begun)}
        for metric in sweep.shown_metrics
    }
    points = [point for point in sweep.values(sweep.metric) if point != baseline]
    return _by_fewer(
        f"Differences from {baseline}, seed by seed, in percentage points; with 95 % intervals for all points together",
        ("point", *map(full_name, sweep.shown_metrics)),
        [(point, *(_percent(by_metric[metric][point]) for metric in sweep.shown_metrics)) for point in points],
    )


def _by_fewer(caption: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table of points, or of metrics if the points are fewer: few columns fit a page."""
    if not rows or len(rows) >= len(headings) - 1:
        return Table(caption, headings, tuple(rows))
    columns = [("metric", *headings[1:]), *rows]
    (first, *others) = zip(*columns, strict=True)
    return Table(caption, first, tuple(others))


def _rankings_table(sweep: Sweep) -> Table:
    """The rankings by epoch; without rows if only the final epoch was measured, whose order agrees with itself."""
    by_metric = {full_name(metric): rankings(sweep, metric) for metric in sweep.shown_metrics}
    lines = [*zip(*by_metric.values(), strict=True)]
    if len(lines) < 2:
        lines = []
    return Table(
        "How well the order of the points agrees with the final one (Kendall's tau: 1 is the same order, 0 is chance)",
        ("epoch", "images a run", *by_metric),
        tuple(
            (str(line[0].epoch), f"{line[0].images:,}", *(f"{ranking.agreement:.2f}" for ranking in line))
            for line in lines
        ),
    )


def _percent(interval: Interval) -> str:
    """An interval of shares, in per cent."""
    if interval.half_width is None:
        return f"{100 * interval.mean:.2f} ± {MISSING}"
    return f"{100 * interval.mean:.2f} ± {100 * interval.half_width:.2f}"


def best_experiment(sweep: Sweep) -> Experiment | None:
    """The configuration of the best complete point; None without a complete point."""
    values = sweep.values(sweep.metric)
    if not values:
        return None
    best = best_point(values)
    stage = next(stage for stage in sweep.finished if stage.point == best)
    return with_overrides(sweep.experiment, stage.values)


def _by_p(sweep: Sweep, metric: str) -> dict[float, list[float]]:
    """A metric's values over the seeds, by p, of complete points that set p alone, to the same in every epoch."""
    ps = {
        stage.point: p
        for stage in sweep.finished
        if set(stage.values) == {P_KEY} and (p := constant_p(stage.values[P_KEY], sweep.rewrites)) is not None
    }
    values = sweep.values(metric)
    by_p: dict[float, list[float]] = {}
    for point, p in sorted(ps.items(), key=lambda item: item[1]):
        if point in values:
            by_p.setdefault(p, list(values[point].values()))
    return by_p


def _csv(sweep: Sweep) -> str:
    """The content of `sweep.csv`: a row for each run and stage."""
    keys = sorted({key for stage in sweep.stages for key in stage.values})
    text = io.StringIO()
    writer = csv.writer(text)
    fixed = ("point", "seed", "epoch", "p_effective", "images", "gpu_hours", "money")
    writer.writerow([*fixed, *keys, *sweep.metrics])
    for stage in sweep.stages:
        row = [getattr(stage, name) for name in fixed]
        values = [stage.values.get(key, "") for key in keys]
        writer.writerow([*row, *values, *(stage.metrics[metric] for metric in sweep.metrics)])
    return text.getvalue()


@dataclass(frozen=True)
class Pairing:
    """The benefit of comparing seed by seed."""

    paired_variance: float
    """Variance of the difference between two runs with one seed; mean over all points against a baseline."""
    unpaired_variance: float
    """The same for two independent runs."""


def pairing(sweep: Sweep, baseline: str, metric: str) -> Pairing | None:
    """The variance of differences with and without pairs; None for fewer than two seeds or points."""
    values = sweep.values(metric)
    compared = differences(values, baseline) if baseline in values else []
    paired = [each.paired_variance for each in compared if each.paired_variance is not None]
    unpaired = [each.unpaired_variance for each in compared if each.unpaired_variance is not None]
    if not paired:
        return None
    return Pairing(statistics.fmean(paired), statistics.fmean(unpaired))
