"""Completion in a real bash: the TAB key on a terminal, with the script that the command line installs."""

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")

_TIMEOUT_S = 60.0
_CONTROL_A, _CONTROL_E = b"\x01", b"\x05"
_ECHOED = re.compile(r"^<(.*)>\r$", re.MULTILINE)
_ROWS_AND_COLUMNS = struct.pack("HHHH", 24, 400, 0, 0)


class Bash:
    """An interactive bash on a terminal of its own."""

    def __init__(self, directory: Path) -> None:
        home = directory / "home"
        home.mkdir()
        program = home / "laclip"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m laclip_ray "$@"\n')
        program.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PROMPT_COMMAND"},
            "HOME": str(home),
            "PATH": f"{home}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "INPUTRC": "/dev/null",
            "SHELL": "/bin/bash",
            "TERM": "dumb",
            "PS1": "$ ",
        }
        subprocess.run(
            ["bash", "-c", "laclip --install-completion; exit $?"],
            env=self.environment, cwd=directory, check=True, capture_output=True,
        )  # fmt: skip
        script = home / ".bash_completions" / "laclip.sh"
        assert str(script) in (home / ".bashrc").read_text()
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, _ROWS_AND_COLUMNS)  # no line is wrapped
        self._terminal = controller
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "-i"],
            env=self.environment, cwd=directory, stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True,
        )  # fmt: skip
        os.close(terminal)

    def completed(self, typed: str) -> str:
        """The line that a person has after typing a text and TAB."""
        os.write(self._terminal, f"{typed}\t".encode())
        # The line is echoed as it is then, and never run.
        os.write(self._terminal, _CONTROL_A + b"echo '<" + _CONTROL_E + b">'\n")
        printed, ends_s = "", time.monotonic() + _TIMEOUT_S
        while (found := _ECHOED.search(printed)) is None:
            left_s = ends_s - time.monotonic()
            assert left_s > 0, printed
            if select.select([self._terminal], [], [], left_s)[0]:
                printed += os.read(self._terminal, 65_536).decode()
        return found[1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Bash]:
    (tmp_path / "pictures-of-dogs.yaml").touch()
    started = Bash(tmp_path)
    with contextlib.closing(started):
        yield started


def test_verbs_options_values_and_paths_complete(bash: Bash) -> None:
    for typed, line in {
        "laclip eva": "laclip evaluate ",
        "laclip data ch": "laclip data check ",
        "laclip train pict": "laclip train pictures-of-dogs.yaml ",
        "laclip train pictures-of-dogs.yaml --dry": "laclip train pictures-of-dogs.yaml --dry-run ",
        "laclip run --qui": "laclip run --quiet ",
        "laclip submit doc": "laclip submit doctor ",
        "laclip rewrites export a b --to parq": "laclip rewrites export a b --to parquet ",
        "laclip report --page pict": "laclip report --page pictures-of-dogs.yaml ",
    }.items():
        assert bash.completed(typed) == line
