"""Options of all tests."""

from pathlib import Path

import pytest

from tests.cases import CaseTable
from tests.messages import MessageRecord


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--case-table`, `--message-record` and `--changed-messages`."""
    parser.addoption("--case-table", type=Path, help="write the cases of bad input to this file, as JSON lines")
    parser.addoption("--message-record", type=Path, help="append the places of errors for users to this file")
    parser.addoption("--changed-messages", help="replace their messages, `all` or those of a file: tests of them fail")


def pytest_configure(config: pytest.Config) -> None:
    """Write the table of cases at the end, and record the places of errors, where they were asked for."""
    path = config.getoption("--case-table")
    if path is not None:
        config.pluginmanager.register(CaseTable(path.absolute()), "case-table")
    record = config.getoption("--message-record")
    if record is not None:
        changed = config.getoption("--changed-messages")
        config.pluginmanager.register(MessageRecord(record.absolute(), changed), "message-record")
