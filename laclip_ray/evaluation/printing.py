"""Print the results of evaluations to the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from laclip_ray.evaluation.comparison import Row, summary
from laclip_ray.printable import printable_line

_NO_SHARES = frozenset({"c"})
"""Metrics other than shares of images: the strength of a probe's penalty."""


def print_evaluation(console: Console, results: Mapping[str, Any]) -> None:
    """Print one row for each metric, and one for each dataset without a result; then the numbers in words."""
    table = Table(title=escape(f"evaluation of {results['checkpoint']}"), title_justify="left")
    for heading in ("task", "dataset", "metric", "value", "95 % interval"):
        table.add_column(heading, justify="right" if heading in ("value", "95 % interval") else "left", no_wrap=True)
    sentences = []
    for result in results["results"]:
        where = escape(printable_line(result["task"])), escape(printable_line(result["dataset"]))
        for metric, value in result.items():
            if isinstance(value, float):
                low, high = result.get("intervals", {}).get(metric) or (None, None)
                bounds = "" if low is None else f"{low:.2%} to {high:.2%}"
                shown = f"{value:g}" if metric in _NO_SHARES else f"{value:.2%}"
                table.add_row(*where, metric, shown, bounds)
        if "no_result" in result:
            table.add_row(*where, "no result", "", "")
        for count in ("skipped", "captions_cut", "counted_wrong"):
            if result.get(count):
                table.add_row(*where, count.replace("_", " "), f"{result[count]:,}", "")
        of_result = [*result.get("notes", ()), *([result["says"]] if "says" in result else [])]
        sentences += [f"{where[0]}, {where[1]}: {sentence}" for sentence in of_result]
    for task, value in results.get("averages", {}).items():
        table.add_row(task, "average", "the sets' own metrics", f"{value:.2%}", "")
    console.print(table)
    for sentence in sentences:
        console.print(printable_line(sentence), markup=False)


def print_comparison(console: Console, first: str, second: str, rows: Sequence[Row]) -> None:
    """Print one row for each metric of two evaluations, and the differences in words."""
    table = Table(title=escape(f"A: {first}\nB: {second}"), title_justify="left")
    for heading in ("task", "dataset", "metric", "A", "B", "B - A, 95 % interval"):
        table.add_column(heading, justify="left" if heading in ("task", "dataset", "metric") else "right")
    for row in rows:
        values = ["" if value is None else f"{value:.2%}" for value in (row.a, row.b)]
        found = row.difference
        difference = "" if found is None else f"{100 * found.value:+.2f}"
        if found is not None and found.low is not None and found.high is not None:
            difference += f" ({100 * found.low:+.2f} to {100 * found.high:+.2f})"
        table.add_row(row.task, escape(printable_line(row.dataset)), row.metric, *values, difference)
    console.print(table)
    for row in rows:
        if row.sentence:
            console.print(printable_line(f"{row.task}, {row.dataset}, {row.metric}: {row.sentence}"), markup=False)
    console.print(summary(rows), markup=False)
