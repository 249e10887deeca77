"""Progress messages of a run, from any of its processes to the watcher of its driver.

    engine actor, training worker --(a marked line in its log, which Ray forwards)--> driver --> watcher

Code calls `tell`. In the driver, the live status watches. Another process forwards: it prints each message as a marked
line, and the driver's watcher finds it among the lines that Ray forwards. Without a watcher, `tell` does nothing.

Not covered: the truth of a run. Messages may be lost with a process; files in the output are the record.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from laclip_ray.progress.messages import Message, Phase, from_json, to_json

logger = logging.getLogger(__name__)

MARK = "laclip-progress"
"""Begins a forwarded message in a line of a process's log."""
_LINE = re.compile(rf"{MARK} (?P<content>\{{.*\}})\s*$")

Watcher = Callable[[Message], None]


class _Route:
    """Where this process's messages go."""

    watcher: Watcher | None = None
    is_forwarding = False


_route = _Route()


def is_watched() -> bool:
    """Whether the messages of this process reach anyone."""
    return _route.watcher is not None or _route.is_forwarding


def forward() -> None:
    """Print this process's messages for the driver. For processes of the cluster whose driver is watched."""
    _route.is_forwarding = True


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Give the messages of this process to `watcher` while the body runs."""
    before, _route.watcher = _route.watcher, watcher
    try:
        yield
    finally:
        _route.watcher = before


def tell(message: Message) -> None:
    """Send a message. Never raises: work does not depend on who watches it."""
    try:
        if _route.watcher is not None:
            _route.watcher(message)
        elif _route.is_forwarding:
            print(f"{MARK} {json.dumps(to_json(message))}", flush=True)
    except Exception as error:  # noqa: BLE001 - a terminal that is gone must not end a run
        logger.debug("progress could not be told: %r", error)


def message_in(line: str) -> Message | None:
    """The forwarded message in a line of a log; None for any other line, also a damaged or forged one."""
    match = _LINE.search(line)
    if match is None:
        return None
    try:
        return from_json(json.loads(match["content"]))
    except (ValueError, TypeError, KeyError):
        return None


@contextmanager
def phase(text: str) -> Iterator[None]:
    """Tell that a phase begins, and how it ended after how long.

    Args:
        text: what happens, such as `listing data`.
    """
    started_s = time.monotonic()
    tell(Phase(text, text))
    try:
        yield
    except BaseException:
        tell(Phase(text, text, "failed", time.monotonic() - started_s))
        raise
    tell(Phase(text, text, "ended", time.monotonic() - started_s))
