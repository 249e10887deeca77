"""Errors that a user can act on, and the exit codes that go with them.

`UserError` covers bad input: it is raised before any engine or worker starts, and its message says what is
wrong, where, and what to do. `IncompleteError` covers a run that ended with work left over: what was done is
kept, and the same command goes on. Invariants of the code are `assert`ed, not raised as these.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a verb's process returns."""

    COMPLETE = 0
    """Every caption or sample has an outcome."""
    BAD_INPUT = 2
    """Nothing was started or written."""
    INCOMPLETE = 3
    """Some work is left; the same command continues it."""


class UserError(ValueError):
    """Bad input: a configuration, a path or a plan that cannot work."""

    exit_code = ExitCode.BAD_INPUT


class IncompleteError(RuntimeError):
    """The run ended before all of its work was done; the message names what is missing."""

    exit_code = ExitCode.INCOMPLETE
