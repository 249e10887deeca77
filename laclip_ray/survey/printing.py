"""Print a check of data. Texts from data are printed with their control characters escaped."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from laclip_ray.printable import printable_line
from laclip_ray.survey.checking import DataCheck, figures
from laclip_ray.tally import first_names

_NAMES, _SHARDS = 3, 10
"""Printed names of a reason, and unreadable shards; `--json` has more."""


def print_check(console: Console, check: DataCheck) -> None:
    """Print the counts, the reasons, and the unreadable shards."""
    table = Table(show_header=False)
    for name, value in figures(check):
        table.add_row(name, Text(printable_line(value)))
    console.print(table)
    if check.problems.counts:
        reasons = Table(title="counted", title_justify="left")
        for heading in ("reason", "samples", "first names"):
            reasons.add_column(heading, justify="right" if heading == "samples" else "left", overflow="fold")
        for reason, count in check.problems.counts.most_common():
            names = first_names(check.problems.names[reason][:_NAMES], _NAMES)
            reasons.add_row(Text(printable_line(reason)), f"{count:,}", Text(printable_line(names)))
        console.print(reasons)
    for shard in [*check.unreadable][:_SHARDS]:
        _print(console, f"unreadable: {shard}: {check.unreadable[shard]}")
    if check.left_out:
        _print(console, f"not read: {check.left_out}")


def _print(console: Console, line: str) -> None:
    console.print(printable_line(line), markup=False, emoji=False, highlight=False)
