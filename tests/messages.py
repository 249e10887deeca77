"""The places that build an error for the user, and which of them the tests reach.

    python -m pytest tests/unit --message-record FILE
    python -m tests.messages FILE...

The run records each place that builds such an error, with the test. The command lists the places that no test reaches,
and fails if there are any. With `--changed-messages all`, a run replaces every message, so tests of messages fail;
`make figures AREA=people SHOWS=6` finds in this way the messages that no test looks at.
"""

import argparse
import ast
import json
import linecache
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.message_record import sitecustomize
from tests.structure import PACKAGE, REPOSITORY, modules

BASES = frozenset({"UserError", "IncompleteError", "SurroundingsError"})

INTEGRATION_RECORD = REPOSITORY / "build" / "messages" / "integration"
"""Written by `make test`."""

NOT_REACHED: dict[str, str] = {}
"""Places that no test can reach on a machine without a GPU or a cluster: by `Place.name`, the reason."""


@dataclass(frozen=True)
class Place:
    """An expression that builds an error for the user, or one that refuses a value of a config."""

    file: str
    """Below the package."""
    lines: range
    name: str
    """`module.function: the start of its message`; it stays when lines move."""

    def __str__(self) -> str:
        return f"{PACKAGE}/{self.file}:{self.lines.start}: {self.name}"


@cache
def places() -> tuple[Place, ...]:
    """Every place of the package, in the order of files and lines."""
    kinds = _kinds()
    found: list[Place] = []
    for module in modules().values():
        if not module.path.is_relative_to(REPOSITORY / PACKAGE):
            continue
        file = str(module.path.relative_to(REPOSITORY / PACKAGE))
        for scope, node in _scoped(module.tree, ()):
            call = _refusal(node) if _refuses_values(file, scope) else None
            if isinstance(node, ast.Call) and _called(node) in kinds:
                call = node
            if call is not None:
                name = f"{'.'.join((module.name, *(each.name for each in scope)))}: {_start_of(call)}"
                found.append(Place(file, range(call.lineno, (call.end_lineno or call.lineno) + 1), name))
    return tuple(found)


Scope = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _scoped(node: ast.AST, scope: tuple[Scope, ...]) -> Iterator[tuple[tuple[Scope, ...], ast.AST]]:
    for child in ast.iter_child_nodes(node):
        yield scope, child
        yield from _scoped(child, (*scope, child) if isinstance(child, Scope) else scope)


def _kinds() -> frozenset[str]:
    """The names of the errors for users, and of the classes derived from them."""
    kinds = set(BASES)
    classes = [
        node for module in modules().values() for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)
    ]
    while more := {each.name for each in classes if kinds & {ast.unparse(base) for base in each.bases}} - kinds:
        kinds |= more
    return frozenset(kinds)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _refuses_values(file: str, scope: tuple[Scope, ...]) -> bool:
    """Whether a place is code of the config, or a validator of pydantic elsewhere."""
    decorators = [ast.unparse(each) for definition in scope for each in definition.decorator_list]
    return file.startswith("config/") or any("_validator(" in each for each in decorators)


def _refusal(node: ast.AST) -> ast.Call | None:
    """The error of a statement that refuses a value, or a text that is not YAML."""
    if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
        return None
    return node.exc if _called(node.exc) in ("ValueError", "YAMLError") else None


def _start_of(call: ast.Call) -> str:
    """The first words of a message as the source has them."""
    return " ".join(ast.unparse(call.args[0]).split())[:60] if call.args else ""


class Records:
    """What test runs recorded."""

    def __init__(self, *files: Path) -> None:
        rows = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
        self.failed = frozenset(str(row["failed"]) for row in rows if "failed" in row)
        """Tests that failed while messages were changed."""
        self.tests = _tests_by_place(row for row in rows if "file" in row)
        """The tests that reached each place; "" where the process knew of no test."""

    @property
    def missing(self) -> list[Place]:
        """The places that no test reached, and that are not excused."""
        return [place for place in places() if not self.tests[place] and place.name not in NOT_REACHED]

    @property
    def noticed(self) -> set[Place]:
        """The places reached by a test that failed."""
        return {place for place, tests in self.tests.items() if tests & self.failed}


def _tests_by_place(rows: Iterable[Mapping[str, Any]]) -> dict[Place, frozenset[str]]:
    tests: dict[tuple[str, int], set[str]] = {}
    for row in rows:
        # A record of an earlier version of the file does not count where its lines have moved.
        if row["source"] == linecache.getline(str(REPOSITORY / PACKAGE / row["file"]), row["line"]).strip():
            tests.setdefault((row["file"], row["line"]), set()).add(row["test"])
    return {
        place: frozenset(test for line in place.lines for test in tests.get((place.file, line), ()))
        for place in places()
    }


class MessageRecord:
    """A plugin that records places in this process and in those it starts, and tests that fail with other messages."""

    def __init__(self, path: Path, changed: str | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._changed = changed
        hook = str(Path(sitecustomize.__file__).parent)
        if hook not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (hook, os.environ.get("PYTHONPATH"))))
        os.environ[sitecustomize.RECORD] = str(path)
        self._scratch = tempfile.TemporaryDirectory()
        self._current_test = Path(self._scratch.name, "test")
        os.environ[sitecustomize.CURRENT_TEST] = str(self._current_test)
        if changed is not None:
            os.environ[sitecustomize.CHANGED] = changed
        sitecustomize.record_messages(path, changed)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell all processes which test runs."""
        self._current_test.write_text(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a failed test."""
        if self._changed is not None and report.failed:
            with self._path.open("a") as file:
                file.write(json.dumps({"failed": report.nodeid}) + "\n")


def main() -> int:
    """List the places that no test reached; the number of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=Path)
    missing = Records(*parser.parse_args().records).missing
    print(f"{len(missing)} of {len(places())} messages for users are not reached by a test")
    for place in missing:
        print(f"  {place}")
    return len(missing)


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
