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

_CODES = {kind.__name__: kind.exit_code for kind in (UserError, IncompleteError, SurroundingsError)}
"""Exit codes by type, for errors of a task that only a traceback's text names."""
_OF_ONE_SHARD = frozenset({"StoreError", "ShardUnreadableError"})
"""Errors of reading one shard of the data."""


@dataclass(frozen=True)
class Report:
    """How a failed run is reported."""

    message: str
    exit_code: ExitCode
    has_traceback: bool
    """Whether the traceback says more than the message."""


def report_of(error: BaseException, settings: Mapping[str, str]) -> Report:
    """Report an error.

    Args:
        error: the error that ended the run.
        settings: paths, URLs and names of models by config key, for errors of the surroundings.
    """
    ours = [(cause, code) for cause in causes.chain(error) if (code := _exit_code(cause)) is not None]
    outermost, code = ours[0] if ours else (None, ExitCode.FAILED)
    explanation = surroundings.explain(error, settings) if code != ExitCode.ENVIRONMENT else None
    # A shard that its store refuses is work that is left, and so says an error behind the outermost one.
    is_settled = any(inner == ExitCode.INCOMPLETE for _, inner in ours[1:]) or (
        code == ExitCode.INCOMPLETE and any(cause.name in _OF_ONE_SHARD for cause in causes.chain(error))
    )
    if explanation is not None and not is_settled:
        message = outermost.text if outermost is not None and code == ExitCode.INCOMPLETE else explanation
        return Report(message, ExitCode.ENVIRONMENT, True)
    if outermost is None:
        return Report(f"unexpected error: {causes.describe(error)}", ExitCode.FAILED, True)
    is_caused = outermost.error is None or outermost.error.__cause__ is not None
    return Report(outermost.text, code, is_caused and code != ExitCode.BAD_INPUT)


def _exit_code(cause: causes.Cause) -> ExitCode | None:
    """The exit code of an error of this package; None for any other error."""
    if isinstance(cause.error, UserError | IncompleteError | SurroundingsError):
        return cause.error.exit_code
    return _CODES.get(cause.name) if cause.error is None and cause.is_ours else None


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
