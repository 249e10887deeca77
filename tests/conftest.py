"""Options of all tests."""

from pathlib import Path

import pytest

from tests.cases import CaseTable


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--case-table`."""
    parser.addoption("--case-table", type=Path, help="write the cases of bad input to this file, as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    """Write the table of cases at the end, if it was asked for."""
    path = config.getoption("--case-table")
    if path is not None:
        config.pluginmanager.register(CaseTable(path.absolute()), "case-table")
