"""Print the results of checks. Texts are printed without secrets and with control characters escaped."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from laclip_ray.doctor.results import Result
from laclip_ray.printable import printable_line
from laclip_ray.redaction import redact

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def print_results(console: Console, results: Sequence[Result]) -> None:
    """Print a row for each check."""
    table = Table(title="checks", title_justify="left")
    for heading, ratio in (("check", 3), ("result", None), ("found", 6), ("what to do", 4)):
        table.add_column(heading, ratio=ratio, no_wrap=ratio is None, overflow="fold")
    for result in results:
        table.add_row(
            _cell(result.name),
            Text(result.outcome, style=_STYLES[result.outcome]),
            _cell(result.detail),
            _cell(result.remedy),
        )
    console.print(table)


def _cell(text: str) -> Text:
    return Text(printable_line(redact(text)))
