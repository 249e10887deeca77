"""What a sweep leaves: `sweep.csv`, a plot a metric, `best.yaml` and what is to be said of it.

Guarantees: everything is made of the stages in storage, so that a partial sweep has partial results of the same shape.
"""

import csv
import io
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, to_yaml, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.evaluation import retrieval, zeroshot
from laclip_ray.intervals import Interval, mean_interval
from laclip_ray.reporting.plots import metrics_against_p
from laclip_ray.reporting.report import MISSING, Report, Table, write_report
from laclip_ray.tuning.comparison import Values, agreement, best_point, complete, differences, verdict
from laclip_ray.tuning.space import P_KEY, baseline_ps, constant_p
from laclip_ray.tuning.trial import Stage
from laclip_ray.versions import package_versions

REPORT_FILE = "sweep.html"


@dataclass(frozen=True)
class Sweep:
    """All that was measured."""

    experiment: Experiment
    stages: tuple[Stage, ...]
    rewrites: int
    """The most rewrites that a caption has: the paper's uniform choice is p = M / (M + 1)."""

    @cached_property
    def finished(self) -> list[Stage]:
        """The last stage of each run that was trained to the end."""
        return [stage for stage in self.stages if stage.epoch == self.experiment.train.epochs]

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that every stage has."""
        named = [set(stage.metrics) for stage in self.stages]
        return sorted(set.intersection(*named)) if named else []

    @property
    def metric(self) -> str:
        """What is compared first."""
        return objective_metric(self.experiment)

    @cached_property
    def begun(self) -> int:
        """Points of which something was measured."""
        return len({stage.point for stage in self.stages})

    def values(self, metric: str, epoch: int | None = None) -> dict[str, dict[int, float]]:
        """A metric after an epoch, the last one by default, of the points complete until then, by point and seed."""
        found: dict[str, dict[int, float]] = {}
        for stage in self.stages:
            if stage.epoch == (epoch or self.experiment.train.epochs) and metric in stage.metrics:
                found.setdefault(stage.point, {})[stage.seed] = stage.metrics[metric]
        return complete(found, self.experiment.tune.seeds)

    @cached_property
    def baselines(self) -> list[str]:
        """The complete points that are the best one with p = 0 (CLIP), and with the paper's uniform choice."""
        known = self.values(self.metric) if self.metrics else {}
        values = {stage.point: stage.values for stage in self.finished if stage.point in known}
        if not known or P_KEY not in values[best_point(known)]:
            return []
        others = _without_p(values[best_point(known)])
        by_p: dict[float, str] = {}
        for point, each in values.items():
            p = constant_p(each.get(P_KEY), self.rewrites)
            if p is not None and _without_p(each) == others:
                by_p.setdefault(p, point)
        return list(dict.fromkeys(by_p[p] for p in baseline_ps(self.rewrites) if p in by_p))

    def verdicts(self) -> list[str]:
        """A sentence for each baseline; where there is none, what was best."""
        values = self.values(self.metric) if self.metrics else {}
        if not values:
            return ["No point is complete yet."]
        if not self.baselines:
            best = best_point(values)
            return [
                f"{self.metric}: {best} is best, {statistics.fmean(values[best].values()):.4f}. No complete point is "
                "the same with p = 0 or the paper's uniform choice, so that nothing is said of how much p gives."
            ]
        return [verdict(values, baseline, self.metric, begun=self.begun) for baseline in self.baselines]


def _without_p(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != P_KEY}


@dataclass(frozen=True)
class Ranking:
    """The order of the points after some epochs, and at the end."""

    epoch: int
    images: int
    """That a run had trained on by then."""
    agreement: float
    """Kendall's tau with the order at the end."""


def rankings(sweep: Sweep, metric: str) -> list[Ranking]:
    """How soon the complete points are in the order in which they end; nothing with fewer than two of them."""
    final = _means(sweep.values(metric))
    found: list[Ranking] = []
    if len(final) < 2:
        return found
    for epoch in sorted({stage.epoch for stage in sweep.stages}):
        means = _means(sweep.values(metric, epoch))
        if final.keys() <= means.keys():
            images = max(stage.images for stage in sweep.stages if stage.epoch == epoch)
            found.append(Ranking(epoch, images, agreement({point: means[point] for point in final}, final)))
    return found


def _means(values: Values) -> dict[str, float]:
    return {point: statistics.fmean(found.values()) for point, found in values.items()}


_METRICS = {"zero-shot": zeroshot.METRICS, "retrieval": retrieval.METRICS}


def metric_names(experiment: Experiment) -> list[str]:
    """`task/dataset/metric` of all that the configuration evaluates, in its order."""
    evaluate = experiment.evaluate
    sets = [("zero-shot", each.name) for each in evaluate.zero_shot]
    sets += [("retrieval", each.name) for each in evaluate.retrieval]
    return [f"{task}/{name}/{metric}" for task, name in sets for metric in _METRICS[task]]


def objective_metric(experiment: Experiment) -> str:
    """What is to be as large as possible: `tune.metric`, or the first top-1, or the first recall.

    Raises:
        UserError: `tune.metric` is nothing that is evaluated.
    """
    names = metric_names(experiment)
    if experiment.tune.metric is None:
        return names[0]
    if experiment.tune.metric not in names:
        raise UserError(f"tune.metric: there is no {experiment.tune.metric}; there are {', '.join(names)}")
    return experiment.tune.metric


def write_sweep(sweep: Sweep) -> None:
    """Write all files of the sweep's directory; nothing where nothing was measured."""
    if not sweep.stages:
        return
    output = sweep.experiment.tune_output
    best = best_experiment(sweep)
    written = {"sweep.csv": _table(sweep), "sweep.svg": _plot(sweep), "best.yaml": to_yaml(best) if best else None}
    for name, content in written.items():
        if content is None:  # an earlier start may have had one
            storage.remove(storage.join(output, name))
        else:
            storage.write_bytes(storage.join(output, name), content.encode())
    write_report(storage.join(output, REPORT_FILE), sweep_report(sweep))


def sweep_report(sweep: Sweep) -> Report:
    """A page about a sweep: what is to be said of it, the points, their differences, the plot."""
    plot = _plot(sweep)
    return Report(
        title=f"Sweep of {sweep.experiment.name}",
        introduction=[
            *sweep.verdicts(),
            f"{len(sweep.values(sweep.metric))} complete points of {len({stage.point for stage in sweep.stages})}, "
            f"{len(sweep.experiment.tune.seeds)} seeds each. All points share a seed's first weights, order, crops and "
            "text draws, so that they are compared seed by seed. Intervals of differences are widened for the number "
            "of points that are compared.",
        ],
        tables=[
            _means_table(sweep),
            *(_differences_table(sweep, baseline) for baseline in sweep.baselines),
            _rankings_table(sweep),
        ],
        plots=[plot] if plot else [],
        versions=package_versions(),
    )


def _plot(sweep: Sweep) -> str | None:
    """Every metric against p, of the complete points that are nothing but a p; None where there are none."""
    metrics = {metric: found for metric in sweep.metrics if (found := _by_p(sweep, metric))}
    return metrics_against_p(metrics) if metrics else None


def _means_table(sweep: Sweep) -> Table:
    rows = []
    for point in sweep.values(sweep.metric):
        stages = [stage for stage in sweep.finished if stage.point == point]
        cells = [_share(mean_interval([*sweep.values(metric)[point].values()])) for metric in sweep.metrics]
        p_effective = statistics.fmean(stage.p_effective for stage in stages)
        rows.append((point, *cells, f"{p_effective:.3f}", f"{sum(stage.gpu_hours for stage in stages):.2f}"))
    return Table(
        "Complete points: mean over the seeds and its 95 % interval, in %",
        ("point", *sweep.metrics, "effective p", "GPU-hours"),
        tuple(rows),
    )


def _differences_table(sweep: Sweep, baseline: str) -> Table:
    by_metric = {
        metric: {each.point: each.paired for each in differences(sweep.values(metric), baseline, sweep.begun)}
        for metric in sweep.metrics
    }
    points = [point for point in sweep.values(sweep.metric) if point != baseline]
    return Table(
        f"Differences from {baseline}, seed by seed, in percentage points; with 95 % intervals for all points together",
        ("point", *sweep.metrics),
        tuple((point, *(_share(by_metric[metric][point]) for metric in sweep.metrics)) for point in points),
    )


def _rankings_table(sweep: Sweep) -> Table:
    by_metric = {metric: rankings(sweep, metric) for metric in sweep.metrics}
    lines = zip(*by_metric.values(), strict=True)
    return Table(
        "How far the order of the points agrees with that at the end (Kendall's tau: 1 is the same order, 0 is chance)",
        ("epoch", "images a run", *by_metric),
        tuple(
            (str(line[0].epoch), f"{line[0].images:,}", *(f"{each.agreement:.2f}" for each in line)) for line in lines
        ),
    )


def _share(interval: Interval) -> str:
    if interval.half_width is None:
        return f"{100 * interval.mean:.2f} ± {MISSING}"
    return f"{100 * interval.mean:.2f} ± {100 * interval.half_width:.2f}"


def best_experiment(sweep: Sweep) -> Experiment | None:
    """The configuration of the best complete point; None where no point is complete."""
    values = sweep.values(sweep.metric)
    if not values:
        return None
    name = best_point(values)
    found = next(stage for stage in sweep.finished if stage.point == name)
    return with_overrides(sweep.experiment, found.values)


def _by_p(sweep: Sweep, metric: str) -> dict[float, list[float]]:
    """A metric's values over the seeds, by p, of the points that are nothing but a number p."""
    number = {
        stage.point: float(p)
        for stage in sweep.finished
        if set(stage.values) == {P_KEY} and isinstance(p := stage.values[P_KEY], int | float)
    }
    found = sweep.values(metric)
    return {
        p: list(found[point].values())
        for point, p in sorted(number.items(), key=lambda item: item[1])
        if point in found
    }


def _table(sweep: Sweep) -> str:
    """`sweep.csv`: a row a run and stage."""
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
    """What comparing seed by seed is worth."""

    paired_variance: float
    """Of the difference of two runs with one seed, the mean over all points against a baseline."""
    unpaired_variance: float
    """Of the difference of two independent runs, the same."""


def pairing(sweep: Sweep, baseline: str, metric: str) -> Pairing | None:
    """The variance of differences with and without pairs; None with fewer than two seeds or points."""
    values = sweep.values(metric)
    found = differences(values, baseline) if baseline in values else []
    paired = [each.paired_variance for each in found if each.paired_variance is not None]
    unpaired = [each.unpaired_variance for each in found if each.unpaired_variance is not None]
    if not paired:
        return None
    return Pairing(statistics.fmean(paired), statistics.fmean(unpaired))
