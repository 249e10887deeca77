"""The evaluation in a report: metrics with intervals, runs side by side, robustness to wording. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from laclip_ray.evaluation.tasks import HARD_NEGATIVES, PARAPHRASES, RETRIEVAL, SUGAR_CREPE, TEMPLATES, ZERO_SHOT
from laclip_ray.reporting.names import full_name, metric_name
from laclip_ray.reporting.page import MISSING, Section, Table
from laclip_ray.run_report.facts import RunFacts

_WORDING = (HARD_NEGATIVES, PARAPHRASES, TEMPLATES, SUGAR_CREPE)
"""In the order of their sentences."""
_NO_SHARES = frozenset({"c"})
_COUNTS = ("skipped", "captions_cut", "counted_wrong")
_PREFERRED = ((ZERO_SHOT, "top1"), (RETRIEVAL, "image_to_text_r1"))

Key = tuple[str, str, str]
"""The task, the dataset and the metric."""


def evaluation_sections(runs: Sequence[RunFacts]) -> list[Section]:
    """The metrics of all runs, and the metrics of wording."""
    values = {run.name: dict(_values(run.evaluation)) for run in runs if run.evaluation}
    if not values:
        return []
    keys = list(dict.fromkeys(key for of_run in values.values() for key in of_run))
    ordinary = [key for key in keys if key[0] not in _WORDING]
    wording = sorted((key for key in keys if key[0] in _WORDING), key=lambda key: _WORDING.index(key[0]))
    averages = _averages([run for run in runs if run.evaluation])
    about = "Values in %, with 95 % intervals over images. Runs differ by chance too: another seed gives other values."
    return [
        Section(
            "evaluation",
            "Evaluation",
            paragraphs=[about],
            tables=[table for table in (_table("Metrics", ordinary, values, runs), averages) if table is not None],
            notes=_remarks(runs, of_wording=False),
        ),
        Section(
            "wording",
            "Wording",
            paragraphs=["How far the model reads words, and keeps its answers under other words."] if wording else [],
            tables=[table for table in (_table("Wording, in %", wording, values, runs),) if table is not None],
            notes=_remarks(runs, of_wording=True),
        ),
    ]


def main_metric(runs: Sequence[RunFacts]) -> str:
    """The most important metric of the runs that have it, as a sentence; empty without one."""
    found = {run.name: dict(_values(run.evaluation)) for run in runs if run.evaluation}
    keys = list(dict.fromkeys(key for of_run in found.values() for key in of_run))
    if not keys:
        return ""
    chosen = next((key for task, metric in _PREFERRED for key in keys if (key[0], key[2]) == (task, metric)), keys[0])
    cells = {name: of_run[chosen] for name, of_run in found.items() if chosen in of_run}
    name = full_name("/".join(chosen))
    guess = "; ".join(_measured_on(chosen, runs, chance))
    end = f" (chance {guess} %)" if guess else ""
    if len(found) == 1:
        return f"{name} {_with_sign(next(iter(cells.values())))}{end}"
    return f"{name}: " + "; ".join(f"{run} {_with_sign(cell)}" for run, cell in cells.items()) + end


def _with_sign(cell: str) -> str:
    value, _, interval = cell.partition(" ")
    return f"{value} % {interval}".rstrip()


def _values(results: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Every metric with its interval, as text."""
    for entry in results.get("results", ()):
        intervals = entry.get("intervals", {})
        for metric, value in entry.items():
            if not isinstance(value, float):
                continue
            low, high = intervals.get(metric) or (None, None)
            scale = 1 if metric in _NO_SHARES else 100
            shown = f"{value:g}" if metric in _NO_SHARES else f"{scale * value:.1f}"
            interval = "" if low is None or high is None else f" ({scale * low:.1f} to {scale * high:.1f})"
            yield (entry["task"], entry["dataset"], metric), shown + interval


def _table(
    caption: str, keys: Sequence[Key], values: Mapping[str, Mapping[Key, str]], runs: Sequence[RunFacts]
) -> Table | None:
    """The metrics of runs, with the value of guessing and the number of pictures, if known."""
    if not keys:
        return None
    headings = ("metric", *values) if len(values) > 1 else ("metric", "value (95 % interval)")
    more = {"chance": chance, "pictures": _pictures}
    columns = {name: [" / ".join(_measured_on(key, runs, of)) for key in keys] for name, of in more.items()}
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    rows = tuple(
        (
            full_name("/".join(key)),
            *(of_run.get(key, MISSING) for of_run in values.values()),
            *(cells[number] or MISSING for cells in shown.values()),
        )
        for number, key in enumerate(keys)
    )
    return Table(caption, (*headings, *shown), rows)


def _measured_on(key: Key, runs: Sequence[RunFacts], of: Callable[[Mapping[str, Any], str], str]) -> list[str]:
    """The data of a metric: one text, or one for each run if they differ."""
    task, dataset, metric = key
    entries = [entry for run in runs for entry in run.evaluation.get("results", ())]
    texts = [of(entry, metric) for entry in entries if (entry["task"], entry["dataset"]) == (task, dataset)]
    return [*dict.fromkeys(text for text in texts if text)]


def _pictures(entry: Mapping[str, Any], _: str) -> str:
    count = entry.get("images")
    return f"{count:,}" if isinstance(count, int) else ""


def chance(entry: Mapping[str, Any], metric: str) -> str:
    """The value of a metric by guessing, in %; empty if it is not known.

    >>> chance({"task": "zero-shot", "classes": 12}, "top5")
    '41.7'
    >>> chance({"task": "retrieval", "images": 200, "captions": 200, "repeated_captions": 0}, "text_to_image_r10")
    '5.0'
    """
    options: Any = None
    best = 1
    if entry["task"] == ZERO_SHOT and (match := re.fullmatch(r"top(\d+)|mean_per_class", metric)):
        options, best = entry.get("classes"), int(match[1] or 1)
    if entry["task"] == RETRIEVAL and (match := re.search(r"_r(\d+)$", metric)):
        # With several captions of a picture, or equal ones, guesses are right more often.
        is_plain = entry.get("captions") == entry.get("images") and entry.get("repeated_captions") == 0
        options, best = entry.get("images") if is_plain else None, int(match[1])
    return f"{100 * min(1.0, best / options):.1f}" if isinstance(options, int) and options > 0 else ""


def _averages(runs: Sequence[RunFacts]) -> Table | None:
    """Means over sets, by task."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.evaluation.get("averages", {})))
    if not tasks:
        return None
    rows = []
    for task in tasks:
        found = [run.evaluation.get("averages", {}).get(task) for run in runs]
        rows.append((task, *(MISSING if value is None else f"{100 * value:.1f}" for value in found)))
    return Table("Means over sets, each by its own metric", ("task", *(run.name for run in runs)), tuple(rows))


def _remarks(runs: Sequence[RunFacts], of_wording: bool) -> list[str]:
    """Results in words, and their gaps."""
    found = []
    for run in runs:
        for entry in run.evaluation.get("results", ()):
            if (entry["task"] in _WORDING) is not of_wording:
                continue
            start = f"{run.name}: " if len(runs) > 1 else ""
            start += f"{metric_name(entry['task'])}, {entry['dataset']}: "
            texts = [*entry.get("notes", ()), *([entry["says"]] if "says" in entry else [])]
            if "no_result" in entry:
                texts.append(f"no result: {entry['no_result']}")
            texts += [f"{count.replace('_', ' ')}: {entry[count]:,}" for count in _COUNTS if entry.get(count)]
            found += [start + str(text) for text in texts]
    return found
