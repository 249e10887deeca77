"""Facts of runs -> the content of a page. Pure."""

from collections.abc import Mapping, Sequence

from laclip_ray.redaction import redact
from laclip_ray.reporting.page import MISSING, Page, Section, Table
from laclip_ray.run_report.evaluation_section import evaluation_sections, main_metric
from laclip_ray.run_report.facts import RunFacts
from laclip_ray.run_report.lineage_section import cost_section, lineage_section
from laclip_ray.run_report.rewriting_section import accepted_sentence, rewriting_sections
from laclip_ray.run_report.training_section import training_facts, training_section
from laclip_ray.run_report.warnings import warnings_of
from laclip_ray.tuning.results import result_of, sweep_sections

_NAMES_IN_TITLE = 4


def report_page(runs: Sequence[RunFacts], versions: Mapping[str, str], command: str, date: str) -> Page:
    """The page about runs.

    Args:
        runs: one or more, with different names.
        versions: of packages, of this process.
        command: that makes this page.
        date: of the page.
    """
    is_one = len(runs) == 1
    warnings = [text if is_one else f"{run.name}: {text}" for run in runs for text in dict.fromkeys(warnings_of(run))]
    sweeps = [run for run in runs if run.sweep is not None]
    sections: list[Section | None] = [_overview(runs)]
    for number, run in enumerate(sweeps):
        sections += _sweep_of(run, "" if len(sweeps) == 1 else f"-{number + 1}", is_one)
    sections += evaluation_sections(runs)
    sections.append(training_section(runs))
    sections += rewriting_sections(runs)
    sections += [cost_section(runs), lineage_section(runs, versions, command, date)]
    return Page(
        title=_title([run.name for run in runs]),
        result=result(runs),
        introduction=[f"Written on {date}, from the files of the {'run' if is_one else 'runs'}."],
        warnings=warnings,
        sections=[section for section in sections if section is not None],
    )


def _title(names: Sequence[str]) -> str:
    shown = list(names[:_NAMES_IN_TITLE])
    if (more := len(names) - len(shown)) > 0:
        return f"{', '.join(shown)} and {more} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _sweep_of(run: RunFacts, end: str, is_one: bool) -> list[Section]:
    assert run.sweep is not None
    title = "Sweep" if is_one else f"Sweep of {run.name}"
    paragraphs = run.sweep.verdicts()
    return [
        Section(f"{each.id}{end}", title, [*paragraphs, *each.paragraphs], plots=each.plots, tables=each.tables)
        for each in sweep_sections(run.sweep)
    ]


def result(runs: Sequence[RunFacts]) -> str:
    """The most important result there is: of a sweep, an evaluation, training, rewriting."""
    if len(runs) == 1 and runs[0].sweep is not None and (best := result_of(runs[0].sweep)):
        return best
    if measured := main_metric(runs):
        return measured
    sentences = {run.name: sentence for run in runs if (sentence := _progress(run))}
    if len(runs) == 1:
        return next(iter(sentences.values()), "nothing yet")
    return "; ".join(f"{name}: {sentence}" for name, sentence in sentences.items()) or "nothing yet"


def _progress(run: RunFacts) -> str:
    """How far training or rewriting is."""
    if run.training is not None:
        facts = training_facts(run)
        shown = [f"{name} {facts[name]}" for name in ("epochs", "last loss") if name in facts]
        return f"training {facts.get('state', '')}: {', '.join(shown) or 'no metrics yet'}"
    rewriting = run.status.rewriting
    if run.rewriting is not None:
        return accepted_sentence(run.rewriting.sets)
    return f"rewriting {rewriting.state}" if rewriting is not None and rewriting.state != "never started" else ""


def _overview(runs: Sequence[RunFacts]) -> Section:
    """Of one run, its most important numbers; of several, a table of them."""
    facts = {run.name: _facts(run) for run in runs}
    if len(runs) == 1:
        return Section("overview", "Overview", figures=list(facts[runs[0].name].items()))
    names = dict.fromkeys(name for of_run in facts.values() for name in of_run)
    rows = tuple((name, *(of_run.get(name, MISSING) for of_run in facts.values())) for name in names)
    return Section("overview", "Overview", tables=[Table("The runs side by side", ("", *facts), rows)] if rows else ())


def _language_models(run: RunFacts) -> str:
    """The names of the models that wrote the rewrites, by their recipes."""
    recipes = [dict(each.recipe.get("recipe") or {}) for each in run.rewriting.sets] if run.rewriting else []
    names = dict.fromkeys(str(recipe["model"]) for recipe in recipes if recipe.get("model"))
    return ", ".join(redact(name).rstrip("/").rpartition("/")[2] for name in names)


def _facts(run: RunFacts) -> dict[str, str]:
    facts: dict[str, str] = {}
    status = run.status
    if status.rewriting is not None and status.rewriting.state != "never started":
        facts["rewriting"] = status.rewriting.state
        if status.rewriting.units is not None:
            facts["shards rewritten, all sets"] = f"{status.rewriting.units_done:,} of {status.rewriting.units:,}"
    if run.rewriting is not None:
        captions = max((each.statistics.captions for each in run.rewriting.sets), default=0)
        facts["captions"] = f"{captions:,}"
        facts["prompt sets"] = ", ".join(sorted(each.name for each in run.rewriting.sets))
        facts["accepted"] = accepted_sentence(run.rewriting.sets).replace(" rewrites accepted", "")
        if models := _language_models(run):
            facts["language model"] = models
    if run.training is not None:
        of_training = training_facts(run)
        names = ("epochs", "steps", "last loss", "p requested", "p shown", "images a second, median")
        facts["training"] = of_training.pop("state", "unknown")
        facts |= {name: of_training[name] for name in names if name in of_training}
    if status.sweep is not None:
        facts["sweep"] = status.sweep.state
        points = "" if status.sweep.points is None else f" of {status.sweep.points:,}"
        facts["points done"] = f"{status.sweep.points_done:,}{points}"
    if status.evaluation is not None:
        facts["evaluation"] = status.evaluation.state
        sets = "" if status.evaluation.sets is None else f" of {status.evaluation.sets:,}"
        facts["sets measured"] = f"{status.evaluation.sets_done:,}{sets}"
    return facts
