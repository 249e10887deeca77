"""Training in a report: curves, throughput, waiting, requested and shown p. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray.reporting import plots
from laclip_ray.reporting.names import full_name
from laclip_ray.reporting.page import MISSING, Plot, Section, Table
from laclip_ray.run_report.facts import MetricsLine, RunFacts, counts_in
from laclip_ray.run_report.vocabulary import thinned

_METRICS_BY_EPOCH = 6
_POINTS = 300
"""Of a curve."""
_CURVES = (
    ("loss", "Training loss", False, False),
    ("images_per_s", "Throughput, images a second", False, True),
    ("waiting_share", "Share of its time that the first worker waits for data", True, True),
    ("learning_rate", "Learning rate", False, True),
    ("logit_scale", "Logit scale", False, False),
)
"""Key, title, whether it is a share, whether its axis begins at zero."""
_TOPS = {"waiting_share": 0.05}
"""By key, the least upper end of the axis."""


def training_section(runs: Sequence[RunFacts]) -> Section | None:
    """The curves of all runs together; None without training."""
    trained = {run.name: run for run in runs if run.training is not None}
    if not trained:
        return None
    lines = {name: run.training.lines for name, run in trained.items() if run.training is not None}
    drawn = [
        Plot(plots.lines(title, "epoch", series, as_share=as_share, from_zero=from_zero, least_top=_TOPS.get(key, 0.0)))
        for key, title, as_share, from_zero in _CURVES
        if _is_curve(series := _named(_series(lines, key)))
    ]
    drawn[1:1] = [Plot(plot) for plot in _of_p(lines)]
    drawn += [Plot(plot) for plot in _evaluated_epochs(trained)]
    thinned_runs = [
        name for name, run in trained.items() if run.training is not None and not run.training.lines_are_all
    ]
    notes = [f"{name}: the curves are drawn from a part of its metrics." for name in thinned_runs]
    return Section(
        "training", "Training", paragraphs=loss_notes(runs), plots=drawn, tables=[_summary(trained)], notes=notes
    )


def _series(lines: Mapping[str, Sequence[MetricsLine]], key: str) -> dict[str, Sequence[tuple[float, float]]]:
    """The (epoch, value) points of a key, by run."""
    found: dict[str, Sequence[tuple[float, float]]] = {}
    for name, of_run in lines.items():
        drawn = [line for line in of_run if _is_number(line.get(key)) and _is_number(line.get("epoch"))]
        points = [(float(line["epoch"]), float(line[key])) for line in drawn]
        if points:
            found[name] = thinned(points, _POINTS)
    return found


def _is_curve(series: Mapping[str, Sequence[tuple[float, float]]]) -> bool:
    """Whether points say more than the table of last values."""
    return any(len(points) > 1 for points in series.values())


def _named(series: dict[str, Sequence[tuple[float, float]]]) -> dict[str, Sequence[tuple[float, float]]]:
    """One run needs no legend."""
    return series if len(series) != 1 else {"value": next(iter(series.values()))}


def _of_p(lines: Mapping[str, Sequence[MetricsLine]]) -> list[str]:
    """Requested and shown p; empty if no run shows rewrites."""
    requested, shown = _series(lines, "p"), _series(lines, "p_effective")
    if not any(value for points in (*requested.values(), *shown.values()) for _, value in points):
        return []
    if not _is_curve(requested):
        return []
    is_one = len(lines) == 1
    series = {}
    for name, points in requested.items():
        series["requested" if is_one else f"{name}, requested"] = points
        if name in shown:
            series["shown" if is_one else f"{name}, shown"] = shown[name]
    return [plots.lines("Share of rewrites p: requested and shown", "epoch", series, as_share=True, from_zero=True)]


def _evaluated_epochs(runs: Mapping[str, RunFacts]) -> list[str]:
    """The first metrics of models evaluated during training, by epoch."""
    by_run = {name: run.training.evaluations for name, run in runs.items() if run.training is not None}
    keys = dict.fromkeys(key for lines in by_run.values() for line in lines for key in line if "/" in key)
    return [
        plots.lines(full_name(key), "epoch", series, as_share=True)
        for key in list(keys)[:_METRICS_BY_EPOCH]
        if (series := _named(_series(by_run, key)))
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _summary(runs: Mapping[str, RunFacts]) -> Table:
    facts = {name: training_facts(run) for name, run in runs.items()}
    names = dict.fromkeys(fact for of_run in facts.values() for fact in of_run)
    rows = tuple((fact, *(of_run.get(fact, MISSING) for of_run in facts.values())) for fact in names)
    return Table("Training in numbers", ("", *facts) if len(facts) > 1 else ("", "value"), rows)


def training_facts(run: RunFacts) -> dict[str, str]:
    """The most important numbers of a training run, by name."""
    assert run.training is not None
    status, lines = run.status.training, run.training.lines
    facts: dict[str, str] = {}
    if status is not None:
        facts["state"] = status.state
        if status.step is not None:
            facts["steps"] = f"{status.step:,}" + (f" of {status.steps:,}" if status.steps else "")
        if status.epoch is not None:
            facts["epochs"] = f"{status.epoch:.2f}" + (f" of {status.epochs}" if status.epochs else "")
    if not lines:
        return facts
    last = lines[-1]
    for key, name in (("batch_size", "batch"), ("samples", "samples trained on")):
        if _is_number(last.get(key)):
            facts[name] = f"{last[key]:,}"
    if _is_number(last.get("loss")):
        facts["last loss"] = f"{last['loss']:.4f}"
    for key, name in (("p", "p requested"), ("p_effective", "p shown")):
        if _is_number(last.get(key)):
            facts[name] = f"{last[key]:.3g}"
    for group, start in (("fallbacks", "captions shown instead"), ("skipped", "samples skipped")):
        for reason, count in counts_in(last, group).items():
            if count:
                facts[f"{start}: {reason.replace('_', ' ')}"] = f"{count:,}"
    rates = sorted(line["images_per_s"] for line in lines if _is_number(line.get("images_per_s")))
    if rates:
        facts["images a second, median"] = f"{rates[len(rates) // 2]:,.0f}"
    times = [line["unix_time_s"] for line in lines if _is_number(line.get("unix_time_s"))]
    if len(times) > 1:
        facts["time from the first to the last line"] = duration(times[-1] - times[0])
    return facts


def duration(seconds: float) -> str:
    """A duration for a person.

    >>> duration(27), duration(1_000), duration(9_000)
    ('27 s', '16.7 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def loss_notes(runs: Sequence[RunFacts]) -> list[str]:
    """Why losses of the runs cannot be compared; empty if they can."""
    trained = [run for run in runs if run.training is not None and run.training.lines]
    if len(trained) < 2:
        return []
    notes = []
    texts = {run.name: _texts(run) for run in trained}
    if len(set(texts.values())) > 1:
        shown = "; ".join(f"{name}: p = {_last(run, 'p_effective')}" for name, run in zip(texts, trained, strict=True))
        notes.append(
            f"The losses cannot be compared, because the runs show different texts ({shown}). Compare their "
            "evaluations."
        )
    batches = {_last(run, "batch_size") for run in trained}
    if len(batches) > 1:
        notes.append(
            "The losses cannot be compared, because the batches differ: a picture has more wrong texts in a larger "
            "batch."
        )
    return notes


def _texts(run: RunFacts) -> str:
    """What decides the texts that a run shows."""
    text = dict(run.experiment.get("text", {}))
    data = dict(run.experiment.get("data", {}))
    rewrite = dict(run.experiment.get("rewrite", {}))
    of_rewrites = (rewrite.get("model"), rewrite.get("prompt_sets"), rewrite.get("output"))
    return repr((text, data.get("path"), of_rewrites if text.get("p") else None, _last(run, "p")))


def _last(run: RunFacts, key: str) -> str:
    assert run.training is not None
    value = run.training.lines[-1].get(key)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
