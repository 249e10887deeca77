"""Cost, lineage, commands, configs and versions in a report. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray.config.yaml_text import dump_yaml
from laclip_ray.redaction import redact, redacted
from laclip_ray.reporting.page import MISSING, Details, Pairs, Section, Table
from laclip_ray.reporting.report import versions_pairs
from laclip_ray.run_report.facts import RunFacts
from laclip_ray.run_report.training_section import duration

_COMMANDS = {"rewriting": "rewrite", "training": "train", "sweep": "tune", "evaluation": "evaluate"}


def cost_section(runs: Sequence[RunFacts]) -> Section:
    """Hours and money, of rewriting, of training and of a sweep."""
    rows: list[tuple[str, ...]] = []
    for run in runs:
        start = f"{run.name}: " if len(runs) > 1 else ""
        if run.rewriting is not None and run.rewriting.summary:
            rows.append((f"{start}rewriting", *_rewriting_cost(run.rewriting.summary)))
        if seconds := _training_seconds(run):
            rows.append((f"{start}training", duration(seconds), *[MISSING] * 3))
        if run.sweep is not None:
            newest = {(stage.point, stage.seed): stage for stage in run.sweep.stages}
            money = [stage.money for stage in newest.values() if stage.money is not None]
            gpu_hours = sum(stage.gpu_hours for stage in newest.values())
            shown = f"{sum(money):,.2f}" if money else MISSING
            rows.append((f"{start}sweep", MISSING, f"{gpu_hours:.3f}", shown, MISSING))
    table = Table(
        "Cost; the time is the sum over engines, or over workers of training",
        ("", "time", "GPU-hours", "money", "of a thousand accepted"),
        tuple(rows),
    )
    notes = ["Time without a GPU has no GPU-hours. A training run alone records none."] if rows else []
    return Section("cost", "Cost", tables=[table] if rows else (), notes=notes)


def _training_seconds(run: RunFacts) -> float:
    """The time that training took at the rates of its metrics, times its workers; 0 without any."""
    seconds, samples = 0.0, 0
    for line in run.training.lines if run.training is not None else ():
        rate, trained = line.get("images_per_s"), line.get("samples")
        if isinstance(trained, int):
            if isinstance(rate, int | float) and rate > 0:
                seconds += max(0, trained - samples) / rate
            samples = trained
    workers = dict(run.experiment.get("train", {})).get("workers", 1)
    workers = workers.get("max", 1) if isinstance(workers, dict) else workers
    return seconds * workers if isinstance(workers, int) else 0.0


def _rewriting_cost(summary: Mapping[str, Any]) -> tuple[str, ...]:
    currency = str(summary.get("currency") or "")
    money = [summary.get("money"), summary.get("cost_per_thousand_accepted")]
    shown = [MISSING if value is None else f"{value:,.4g} {currency}".strip() for value in money]
    of_gpu, of_engines = summary.get("gpu_hours"), summary.get("engine_hours")
    return (
        MISSING if of_engines is None else duration(3_600 * of_engines),
        MISSING if of_gpu is None else f"{of_gpu:.3f}",
        *shown,
    )


def lineage_section(runs: Sequence[RunFacts], versions: Mapping[str, str], command: str, date: str) -> Section:
    """Which model and rewrites came from what, how to make them again, and what made this page."""
    pairs = [("this page", f"{command}, {date}")]
    details = []
    for run in runs:
        start = f"{run.name}: " if len(runs) > 1 else ""
        pairs += [(f"{start}{name}", redact(value)) for name, value in _facts(run)]
        if run.experiment:
            details.append(Details(f"{start}the config, as YAML", dump_yaml(redacted(dict(run.experiment)))))
        details += [
            Details(f"{start}the recipe of {each.name}", dump_yaml(redacted(dict(each.recipe))))
            for each in (run.rewriting.sets if run.rewriting is not None else ())
            if each.recipe
        ]
    return Section(
        "lineage",
        "Lineage",
        pairs=[Pairs("What the results are from", ("what", "value"), tuple(pairs)), *versions_pairs(versions)],
        details=details,
    )


def _facts(run: RunFacts) -> list[tuple[str, str]]:
    facts = [("output", run.status.output)]
    if commands := _commands(run):
        facts.append(("commands, with the config below", commands))
    if run.rewriting is not None:
        for each in run.rewriting.sets:
            fingerprint = str(each.recipe.get("fingerprint", "unknown"))
            facts.append((f"rewrites {each.name}", f"recipe {fingerprint}, gate {each.gate}, {each.location}"))
            facts += [(f"written with, {each.name}", _versions(each.recipe.get("written_with")))]
    if run.training is not None and run.training.summary:
        lineage = run.training.summary.get("lineage", {})
        for each_set in lineage.get("rewrite_sets", ()):
            keys = ("fingerprint", "committed_digest", "committed_shards", "location")
            known = [f"{key.replace('_', ' ')} {each_set[key]}" for key in keys if key in each_set]
            facts.append(("trained on the rewrites", ", ".join(known)))
        facts.append(("trained with", _versions(lineage.get("versions"))))
        facts.append(("model", str(run.training.summary.get("export", ""))))
    if run.evaluation:
        facts.append(("evaluated", str(run.evaluation.get("checkpoint", ""))))
        facts.append(("weights", str(run.evaluation.get("weights_digest", ""))))
        facts.append(("evaluated with", _versions(run.evaluation.get("versions"))))
    return [(name, value) for name, value in facts if value]


def _commands(run: RunFacts) -> str:
    """The verbs that made the parts of the run."""
    parts = {
        "rewriting": run.status.rewriting,
        "training": run.status.training,
        "sweep": run.status.sweep,
        "evaluation": run.status.evaluation,
    }
    begun = [name for name, part in parts.items() if part is not None and part.state != "never started"]
    verbs = [_COMMANDS[name] for name in begun]
    if run.is_one_job:
        verbs = ["run", *(verb for verb in verbs if verb not in ("rewrite", "train"))]
    return "; ".join(f"laclip {verb} CONFIG" for verb in verbs) if run.experiment else ""


def _versions(versions: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
