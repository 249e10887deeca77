"""Imports that survive the cancellation of a task.

Ray cancels a task by interrupting its main thread, and reuses the process. Python runs an interrupted import again from
its beginning. Libraries that register things on import (torch) fail the second time, and with them every later task of
the process.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def import_safely(load: Callable[[], T]) -> T:
    """Run `load` in a thread of its own, which completes even if the caller is interrupted; return its result."""
    executor = ThreadPoolExecutor(1, "imports")
    try:
        return executor.submit(load).result()
    finally:
        executor.shutdown(wait=False)
