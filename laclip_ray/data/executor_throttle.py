"""What Ray Data's own loop takes from what it feeds.

Ray's executor looks at its tasks in a loop that waits only for tasks which are not done. Where all are, and wait for
whoever reads their rows, it turns without a pause, and takes a core from what it feeds (Ray 2.60: 0.4 of a core where
training is the slower half).
"""

import time
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback

TURN_S = 0.05
"""The shortest time of a turn of the loop. A turn takes in all that is done and starts all that there is room for."""


def limit_overhead(context: Any) -> None:
    """Set a `DataContext` so that its datasets take little of the driver, and print nothing of their own."""
    context.custom_execution_callback_classes = [ThrottledExecution]
    context.memory_usage_poll_interval_s = None  # it reads the process's maps each second, and nobody asks for it
    context.enable_progress_bars = False
    context.print_on_execution_start = False


class ThrottledExecution(ExecutionCallback):
    """Lets no turn of the loop be shorter than `TURN_S`; for `DataContext.custom_execution_callback_classes`."""

    def __init__(self) -> None:
        """Made by Ray Data when an execution begins."""
        self._last_s = 0.0

    def on_execution_step(self, executor: Any) -> None:
        """See `ExecutionCallback`."""
        left_s = self._last_s + TURN_S - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        self._last_s = time.monotonic()
