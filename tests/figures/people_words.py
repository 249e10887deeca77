"""How soon the command line speaks: the wall time of its help, and of the first words of each verb."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.figures.figure import Figure
from tests.unit.cli.test_first_words import WORDS, command_line

RUNS = 5
"""Each value is their median, after one run that nobody measures: it fills the file cache."""


def words(show: int) -> Iterator[Figure]:
    """The times of `laclip --help` and of the first words of every verb: the first line on either stream.

    Processes end after their first line. Most verbs get a config whose data is an empty directory.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "data").mkdir()
        (directory / "pictures.yaml").write_text("name: a\noutput: out\ndata: {path: data}\n")
        yield Figure(show, "laclip --help", _seconds(["--help"], directory, first_line=False), "s", at_most=0.5)
        for verb in WORDS:
            line = command_line(verb, "pictures.yaml")
            yield Figure(show, f"first words of laclip {verb}", _seconds(line, directory), "s", at_most=1.0)


def _seconds(line: Sequence[str], directory: Path, first_line: bool = True) -> float:
    """The median time from the start of a process to its first line, or to its end."""
    times_s = []
    for _ in range(RUNS + 1):
        started_s = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "laclip_ray", *line],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            text = process.stdout.readline() if first_line else process.stdout.read()
            times_s.append(time.monotonic() - started_s)
            process.kill()
        assert text.strip(), line
    return statistics.median(times_s[1:])
