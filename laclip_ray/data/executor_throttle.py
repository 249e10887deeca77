"""Keep Ray Data's scheduling loop from busy-waiting.

In each iteration, Ray's executor waits for a running task. When all tasks are done and only the consumer is slow,
it has no task to wait for, and the loop burns 0.4 of a core (Ray 2.60).
"""

import time
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback

MIN_ITERATION_S = 0.05
"""Minimum time of an iteration. One iteration takes in all finished tasks and starts all that the budget allows."""


def limit_overhead(context: Any) -> None:
    """Set up a Ray `DataContext`: its datasets use little of the driver's CPU time, and do not print."""
    context.custom_execution_callback_classes = [ThrottledExecution]
    context.memory_usage_poll_interval_s = None  # would read the process's memory map each second
    context.enable_progress_bars = False
    context.print_on_execution_start = False


class ThrottledExecution(ExecutionCallback):
    """Delays each iteration of the loop to `MIN_ITERATION_S` after the one before.

    For `DataContext.custom_execution_callback_classes`; Ray Data creates one instance per execution.
    """

    def __init__(self) -> None:
        self._last_iteration_s = 0.0

    def on_execution_step(self, executor: Any) -> None:
        """See `ExecutionCallback`."""
        delay_s = self._last_iteration_s + MIN_ITERATION_S - time.monotonic()
        if delay_s > 0:
            time.sleep(delay_s)
        self._last_iteration_s = time.monotonic()
