"""Ctrl-C and SIGTERM: the first one interrupts the work, a second one ends the process at once.

The first signal raises KeyboardInterrupt in the main thread, so the work is cleaned up. A thread watches the clean-up.
It ends the process when the clean-up takes too long, or a second signal comes. The thread hears of a signal through a
pipe that the C handler writes to, also while the main thread is in a call that Python cannot interrupt.

A signal interrupts no call if it arrives just before a blocking call, or in another thread. Python would run the
handler only after that call returns. The watching thread therefore interrupts the call.

Only the watch knows which signal came: Ray's calls turn any exception of a handler into a plain KeyboardInterrupt.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from laclip_ray.errors import ExitCode

EXIT_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}
"""The signals of a watch, and the exit codes of a run that they end."""

CLEAN_UP_S = 25.0
"""How long the clean-up after a signal may take. Kubernetes and spot machines give 30 s before they kill."""
_QUIET_S = 2.0
"""When the message is printed if the clean-up still runs. `ray job stop` kills after 3 s."""
_SAME_KEYSTROKE_S = 0.3
"""Signals within this time count as one: a wrapper may pass on the Ctrl-C that the terminal gave to both."""
_NUDGE = signal.SIGURG
"""The signal that interrupts a blocking call of the main thread. Python then runs the handlers of earlier signals."""
_NUDGE_PERIOD_S = 0.5

_active: "SignalWatch | None" = None


def _ignore(number: int, frame: FrameType | None) -> None:
    """Handle a nudge: a signal interrupts a call only if it has a handler."""


class SignalWatch:
    """Handles SIGINT and SIGTERM of this process from `start` to `stop`. Only one watch at a time, in the main thread.

    A shell makes background commands ignore SIGINT, and a Ray job blocks it. A watch handles it there too: its
    sender means this run.
    """

    def __init__(self, announce: Callable[[signal.Signals], None], clean_up_s: float = CLEAN_UP_S) -> None:
        """Prepare a watch.

        Args:
            announce: prints the message of an interrupted run. Called once, in any thread.
            clean_up_s: how long the clean-up may take.
        """
        self._announce = announce
        self._clean_up_s = clean_up_s
        self._has_raised = False
        self._own_raises = self._own_bytes = 0
        """Interruptions by this process itself that the handler, and the thread, have not heard of yet."""
        self._announcing = threading.Lock()
        self._is_announced = False
        self._before: dict[signal.Signals, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._pipe_before = -1
        self.received: signal.Signals | None = None
        """The first signal."""

    @property
    def exit_code(self) -> ExitCode | None:
        """The exit code of the interrupted process; None if no signal came."""
        return None if self.received is None else EXIT_CODES[self.received]

    def start(self) -> None:
        """Take over the signals. In another thread than the main one, where Python allows no handlers, do nothing."""
        global _active
        if threading.current_thread() is not threading.main_thread() or _active is not None:
            return
        _active = self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._pipe_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._interrupt) for number in EXIT_CODES}
        self._before[_NUDGE] = signal.signal(_NUDGE, _ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before)
        threading.Thread(target=self._watch, args=(self._pipe[0],), daemon=True, name="signals").start()

    def take_back(self) -> None:
        """Take the signals over from handlers below Python's, which Ray's core installs."""
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                signal.signal(number, self._interrupt)

    def stop(self) -> None:
        """Give the signals back."""
        global _active
        if self._pipe is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._pipe_before)
        os.close(self._pipe[1])  # ends the thread
        self._pipe = None
        _active = None

    def announce(self) -> None:
        """Print the message of the interrupted run, if it is not printed yet."""
        with self._announcing:
            if self.received is not None and not self._is_announced:
                self._is_announced = True
                self._announce(self.received)

    def interrupt_main_thread(self) -> None:
        """Raise KeyboardInterrupt in the main thread. `received` does not change."""
        self._own_raises += 1
        self._own_bytes += 1
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        """Raise KeyboardInterrupt at the first signal; the thread answers the others."""
        if self._own_raises:
            self._own_raises -= 1
            raise KeyboardInterrupt
        if self._has_raised:
            return
        self._has_raised = True
        if self.received is None:  # else the thread was faster
            self.received = signal.Signals(number)
        signal.alarm(0)  # while Ray starts, its handler comes first, and has the process killed 3 s later
        raise KeyboardInterrupt

    def _watch(self, pipe: int) -> None:
        """Wait for the first signal; then end the process at the second one, or when the clean-up takes too long."""
        with os.fdopen(pipe, "rb", buffering=0) as source:
            poll = select.poll()
            poll.register(source, select.POLLIN)
            while True:
                if not poll.poll(_NUDGE_PERIOD_S * 1_000 if self._own_raises else None):
                    _nudge_main_thread()
                    continue
                content = source.read(1)
                if not content:
                    return  # `stop` was called
                if content[0] == signal.SIGINT and self._own_bytes:
                    self._own_bytes -= 1
                elif content[0] in EXIT_CODES:
                    self._end(source.fileno(), signal.Signals(content[0]))

    def _end(self, pipe: int, first: signal.Signals) -> None:
        if self.received is None:
            self.received = first
        begun_s = time.monotonic()
        nudge_at_s = _NUDGE_PERIOD_S
        os.set_blocking(pipe, False)
        while (elapsed_s := time.monotonic() - begun_s) < self._clean_up_s:
            time.sleep(0.05)
            if elapsed_s > nudge_at_s and not self._has_raised:
                nudge_at_s = elapsed_s + _NUDGE_PERIOD_S
                _nudge_main_thread()
            if elapsed_s > _QUIET_S:
                self.announce()
            try:
                content = os.read(pipe, 64)
            except BlockingIOError:
                continue
            if not content:
                return  # `stop` was called
            if any(number in EXIT_CODES for number in content) and elapsed_s > _SAME_KEYSTROKE_S:
                break
        self.announce()
        os._exit(EXIT_CODES[self.received])


def _nudge_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, _NUDGE)


def is_watched() -> bool:
    """Whether a watch handles this process's signals."""
    return _active is not None


def interrupt_main_thread() -> bool:
    """Raise KeyboardInterrupt in the main thread for a reason of this process's own.

    Returns:
        False if there is no watch to do it.
    """
    if _active is None:
        return False
    _active.interrupt_main_thread()
    return True


@contextmanager
def kept() -> Iterator[None]:
    """Keep the active watch's handlers while the body calls a library that sets its own, as `ray.init` does."""
    watch = _active
    if watch is None:
        yield
        return
    register = signal.signal

    def register_others(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in EXIT_CODES else register(number, handler)

    setattr(signal, "signal", register_others)  # noqa: B010 - libraries look it up there
    try:
        yield
    finally:
        setattr(signal, "signal", register)  # noqa: B010 - as above
        watch.take_back()
