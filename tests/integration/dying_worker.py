"""A training worker that kills itself with SIGKILL before a step."""

import os
import signal
import time
from typing import Any

from laclip_ray.training import loop
from laclip_ray.training.step import Stepper


def train_and_die(config: dict[str, Any]) -> None:
    """Train as usual, and kill this process before step 5 (from 0)."""
    step = Stepper.step

    def dying_step(self: Stepper, batch: Any, number: int) -> Any:
        if number == 5:
            time.sleep(6)  # Ray Train registers a reported checkpoint within about two seconds
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, number)

    setattr(Stepper, "step", dying_step)  # noqa: B010 - replaces a method for this process alone
    loop.train_worker(config)
