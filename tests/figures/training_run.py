"""A driver of its own for the figures: `python -m tests.figures.training_run CONFIG NOTES [STEP_S]`.

The first worker notes when it began, when it asked for its first batch, and when each of its steps began. With STEP_S a
pause of so many seconds stands for the model: what is measured is the stream then.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from laclip_ray.config import load_experiment
from laclip_ray.training import loop, run, trainer
from laclip_ray.training.batches import prefetched_batches
from laclip_ray.training.loop import LoopInput
from laclip_ray.training.step import Stepper

_NOTES, _STEP_S = "LACLIP_FIGURES_NOTES", "LACLIP_FIGURES_STEP_S"


def train_and_note(config: dict[str, LoopInput]) -> None:
    """Train as usual, or at a pace without a model."""
    import ray.train

    notes: dict[str, Any] = {"began_s": time.time(), "steps_s": []}
    step = Stepper.step
    pause_s = os.environ.get(_STEP_S)

    def noting_step(self: Stepper, batch: Mapping[str, Any], number: int) -> tuple[torch.Tensor, bool]:
        notes["steps_s"].append(time.time())
        if pause_s is None:
            return step(self, batch, number)
        time.sleep(float(pause_s))
        return torch.zeros(()), True

    def noting_batches(*arguments: Any) -> Any:
        notes["asked_s"] = time.time()  # the stream begins
        return prefetched_batches(*arguments)

    setattr(Stepper, "step", noting_step)  # noqa: B010 - replaces a method for this process alone
    setattr(loop, "prefetched_batches", noting_batches)  # noqa: B010 - as above
    loop.train_worker(config)
    notes["ended_s"] = time.time()
    if ray.train.get_context().get_world_rank() == 0:
        Path(os.environ[_NOTES]).write_text(json.dumps(notes))


if __name__ == "__main__":
    config_path, os.environ[_NOTES], *rest = sys.argv[1:]
    if rest:
        (os.environ[_STEP_S],) = rest
    from tests.figures.training_run import train_and_note as by_name  # as a worker imports it

    setattr(trainer, "train_worker", by_name)  # noqa: B010 - replaces a function for this process alone
    run.run_training(load_experiment(config_path, []))
