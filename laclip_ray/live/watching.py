"""Watch the work of one verb: its status on the terminal, and the lines of libraries in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from laclip_ray import progress
from laclip_ray.errors import UserError
from laclip_ray.live.capture import Capture
from laclip_ray.live.screen import Screen
from laclip_ray.progress.messages import Message, WorkBegan


class _Last:
    capture: Capture | None = None


_last = _Last()


def last_capture() -> Capture | None:
    """The log of the verb that worked last in this process; None before the first one."""
    return _last.capture


@contextmanager
def watch(verb: str, output: str | None, is_quiet: bool = False, shows_all: bool = False) -> Iterator[None]:
    """Show the progress of a verb while the body runs.

    A Ray that the body starts or joins is left at its end, so the last lines of Ray reach the log too.

    Args:
        verb: names the log file.
        output: directory or URL whose `logs/` gets the log once work has begun. None: the log stays in the temporary
            directory, and only after an error other than bad input.
        is_quiet: show no status.
        shows_all: the lines of libraries also reach the terminal.
    """
    screen = Screen(is_quiet, is_plain=shows_all)
    capture: Capture

    def take(message: Message) -> None:
        if isinstance(message, WorkBegan):
            if output is not None:
                capture.settle(output)
        else:
            screen.take(message)
        capture.upload()

    capture = _last.capture = Capture(verb, take, shows_all)
    was_connected = _is_connected()
    keeps = False
    try:
        with capture.open(), screen.open(), progress.watched_by(take):
            try:
                yield
            finally:
                if not was_connected and _is_connected():
                    import ray

                    ray.shutdown()
    except UserError:
        raise  # nothing was started
    except Exception:
        keeps = True
        raise
    finally:
        capture.close(keeps)


def _is_connected() -> bool:
    """Whether this process is connected to a Ray. Does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
