"""The last line of a submitted job's log: the exit code, which Ray's job status and `ray job submit` do not have."""

import atexit
import os
import re

from laclip_ray import terminal
from laclip_ray.errors import ExitCode

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in the driver of a submitted job."""

_MEANINGS = {
    ExitCode.COMPLETE: "complete",
    ExitCode.FAILED: "failed",
    ExitCode.BAD_INPUT: "bad input",
    ExitCode.INCOMPLETE: "incomplete",
    ExitCode.ENVIRONMENT: "environment",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "stopped",
}
_LINE = re.compile(r"^laclip: exit code (?P<code>\d{1,3})(?: \([a-z ]+\))?\r?$", re.MULTILINE)


def meaning_of(code: int) -> str:
    """The meaning of an exit code, in a word or two.

    >>> meaning_of(2), meaning_of(77)
    ('bad input', 'unknown')
    """
    return _MEANINGS[ExitCode(code)] if code in set(ExitCode) else "unknown"


def describe_code(code: int) -> str:
    """An exit code with its meaning.

    >>> describe_code(3)
    'exit code 3 (incomplete)'
    """
    return f"exit code {code} ({meaning_of(code)})" if code in set(ExitCode) else f"exit code {code}"


def in_ray_job() -> bool:
    """Whether this process is the driver of a submitted Ray job."""
    return JOB_VARIABLE in os.environ


def exit_line(code: int) -> str:
    """The line that `read_exit_code` finds."""
    return f"laclip: {describe_code(code)}"


def read_exit_code(log: str) -> int | None:
    """The exit code in the last exit line of a log; None without such a line."""
    codes = [int(match["code"]) for match in _LINE.finditer(log)]
    return codes[-1] if codes else None


class JobLog:
    """Writes the exit line as the last line of this process's log.

    It is written at the very end of the process, behind what Ray prints when it disconnects.
    """

    def __init__(self) -> None:
        """Begin before Ray is imported: exit handlers run in reverse order."""
        self.exit_code: int | None = None
        """Of the command. None: nothing is written."""
        atexit.register(self.write)

    def write(self) -> None:
        """Write the line now. Also called directly before a process that may be killed at any moment."""
        if self.exit_code is not None:
            terminal.out().flush()
            print(exit_line(self.exit_code), file=terminal.err(), flush=True)


def open_job_log() -> JobLog | None:
    """The log of a submitted job's driver; None in any other process."""
    return JobLog() if in_ray_job() else None
