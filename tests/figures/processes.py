"""The memory and the CPU time that this process's children take."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def watch_memory(kind_of: Callable[[str], str | None]) -> Iterator[dict[str, int]]:
    """The most memory of its own that any process of a kind had, in bytes; `kind_of` tells it from a command line."""
    peaks: dict[str, int] = {}

    def look(process: psutil.Process) -> None:
        if kind := kind_of(" ".join(process.cmdline())):
            peaks[kind] = max(peaks.get(kind, 0), process.memory_full_info().uss)

    with _watch(look):
        yield peaks


@contextmanager
def watch_cpu(kind_of: Callable[[str], str | None], other: str) -> Iterator[Counter[str]]:
    """The CPU time of all processes of a kind, in seconds; `kind_of` tells it from a command line.

    A process of which that says nothing is of the kind that it was before, or else `other`.
    """
    used_s: Counter[str] = Counter()
    before_s: dict[int, float] = {}
    kinds: dict[int, str] = {}

    def look(process: psutil.Process) -> None:
        times = process.cpu_times()
        total_s = times.user + times.system
        kind = kinds[process.pid] = kind_of(" ".join(process.cmdline())) or kinds.get(process.pid, other)
        used_s[kind] += total_s - before_s.get(process.pid, 0.0)
        before_s[process.pid] = total_s

    with _watch(look):
        yield used_s


@contextmanager
def _watch(look: Callable[[psutil.Process], None], period_s: float = 1.0) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        while not done.wait(period_s):
            for process in psutil.Process().children(recursive=True):
                try:
                    look(process)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
