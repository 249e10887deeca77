"""The table of cases: runs every marked test, and writes `docs/cases.md` from them."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.cases import SECTIONS
from tests.figures.figure import Figure
from tests.structure import REPOSITORY

PAGE = REPOSITORY / "docs" / "cases.md"
_CELLS = ("given", "happens", "exit_code", "counted_as")
_HEAD = """# What happens to wrong input

Each row is a case with a test of its own, or several. `make figures AREA=right SHOWS=1` runs the tests and writes this
page.

A run does what the config says, or refuses before it starts, or counts and names what it could not do. One row, file,
shard or server never ends a run that could continue without it. The exit code is given where the case decides it:
0 complete, 2 bad input, 3 incomplete, 4 the environment refused, 130 Ctrl-C, 143 SIGTERM.
"""


def case_table(show: int) -> Iterator[Figure]:
    """The number of cases, and how many of their tests fail."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cases.jsonl"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "case", "--case-table", str(path), "tests"],
            cwd=REPOSITORY,
            check=False,
        )
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    PAGE.write_text(page_of(rows))
    yield Figure(show, "tests of cases", len(rows), "tests")
    yield Figure(show, "different cases in the table", len(distinct(rows)), "cases", at_least=80)
    yield Figure(show, "cases whose test fails or is skipped", sum(not row["passed"] for row in rows), "", at_most=0)


def distinct(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """The section and the cells of each case, once if several tests show it."""
    return [*dict.fromkeys(tuple(row[name] for name in ("section", *_CELLS)) for row in rows)]


def page_of(rows: Sequence[Mapping[str, str]]) -> str:
    """The page: a table for each section."""
    lines = [_HEAD]
    for section in SECTIONS:
        lines += [f"## {section}", "", "| input | what happens | exit code | counted as |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {' | '.join(cell.replace('|', '&#124;').replace('<', '&lt;') for cell in cells)} |"
            for of, *cells in distinct(rows)
            if of == section
        ]
        lines.append("")
    return "\n".join(lines)
