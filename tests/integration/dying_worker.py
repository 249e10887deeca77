"""Training workers that kill themselves with SIGKILL before a step."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from laclip_ray.training import loop
from laclip_ray.training.checkpoint import newest_checkpoint
from laclip_ray.training.step import Stepper

DYING_STEP = 5
TIMEOUT_S = 60


def train_and_die(config: dict[str, loop.LoopInput]) -> None:
    """Train as usual, and kill this process before a step, once Ray Train has registered a checkpoint."""
    import ray.train

    output = config["input"].paths.output
    rank = ray.train.get_context().get_world_rank()
    step = Stepper.step

    def dying_step(self: Stepper, batch: Any, number: int) -> Any:
        if number == DYING_STEP:
            deadline_s = time.monotonic() + TIMEOUT_S
            while newest_checkpoint(output) is None and time.monotonic() < deadline_s:
                time.sleep(0.1)
            Path(output, f"died-{rank}").touch()
            time.sleep(1.0)  # for the other workers
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, number)

    setattr(Stepper, "step", dying_step)  # noqa: B010 - replaces a method for this process alone
    loop.train_worker(config)


def deaths(output: str) -> set[int]:
    """The ranks of the workers that died."""
    return {int(path.name.removeprefix("died-")) for path in Path(output).glob("died-*")}
