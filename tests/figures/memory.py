"""The memory that this process's children need."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def watch_memory(kind_of: Callable[[str], str | None], period_s: float = 1.0) -> Iterator[dict[str, int]]:
    """The most memory of its own that any process of a kind had, in bytes; `kind_of` tells it from a command line."""
    peaks: dict[str, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(period_s):
            for process in psutil.Process().children(recursive=True):
                try:
                    kind = kind_of(" ".join(process.cmdline()))
                    if kind:
                        peaks[kind] = max(peaks.get(kind, 0), process.memory_full_info().uss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
