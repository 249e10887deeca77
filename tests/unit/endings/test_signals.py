"""The first signal interrupts, the second ends the process at once, and no library takes them over."""

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from laclip_ray.endings import signals
from laclip_ray.endings.signals import SignalWatch
from tests.cases import case

BOTH = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@pytest.fixture
def watch() -> Iterator[SignalWatch]:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    watch = SignalWatch(lambda _: None, clean_up_s=600)
    watch.start()
    yield watch
    watch.stop()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not signals.is_watched()


def assert_sleep_is_interrupted(sleep_s: float, within_s: float) -> None:
    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        time.sleep(sleep_s)
    assert time.monotonic() - started_s < within_s


def test_this_process_can_interrupt_itself_without_a_signal_that_counts(watch: SignalWatch) -> None:
    def interrupt() -> None:
        signals.interrupt_main_thread()
        time.sleep(5)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    time.sleep(0.1)  # the thread hears of them too
    assert watch.received is None
    assert watch.exit_code is None


def test_another_thread_can_interrupt_the_main_one(watch: SignalWatch) -> None:
    threading.Timer(0.1, signals.interrupt_main_thread).start()
    assert_sleep_is_interrupted(30, within_s=10)
    assert watch.received is None


def send_to_another_thread(number: int) -> None:
    """Send a signal to a new thread. It interrupts no call of the main thread."""
    threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), number)).start()


@case("How a run ends", "a signal just before a call that waits", "the call is interrupted")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_interrupted_no_call_still_ends_the_one_that_waits(
    watch: SignalWatch, number: signal.Signals
) -> None:
    send_to_another_thread(number)
    assert_sleep_is_interrupted(60, within_s=30)
    assert watch.received == number


def test_an_interruption_of_its_own_that_interrupted_no_call_does_so_too(
    watch: SignalWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = signal.pthread_kill

    def send_elsewhere(thread: int, number: int) -> None:
        send(threading.get_ident() if number == signal.SIGINT else thread, number)

    monkeypatch.setattr(signal, "pthread_kill", send_elsewhere)
    threading.Timer(0.1, signals.interrupt_main_thread).start()
    assert_sleep_is_interrupted(60, within_s=30)
    assert watch.received is None


def test_without_a_watch_there_is_nobody_to_interrupt() -> None:
    assert not signals.interrupt_main_thread()
    with signals.kept():
        pass


def test_libraries_keep_the_handlers_of_an_active_watch(watch: SignalWatch) -> None:
    ours = signal.getsignal(signal.SIGTERM)
    with signals.kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, "other signals are not ours"
        signal.signal(signal.SIGUSR1, before)
    assert signal.getsignal(signal.SIGTERM) == ours
    assert watch.exit_code is None


def test_a_handler_below_pythons_is_replaced_too(watch: SignalWatch) -> None:
    with signals.kept():
        ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, 1)  # ignore it, without Python's knowledge, as Ray's core could
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert watch.exit_code == 143


PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background command of a script
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # as in a Ray job
from laclip_ray.endings.signals import SignalWatch
watch = SignalWatch(lambda number: print("announced", number.name, flush=True), clean_up_s=float(sys.argv[1]))
try:
    watch.start()
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", watch.received.name, flush=True)
    {clean_up}
watch.announce()
sys.exit(watch.exit_code)
"""


def start(clean_up: str, clean_up_s: float = 60.0) -> "subprocess.Popen[str]":
    """A program with a watch that does this after the first signal; returns once it is ready."""
    command = [sys.executable, "-c", PROGRAM.format(clean_up=clean_up), str(clean_up_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
    """Exit code and printed lines."""
    printed, _ = process.communicate(timeout=30)
    return process.returncode, printed.splitlines()


@BOTH
def test_a_signal_interrupts_and_decides_the_exit_code(number: signal.Signals, code: int) -> None:
    process = start("pass")
    process.send_signal(number)
    assert ended(process) == (code, [f"interrupted {number.name}", f"announced {number.name}"])


@case("How a run ends", "a second Ctrl-C during the clean-up", "the process ends at once", exit_code=130)
def test_a_second_signal_ends_the_process_at_once_with_the_first_ones_code() -> None:
    # A call that Python cannot interrupt: it holds no lock of the interpreter, and does not look at signals.
    process = start("import ctypes; ctypes.PyDLL(None); ctypes.CDLL(None).sleep(50)")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "interrupted SIGINT\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (130, ["announced SIGINT"])


def test_the_same_keystroke_twice_counts_once() -> None:
    process = start("time.sleep(1); print('cleaned up')")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, ["interrupted SIGINT", "cleaned up", "announced SIGINT"])


@case("How a run ends", "a clean-up that hangs after a signal", "the process ends after 25 s", exit_code=143)
def test_a_clean_up_that_hangs_is_ended() -> None:
    process = start(
        "threading_lock = __import__('threading').Lock(); threading_lock.acquire(); threading_lock.acquire()", 1.0
    )
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, ["interrupted SIGTERM", "announced SIGTERM"])


def test_a_long_clean_up_announces_itself() -> None:
    process = start("time.sleep(3); print('cleaned up')")
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, ["interrupted SIGTERM", "announced SIGTERM", "cleaned up"])


def test_a_watch_leaves_no_file_descriptor_open() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(20):
        watch = SignalWatch(lambda _: None)
        watch.start()
        watch.stop()
    deadline_s = time.monotonic() + 10
    while count() > before and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert count() <= before
