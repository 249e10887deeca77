"""Errors of one row: they become the row's reason, and never end its shard.

Native code raises errors that are no `Exception` (a panic of the tokenizers library is a bare `BaseException`), so rows
are guarded against every error except the ones that are addressed to the process or the task.
"""

import asyncio
import logging
import traceback
from dataclasses import dataclass, field

from laclip_ray.endings.causes import describe
from laclip_ray.printable import printable, printable_line

logger = logging.getLogger(__name__)


def is_request_to_stop(error: BaseException) -> bool:
    """Whether an error asks this process or this task to stop, so no row may swallow it."""
    if isinstance(error, asyncio.CancelledError):
        # Foreign code may also raise it for a task of its own.
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)


def one_line(error: BaseException) -> str:
    """Type and text of an error's cause, safe to print."""
    return printable_line(describe(error))


def log_failure(shard: str) -> None:
    """Log the traceback of the present error, which makes a shard fail; safe to print."""
    logger.error("%s", printable(f"{shard}\n{traceback.format_exc()}"))


@dataclass
class FirstErrors:
    """Logs the first error of each kind: one message serves thousands of rows."""

    _seen: set[tuple[str, str]] = field(default_factory=set)

    def log(self, row: str, reason: str, error: BaseException) -> None:
        """Log an error unless one of its type had this reason before."""
        kind = (reason, type(error).__name__)
        if kind not in self._seen:
            self._seen.add(kind)
            logger.warning(
                "%s: %s (%s); further errors of this kind are only counted",
                printable_line(row),
                reason,
                one_line(error),
            )
