"""Figures of messages: each error that a user reads has a test, and the test fails if the message is another."""

import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.figures.figure import Figure
from tests.messages import INTEGRATION_RECORD, NOT_REACHED, Place, Records, places
from tests.structure import REPOSITORY

_MOST_ROUNDS = 4
"""A test that asserts several messages in turn stops at the first one that is changed."""


def messages(show: int) -> Iterator[Figure]:
    """Run the unit tests, then again with changed messages; a record of the integration tests is read if there is one.

    Args:
        show: its number.
    """
    with tempfile.TemporaryDirectory() as scratch:
        record, changed = Path(scratch, "record"), Path(scratch, "changed")
        _run(["tests/unit"], record)
        found = Records(record, INTEGRATION_RECORD)
        _run(["tests/unit"], changed, "all")
        unnoticed = {*places()} - Records(changed).noticed - {place for place in places() if not found.tests[place]}
        for number in range(_MOST_ROUNDS):
            if not unnoticed:
                break
            changed = Path(scratch, f"changed-{number}")
            unnoticed -= _notice(unnoticed, found, changed)
    for what, problems in (("no test reaches", found.missing), ("no test notices", unnoticed)):
        for place in problems:
            print(f"{what} {place}")
    yield Figure(show, "messages for users", len(places()), "")
    yield Figure(show, "messages that no test can reach here", len(NOT_REACHED), "")
    yield Figure(show, "other messages that no test reaches", len(found.missing), "", at_most=0)
    yield Figure(show, "messages that may change without a failed test", len(unnoticed), "", at_most=0)


def _notice(unnoticed: Collection[Place], found: Records, changed: Path) -> set[Place]:
    """The places of which a test fails once only their messages are changed."""
    names = changed.with_suffix(".places")
    names.write_text("".join(f"{place.file}:{line}\n" for place in unnoticed for line in place.lines))
    tests = {test for place in unnoticed for test in found.tests[place] if test}
    for kind in ("unit", "integration"):
        if chosen := sorted(test for test in tests if test.startswith(f"tests/{kind}/")):
            _run(chosen, changed, str(names))
    return Records(changed).noticed & {*unnoticed}


def _run(tests: Collection[str], record: Path, changed: str | None = None) -> None:
    """Run tests, and record the messages that they reach; tests of changed messages fail."""
    command = [sys.executable, "-m", "pytest", *tests, "-q", "-m", "not long", "--message-record", str(record)]
    if not any(test.startswith("tests/integration") for test in tests):
        command += ["-n", "auto", "--dist", "loadfile"]
    if changed is not None:
        command += ["--changed-messages", changed, "--no-header", "--tb=no"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False)
    assert done.returncode in ((0,) if changed is None else (0, 1)), f"pytest ended with {done.returncode}"
