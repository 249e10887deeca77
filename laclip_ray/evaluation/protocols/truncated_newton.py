"""Newton's method with conjugate gradients, for smooth convex functions of many variables.

A step solves H d = -g by conjugate gradients with a preconditioner, to 3 % of the residual. It is halved until the
function decreases. Near the minimum each step divides the gradient by about 30, however different the curvatures are.
L-BFGS needs hundreds of evaluations there.

Source: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.1.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch

Linear = Callable[[torch.Tensor], torch.Tensor]
"""A symmetric positive definite matrix, by its products."""

_RESIDUAL = 0.03
"""Of the conjugate gradients, relative to their first one."""
_MAX_PRODUCTS = 200
"""Of one step. The direction of an early end still goes down."""
_SUFFICIENT = 1e-4
"""Share of the decrease that the gradient promises. Armijo's condition."""
_SHORTEST = 2.0**-30
"""Of a step, as a share of Newton's. A shorter one changes nothing but rounding."""
_ROUNDING = 1e-12
"""Relative decreases that values may not show. There a step must halve the gradient."""


class Local(Protocol):
    """A function near one point."""

    @property
    def value(self) -> float:
        """At the point."""

    @property
    def gradient(self) -> torch.Tensor:
        """At the point."""

    @property
    def is_sum_over_columns(self) -> bool:
        """Whether no second derivative joins two columns of a point [R, K]. Each column then has its own search."""

    def product(self, direction: torch.Tensor) -> torch.Tensor:
        """The matrix of second derivatives times a direction."""

    def preconditioner(self) -> Linear:
        """About the inverse of that matrix."""


class Minimum(NamedTuple):
    """Where the search ended."""

    point: torch.Tensor
    steps: int
    is_reached: bool
    """Whether the gradient is as small as asked for."""


def minimise(
    evaluate: Callable[[torch.Tensor], Local],
    start: torch.Tensor,
    tolerance: Callable[[torch.Tensor], float],
    max_steps: int,
) -> Minimum:
    """Minimise a convex function.

    Args:
        evaluate: the function near a point.
        start: the first point.
        tolerance: the largest norm of the gradient at a point where the search may end.
        max_steps: steps at most.
    """
    point, here = start, evaluate(start)
    for step in range(max_steps):
        if float(here.gradient.norm()) <= tolerance(point):
            return Minimum(point, step, True)
        found = _step(evaluate, point, here)
        if found is None:
            return Minimum(point, step, False)
        point, here = found
    return Minimum(point, max_steps, float(here.gradient.norm()) <= tolerance(point))


def _step(
    evaluate: Callable[[torch.Tensor], Local], point: torch.Tensor, here: Local
) -> tuple[torch.Tensor, Local] | None:
    """The point of the next step, and the function there. None: no step gets nearer to the minimum."""
    direction = _direction(here)
    slope, share = float((here.gradient * direction).sum()), 1.0
    ahead = evaluate(point + direction)
    if -slope <= _ROUNDING * abs(here.value):
        is_nearer = float(ahead.gradient.norm()) <= float(here.gradient.norm()) / 2
        return (point + direction, ahead) if is_nearer else None
    while not ahead.value <= here.value + _SUFFICIENT * share * slope:
        share /= 2
        if share < _SHORTEST:
            return None
        ahead = evaluate(point + share * direction)
    return point + share * direction, ahead


def _direction(here: Local) -> torch.Tensor:
    """About Newton's step."""
    solve = here.preconditioner()
    residual = -here.gradient
    preconditioned = solve(residual)

    def inner(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The scalar product, [1, 1], or that of each column, [1, K]."""
        product = (first * second).sum(dim=0, keepdim=True)
        return product if here.is_sum_over_columns else product.sum(dim=1, keepdim=True)

    search, found = preconditioned.clone(), torch.zeros_like(residual)
    size = first_size = inner(residual, preconditioned)
    for _ in range(_MAX_PRODUCTS):
        product = here.product(search)
        share = _ratio(size, inner(search, product))
        found.addcmul_(search, share)
        residual.addcmul_(product, share, value=-1.0)
        preconditioned = solve(residual)
        before, size = size, inner(residual, preconditioned)
        if bool((size <= _RESIDUAL**2 * first_size).all()):
            break
        search = preconditioned + _ratio(size, before) * search
    return found


def _ratio(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """0 where the second is not above 0, which only rounding does: the function is convex."""
    return torch.where(second > 0, first / second, 0.0)
