"""The search finds the minimum of ill-conditioned functions in few steps, and says if it does not."""

from dataclasses import dataclass

import pytest
import torch

from laclip_ray.evaluation.protocols.truncated_newton import Linear, minimise

CURVATURES = torch.logspace(-6, 6, 25, dtype=torch.float64).reshape(5, 5)


@dataclass(frozen=True)
class Valley:
    """sum of softplus(x) - x / 2 + curvature x^2 / 2, near a point; its minimum is 0."""

    point: torch.Tensor
    is_preconditioned: bool = True
    is_sum_over_columns: bool = False

    @property
    def value(self) -> float:
        own = torch.nn.functional.softplus(self.point) - self.point / 2 + CURVATURES * self.point**2 / 2
        return float(own.sum())

    @property
    def gradient(self) -> torch.Tensor:
        return self.point.sigmoid() - 0.5 + CURVATURES * self.point

    def product(self, direction: torch.Tensor) -> torch.Tensor:
        share = self.point.sigmoid()
        return (share * (1 - share) + CURVATURES) * direction

    def preconditioner(self) -> Linear:
        if not self.is_preconditioned:
            return lambda residual: residual.clone()
        return lambda residual: residual / (0.25 + CURVATURES)


START = torch.full((5, 5), 3.0, dtype=torch.float64)


@pytest.mark.parametrize("is_preconditioned", [True, False])
@pytest.mark.parametrize("is_sum_over_columns", [True, False])
def test_the_minimum_is_found_however_different_the_curvatures_are(
    is_preconditioned: bool, is_sum_over_columns: bool
) -> None:
    found = minimise(lambda point: Valley(point, is_preconditioned, is_sum_over_columns), START, lambda _: 1e-10, 100)
    assert found.is_reached
    assert found.steps < 30
    assert float(found.point.abs().max()) < 1e-9


def test_a_start_at_the_minimum_takes_no_step() -> None:
    start = torch.zeros_like(START)
    found = minimise(Valley, start, lambda _: 1e-10, 100)
    assert (found.steps, found.is_reached) == (0, True)
    assert torch.equal(found.point, start)


def test_a_step_that_overshoots_is_halved() -> None:
    class Far(Valley):
        def product(self, direction: torch.Tensor) -> torch.Tensor:
            return super().product(direction) / 100

    assert minimise(Far, START, lambda _: 1e-3, 500).is_reached


def test_steps_that_run_out_are_said() -> None:
    assert not minimise(Valley, START, lambda _: 1e-10, 1).is_reached


def test_a_gradient_that_rounding_hides_ends_the_search() -> None:
    found = minimise(Valley, START, lambda _: 0.0, 10_000)
    assert found.steps < 100
    assert float(found.point.abs().max()) < 1e-6


def test_the_start_is_not_changed() -> None:
    start = START.clone()
    minimise(Valley, start, lambda _: 1e-10, 100)
    assert torch.equal(start, START)
