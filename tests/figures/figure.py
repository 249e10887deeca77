"""One measured figure, and those that tests are."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A value, and the bar it is held against."""

    show: int
    """The number of what it shows."""
    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bar(self) -> str | None:
        """The bar as text."""
        if self.at_least is not None and self.at_least == self.at_most:
            return f"= {self.at_least:g}"
        bars = [f"{sign} {bar:g}" for sign, bar in ((">=", self.at_least), ("<=", self.at_most)) if bar is not None]
        return ", ".join(bars) or None

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.bar is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "show": self.show,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "bar": self.bar,
            "holds": self.holds,
        }

    def __str__(self) -> str:
        verdict = {True: "holds", False: "MISSED", None: ""}[self.holds]
        return f"{self.show}  {self.name}: {self.value:.6g} {self.unit}  {self.bar or ''} {verdict}".rstrip()


def exit_code(show: int, name: str, code: int, expected: int = 0) -> Figure:
    """An exit code that has to be the expected one; that of a killed process is negative."""
    return Figure(show, name, code, "", at_most=expected, at_least=expected)


def outcomes_of_tests(show: int, *files: str) -> Iterator[Figure]:
    """The exit codes of files of unit tests."""
    for file in files:
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", f"tests/unit/{file}"], check=False)
        yield exit_code(show, f"exit code of {file}", done.returncode)
