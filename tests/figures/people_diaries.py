"""Three diaries of new users: own pictures, the README, and no other help, from an empty directory to a report.

Each types the six commands of the README, as the output of the one before names them. There is no model hub here, so
each gives two local models, as the error message about the hub says, and trains for a few epochs, for a first try.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.figures import people_data
from tests.figures.figure import Figure
from tests.integration.procedures import real_data
from tests.real_models import REPOSITORY, real_model

KEPT = "LACLIP_PEOPLE_DIARIES"
"""Environment variable: a directory that keeps data, outputs and what was printed; without it they are removed."""
CHOSEN = "LACLIP_PEOPLE_CHOSEN"
"""Environment variable: the diaries to write, by their names with commas between; without it all."""
EPOCHS = 4
VERBS = ("init", "data check", "rewrites preview", "run", "evaluate", "report")
"""The README's six."""
_SUGGESTED = re.compile(r"^\s+(laclip [^#]+?)(?:\s+#.*)?$")
"""A line that is a command to type next, with what it gives."""
_PLACEHOLDER = re.compile(r"(?:^|\s)[A-Z]+(?:\s|$)")
"""A word that stands for another, as in `laclip init DATA`."""
_ERROR_LINES = re.compile(r"Traceback \(most recent|\b(?:ERROR|CRITICAL|FATAL)\b|^(?:error|Error):|, \d+ E \d+ \d+\]")

Writes = Callable[[Path, Path], Path]
"""Writes a dataset of real pictures into a directory; returns what a user gives to `laclip init`."""
DIARIES: dict[str, Writes] = {
    "img2dataset": people_data.img2dataset_folder,
    "hugging-face": people_data.hugging_face_repository,
    "csv": people_data.csv_beside_pictures,
}


@dataclass
class Diary:
    """What a user typed, and what came of it."""

    directory: Path
    begun_s: float = field(default_factory=time.monotonic)
    typed: list[str] = field(default_factory=list)
    suggested: list[str] = field(default_factory=list)
    """Commands that the output named as the next ones."""
    failures: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Commands that the output named beside those of the README, and that were tried too."""

    @property
    def minutes(self) -> float:
        """Since the first command."""
        return (time.monotonic() - self.begun_s) / 60

    def type(self, *words: str) -> None:
        """Run a command, and look for failures in all it prints."""
        command = shlex.join(words)
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        environment["PYTHONPATH"] = str(REPOSITORY)
        done = subprocess.run(
            words, cwd=self.directory, env=environment, check=False, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        number = len(self.typed) + len(self.others)
        (self.directory / f"{number}-{words[1]}.txt").write_text(f"$ {command}\n{done.stdout}")
        self.typed.append(command)
        if done.returncode:
            self.failures.append(f"{command}: exit code {done.returncode}")
        self.failures += [f"{command}: {line}" for line in done.stdout.splitlines() if _ERROR_LINES.search(line)]
        self.suggested += suggestions(done.stdout)

    def try_others(self) -> None:
        """Try the named commands of verbs that the README does not use. They count neither as typed nor as time."""
        begun_s = time.monotonic()
        planned = tuple(f"laclip {verb} " for verb in VERBS)
        for command in dict.fromkeys(self.suggested):
            if not command.startswith(planned) and command not in self.others:
                self.type(*shlex.split(command))
                self.others.append(self.typed.pop())
        self.begun_s += time.monotonic() - begun_s

    def follow(self, verb: str, *words: str) -> None:
        """Type the newest command of a verb that the output named, with further words of the user's."""
        named = [command for command in self.suggested if command.startswith(f"laclip {verb} ")]
        if not named:
            self.failures.append(f"no output named `laclip {verb}` as a next command")
            named = [f"laclip {verb} {next(path.name for path in self.directory.glob('*.yaml'))}"]
        self.type(*shlex.split(named[-1]), *words)


def suggestions(output: str) -> list[str]:
    """The commands that an output names as the next ones.

    >>> suggestions("laclip init: reads a\\nnext:\\n  laclip data check a.yaml   # a sample\\n  laclip init DATA")
    ['laclip data check a.yaml']
    """
    found = (match[1].strip() for line in output.splitlines() if (match := _SUGGESTED.match(line)))
    return [command for command in found if not _PLACEHOLDER.search(command)]


def diaries(show: int) -> Iterator[Figure]:
    """Three diaries, from the data to a report."""
    data = real_data()
    assert data is not None, "LACLIP_TEST_DATA names no data"
    chosen = os.environ.get(CHOSEN, ",".join(DIARIES)).split(",")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(os.environ.get(KEPT) or temporary)
        for name in chosen:
            path = DIARIES[name](data, root / "data" / name)
            yield from _diary(show, name, path, root / name)


def _diary(show: int, name: str, data: Path, directory: Path) -> Iterator[Figure]:
    directory.mkdir(parents=True)
    models = [
        f"rewrite.model={real_model('smollm2-135m-instruct')}",
        f"rewrite.gate.meaning.model={real_model('all-minilm-l6-v2')}",
    ]
    diary = Diary(directory)
    diary.type("laclip", "init", str(data))
    diary.follow("data check")
    diary.follow("rewrites preview", *models)
    preview_minutes = diary.minutes
    diary.try_others()
    diary.follow("run", f"train.epochs={EPOCHS}")
    diary.follow("evaluate")
    diary.follow("report")
    report_minutes = diary.minutes
    diary.try_others()
    yield Figure(show, f"{name}: commands typed", len(diary.typed), "commands", at_most=6)
    for failure in diary.failures:
        print(f"{name}: {failure}")
    (page,) = directory.glob("report-*.html")
    text = page.read_text(encoding="utf-8")
    yield Figure(show, f"{name}: failures met", len(diary.failures), "", at_most=0)
    yield Figure(show, f"{name}: other named commands, tried", len(diary.others), "commands")
    yield Figure(show, f"{name}: minutes to a first preview", preview_minutes, "min")
    yield Figure(show, f"{name}: minutes to a report", report_minutes, "min")
    yield Figure(show, f"{name}: pictures in the report", text.count("<img "), "pictures", at_least=1)
    yield Figure(show, f"{name}: report names its result", float("R@1" in text), "", at_least=1)
