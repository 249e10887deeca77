"""Ray's notice that it will take nodes away, looked for at the same steps by all workers.

A spot node is taken away seconds after the notice: on some clouds 30, on others 120. The log may have a line only
every few minutes, so looking has a rhythm of its own. A look waits for all workers and takes some milliseconds.
"""

import math
import time

from laclip_ray.training.worker_reports import gather

LOOK_S = 2.0
"""Time between two looks, about: whole steps, and less than a step is not possible."""


class PreemptionNotice:
    """Whether nodes will be taken away. Each worker has one, and all call it after the same steps."""

    def __init__(self, step: int) -> None:
        """Begin after a step."""
        self._looked_step, self._looked_s = step, time.monotonic()
        self._due_step = step + 1
        self._is_known = False

    def is_new(self, step: int) -> bool:
        """Look if it is time to, after a step; True once, when the notice is there."""
        if self._is_known or step < self._due_step:
            return False
        import ray.train

        self._is_known = ray.train.get_preemption_info() is not None
        now_s = time.monotonic()
        # The slowest worker's, so that all have the same next step.
        step_s = max(gather((now_s - self._looked_s) / max(1, step - self._looked_step)))
        self._looked_step, self._looked_s = step, now_s
        self._due_step = step + max(1, math.floor(LOOK_S / max(step_s, 1e-6)))
        return self._is_known
