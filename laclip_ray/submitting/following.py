"""Follow a job's log to the job's end, across lost connections."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

from laclip_ray.submitting.job import Job
from laclip_ray.submitting.seen_log import SeenLog
from laclip_ray.submitting.server import UnreachableError

logger = logging.getLogger(__name__)

QUIET_S = 15.0
"""After this time without a line, the server is asked whether the job still runs: a connection can break unnoticed."""
GIVE_UP_S = 600.0
"""How long the server may be out of reach."""
_LONGEST_PAUSE_S = 15.0
_TRIES = 4
"""To read the end of the log of a job that has ended."""


class Logs(Protocol):
    """The calls of a job server that a follower needs."""

    def job(self, submission_id: str) -> Job: ...

    def log(self, submission_id: str) -> str: ...

    def tail(self, submission_id: str) -> AsyncIterator[str]: ...


def follow(
    server: Logs,
    submission_id: str,
    write: Callable[[str], None],
    give_up_s: float = GIVE_UP_S,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[Job, str]:
    """Write a job's log as it grows, from its beginning, until the job has ended.

    Args:
        server: the job server.
        submission_id: of the job.
        write: gets each part of the log once.
        give_up_s: how long the server may be out of reach.
        pause: waits, in seconds.

    Returns:
        The ended job, and the last characters of its log.

    Raises:
        UnreachableError: the server was out of reach for too long. The job may still run.
        SurroundingsError: the server does not know the job any more.
    """
    seen = SeenLog()
    pause_s, lost_s, tries = 1.0, None, 0
    while True:
        try:
            with suppress(UnreachableError):  # also where a proxy lets no such connection through
                asyncio.run(_tail(server, submission_id, seen, write))
                pause_s = 1.0
            job = server.job(submission_id)
            lost_s = None
            has_log = _catch_up(server, submission_id, seen, write)
            if job.has_ended:
                tries += 1
                if has_log or tries == _TRIES:
                    return job, seen.tail
        except UnreachableError:
            now_s = time.monotonic()
            if lost_s is None:
                lost_s = now_s
                logger.warning("the connection to the job server is lost; connecting again")
            if now_s - lost_s >= give_up_s:
                raise
        pause(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _catch_up(server: Logs, submission_id: str, seen: SeenLog, write: Callable[[str], None]) -> bool:
    """Write the part of the log that a broken connection did not give.

    Returns:
        False if the log cannot be read. Ray keeps it on the node of the driver, and the node may be lost.
    """
    try:
        log = server.log(submission_id)
    except UnreachableError as error:
        logger.warning("the end of the log cannot be read: %s", error)
        return False
    seen.rewind()
    if new := seen.take(log):
        write(new)
    return True


async def _tail(server: Logs, submission_id: str, seen: SeenLog, write: Callable[[str], None]) -> None:
    """Write the log until its connection ends, or the job ends without its connection showing it."""
    seen.rewind()
    chunks = server.tail(submission_id)

    async def next_chunk() -> str | None:
        return await anext(chunks, None)

    pending = asyncio.ensure_future(next_chunk())
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=QUIET_S)
            if not done:
                if server.job(submission_id).has_ended:
                    return
                continue
            if (chunk := pending.result()) is None:
                return
            if new := seen.take(chunk):
                write(new)
            pending = asyncio.ensure_future(next_chunk())
    finally:
        pending.cancel()
