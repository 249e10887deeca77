"""The last line of a submitted job's log is the run's exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from laclip_ray.endings.job_log import JOB_VARIABLE, exit_line, open_job_log, read_exit_code
from laclip_ray.errors import ExitCode


@pytest.mark.parametrize("code", [*ExitCode, 7])
def test_the_line_is_found_in_a_log(code: int) -> None:
    log = f"laclip: exit code 99\nerror: bad\n{exit_line(code)}\n(pid=3) a late line of Ray's\n"
    assert read_exit_code(log) == code


@pytest.mark.parametrize("log", ["", "error: bad", "said: laclip: exit code 3", "laclip: exit code 3 of many"])
def test_other_lines_are_no_exit_line(log: str) -> None:
    assert read_exit_code(log) is None


def test_only_the_driver_of_a_job_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB_VARIABLE, raising=False)
    assert open_job_log() is None


# Something that a verb loads prints at the process's end, as Ray does when it disconnects.
LATE = """
import atexit, sys
from laclip_ray import logs
from laclip_ray.cli import main
set_up = logs.set_up_logging
logs.set_up_logging = lambda: (atexit.register(print, "late", file=sys.stderr), set_up())
main()
"""


@pytest.mark.parametrize(("words", "code"), [(["train", "none.yaml"], 2), (["version"], 0), (["--none"], 2)])
def test_a_job_ends_with_its_exit_code_in_the_last_line(words: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE, *words],
        env={**os.environ, JOB_VARIABLE: "{}"}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.splitlines()[-2:] == ["late", exit_line(code)]
