"""Cases of bad input: a marker for the test of each, and the table that a test run makes of them.

A test with `@case(...)` states what happens to one kind of bad input. `python -m pytest -m case --case-table FILE` runs
these tests and writes a table with a row for each.
"""

import json
from pathlib import Path
from typing import Any

import pytest

SECTIONS = ("How a run ends", "Identity", "Reading data", "Evaluation", "Configs and secrets")


def case(
    section: str, given: str, happens: str, exit_code: int | str = "-", counted_as: str = "-"
) -> pytest.MarkDecorator:
    """Mark a test as one row of the table.

    Args:
        section: one of `SECTIONS`.
        given: the input, setting, file or server.
        happens: what the run does.
        exit_code: of the verb; `-` where the run goes on and the case does not decide it.
        counted_as: the reason under which rows, shards or files are counted; `-` if nothing is.
    """
    assert section in SECTIONS, section
    return pytest.mark.case(
        section=section, given=given, happens=happens, exit_code=str(exit_code), counted_as=counted_as
    )


class CaseTable:
    """A plugin that writes one JSON line for each marked test that ran: the case, and whether the test passed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cases: dict[str, dict[str, Any]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Remember the cases of the collected tests."""
        for item in items:
            for number, marker in enumerate(item.iter_markers("case")):
                self._cases[f"{item.nodeid} {number}"] = {**marker.kwargs, "test": item.nodeid, "passed": None}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a test; a failed set-up or clean-up counts as a failure."""
        for row in self._cases.values():
            if row["test"] == report.nodeid and (report.when == "call" or report.outcome != "passed"):
                row["passed"] = report.outcome == "passed" and row["passed"] is not False

    def pytest_sessionfinish(self) -> None:
        """Write the table."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(json.dumps(row) + "\n" for row in self._cases.values()))
