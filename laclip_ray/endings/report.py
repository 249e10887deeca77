"""The report of an error: a message for the user, an exit code, and the traceback in a log file."""

import shlex
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from laclip_ray.endings import causes, surroundings
from laclip_ray.errors import ExitCode, IncompleteError, SurroundingsError, UserError
from laclip_ray.logs import clean

FAILED = 1
"""Exit code of an error that nobody foresaw."""

_OURS = (UserError, IncompleteError, SurroundingsError)


@dataclass(frozen=True)
class Report:
    """How a failed run is reported."""

    message: str
    exit_code: int
    has_traceback: bool
    """Whether the traceback says more than the message."""


def report_of(error: BaseException, settings: Mapping[str, str]) -> Report:
    """Report an error.

    Args:
        error: the error that ended the run.
        settings: paths, URLs and names of models by config key, for errors of the surroundings.
    """
    ours = [each for cause in causes.chain(error) if isinstance(each := cause.error, _OURS)]
    outermost = ours[0] if ours else None
    if isinstance(outermost, SurroundingsError):
        return Report(str(outermost), ExitCode.ENVIRONMENT, outermost.__cause__ is not None)
    explanation = surroundings.explain(error, settings)
    # An error that says itself that work is left, such as a shard that its store refuses, keeps its code.
    is_settled = any(isinstance(each, IncompleteError) for each in ours[1:])
    if explanation is not None and not is_settled:
        message = str(outermost) if isinstance(outermost, IncompleteError) else explanation
        return Report(message, ExitCode.ENVIRONMENT, True)
    if outermost is not None:
        return Report(str(outermost), outermost.exit_code, outermost.__cause__ is not None)
    return Report(f"unexpected error: {causes.describe(error)}", FAILED, True)


def describe_with_log(report: Report, error: BaseException, words: Sequence[str]) -> str:
    """The report's message, safe for a terminal, and the name of the log file that it writes the traceback to.

    Args:
        report: of the error.
        error: has the traceback.
        words: the command line, for the log.
    """
    message = clean(report.message)
    if not report.has_traceback:
        return message
    log = write_log(error, words)
    where = f"traceback: {log}" if log is not None else "the traceback could not be written to the temporary directory"
    return f"{message} ({where})"


def write_log(error: BaseException, words: Sequence[str]) -> Path | None:
    """Write an error's traceback to a new file in the temporary directory. Never raises.

    Returns:
        None if the file cannot be written.
    """
    try:
        lines = [
            f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} laclip {shlex.join(words)}\n",
            *traceback.format_exception(error),
        ]
        with tempfile.NamedTemporaryFile(
            "w", prefix="laclip-error-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(clean("".join(lines)))
        return Path(file.name)
    except Exception:  # noqa: BLE001 - the error itself has to reach the user
        return None
