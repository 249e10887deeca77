"""The learning rate follows the paper's and open_clip's code, and ends exactly at its end value.

Both peers divide the cosine by the number of its steps, so their last step is one step short of the end value. The
schedule here is theirs for a run one step shorter, followed by the end value.
"""

import math

import numpy as np
import pytest
import torch
from open_clip_train.scheduler import cosine_lr  # type: ignore[import-untyped]

from laclip_ray.config import TrainConfig
from laclip_ray.training.optim import learning_rate, set_learning_rate

STEPS, WARMUP = 701, 20
"""Steps of the run, and of its warm-up. The cosine has 681, so each of its quarters falls on a step."""
PEAK, START, END = 1e-3, 1e-6, 1e-5
EPSILON = 1e-12
"""Relative tolerance."""


def rates(start: float = START, end: float = END) -> list[float]:
    """The learning rate of each step."""
    train = TrainConfig(
        epochs=35, warmup_epochs=1.0, learning_rate=PEAK, learning_rate_start=start, learning_rate_end=end
    )
    return [learning_rate(step, STEPS, train) for step in range(STEPS)]


def paper_rates(steps: int) -> list[float]:
    """`utils.cosine_scheduler` of LaCLIP's code, which comes from SLIP."""
    warmup = np.linspace(START, PEAK, WARMUP)
    iterations = np.arange(steps - WARMUP)
    cosine = END + 0.5 * (PEAK - END) * (1 + np.cos(np.pi * iterations / len(iterations)))
    return [*warmup.tolist(), *cosine.tolist()]


def test_the_schedule_is_that_of_the_paper_and_then_the_end_value() -> None:
    assert rates() == pytest.approx([*paper_rates(STEPS - 1), END], rel=EPSILON)


def test_the_schedule_is_that_of_open_clip_and_then_its_end_value() -> None:
    # open_clip's warm-up starts one step above 0, and its cosine ends at 0.
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=PEAK)
    theirs = cosine_lr(optimiser, PEAK, WARMUP, STEPS - 1)
    expected = [*(theirs(step) for step in range(STEPS - 1)), 0.0]
    assert rates(start=PEAK / WARMUP, end=0.0) == pytest.approx(expected, rel=EPSILON)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, START),
        (WARMUP - 1, PEAK),
        (WARMUP, PEAK),
        (WARMUP + 170, END + (PEAK - END) * (1 + math.sqrt(0.5)) / 2),
        (WARMUP + 340, (PEAK + END) / 2),
        (WARMUP + 510, END + (PEAK - END) * (1 - math.sqrt(0.5)) / 2),
        (STEPS - 1, END),
    ],
)
def test_the_rate_at_the_start_the_peak_each_quarter_of_the_cosine_and_the_end(step: int, rate: float) -> None:
    assert rates()[step] == pytest.approx(rate, rel=EPSILON)


def test_without_a_warm_up_the_first_step_has_the_peak() -> None:
    train = TrainConfig(warmup_epochs=0.0)
    assert learning_rate(0, STEPS, train) == pytest.approx(train.learning_rate, rel=EPSILON)


def test_every_parameter_group_gets_the_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(()))], "lr": lr} for lr in (1.0, 2.0)]
    optimiser = torch.optim.SGD(groups, lr=0.0)
    set_learning_rate(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]
