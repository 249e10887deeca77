"""Imports that an interruption does not cut off.

Ray cancels a task by interrupting its main thread, and keeps the process for other tasks. A module whose import was cut
off is imported again from its beginning, which a library that registers things as it loads (torch) does not survive:
every later task of that process would fail.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def import_safely(load: Callable[[], T]) -> T:
    """What `load` gives or raises. It runs in a thread of its own, and goes on there when its caller is interrupted."""
    executor = ThreadPoolExecutor(1, "imports")
    try:
        return executor.submit(load).result()
    finally:
        executor.shutdown(wait=False)
