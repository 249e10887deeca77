"""Errors that a user can act on, and their exit codes.

`UserError` is bad input. It is raised before any engine or worker starts, and its message names the mistake, its place
and the remedy. `IncompleteError` is a run that ended with work left. Its results are kept, and its message says when
the same command resumes. `SurroundingsError` is a store, network, cluster or disk that refuses to work.
Broken invariants of the code are assertions, never one of these.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of a verb."""

    COMPLETE = 0
    """Every caption or sample has an outcome."""
    FAILED = 1
    """An unforeseen error; a log file has its traceback."""
    BAD_INPUT = 2
    """Input was refused before anything was started or written."""
    INCOMPLETE = 3
    """Some work is left; the message says how to continue."""
    ENVIRONMENT = 4
    """A store, a network, a cluster or a disk refused to work."""
    INTERRUPTED = 130
    """Ctrl-C (SIGINT)."""
    TERMINATED = 143
    """SIGTERM: the job was stopped, or its node is going away."""


class UserError(ValueError):
    """Bad input: a config, a path or a reservation that cannot work."""

    exit_code = ExitCode.BAD_INPUT


class IncompleteError(RuntimeError):
    """The run ended with work left; the message names it."""

    exit_code = ExitCode.INCOMPLETE


class SurroundingsError(RuntimeError):
    """A store, network, cluster or disk refused to work; the message names the setting, the event and the remedy."""

    exit_code = ExitCode.ENVIRONMENT
