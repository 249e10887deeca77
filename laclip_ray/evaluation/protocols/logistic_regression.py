"""Logistic regression on features, with either penalty on the weights, in float64 on the CPU.

    one label an image     mean over images of the cross-entropy of the softmax + penalty
    several labels         mean over images of the classes' summed binary cross-entropies + penalty
    penalty `squared`      ||W||^2 / (2 C N)      scikit-learn's `LogisticRegression(C=C)`, divided by C N
    penalty `norm`         ||W|| / (2 C)          LGSSL's, see `lgssl.py`

The bias is free. With several labels the squared penalty separates, so the result equals one regression a class.

`squared` is minimised by Newton's method (`truncated_newton.py`) until the norm of the gradient is 1e-5 of the
penalty's, ||W|| / (C N), or 1e-14. The penalty makes the loss strongly convex, so the distance of the weights from the
minimum is then about 1e-5 of their norm, for any C and first point. Top-1 agrees with scikit-learn's at its
minimum with the same C within 0.1 points; with its default tolerance, scikit-learn stops earlier where C is large.

`norm` is minimised as in LGSSL: L-BFGS with torch's tolerances, which end early where the loss hardly changes.

All derivatives are written out. They are computed in blocks of images: memory grows with the features, not with images
x classes.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from laclip_ray.evaluation.protocols.truncated_newton import Linear, minimise

Penalty = Literal["squared", "norm"]

TOLERANCE = 1e-5
"""Norm of the gradient at the end, relative to the squared penalty's."""
_SMALLEST_GRADIENT = 1e-14
"""Rounding hides smaller ones."""

_SMALL_STEP = 2**25
"""Products of a step below which one thread is faster."""

MAX_ITERATIONS = 1_000
BLOCK_ELEMENTS = 2**22
"""Upper bound on the logits computed at a time, unless one image has more. Each takes about 32 bytes."""
_KEPT_ELEMENTS = 2**25
"""Upper bound on probabilities kept for the products of a step (256 MB). More are computed anew for each product."""
_RIDGE = 1e-10
"""Added to the preconditioner's diagonal, relative to its mean. It stays positive definite in spite of rounding."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier of D features into K columns."""

    weights: torch.Tensor
    """float64 [D, K]."""
    biases: torch.Tensor
    """float64 [K]."""
    iterations: int
    """Steps of the search: of Newton's method, or of L-BFGS."""
    converged: bool
    """False if the steps ended first."""

    def scores(self, values: torch.Tensor) -> np.ndarray:
        """The logits of features [N, D]: float64 [N, K]."""
        logits: np.ndarray = torch.addmm(self.biases, values, self.weights).numpy()
        return logits

    def beyond(self, before: "Classifier") -> "Classifier":
        """As far from this classifier as this one is from `before`: where the next one of a path may be."""
        return Classifier(
            2 * self.weights - before.weights, 2 * self.biases - before.biases, self.iterations, self.converged
        )


def fit(
    values: torch.Tensor,
    targets: torch.Tensor,
    columns: int,
    c: float,
    penalty: Penalty = "squared",
    start: Classifier | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> Classifier:
    """Fit a classifier.

    Args:
        values: float64 [N, D].
        targets: int64 [N], the column of each image; or bool [N, K] if images have several labels.
        columns: K.
        c: the inverse of the penalty's weight, above 0.
        penalty: see the module.
        start: the first point. None: zero.
        block_elements: logits computed at a time, at most.
    """
    loss = _CrossEntropy(values, targets, max(1, block_elements // columns))
    point = torch.zeros(values.shape[1] + 1, columns, dtype=torch.float64)
    if start is not None:
        point = torch.cat([start.weights, start.biases[None]])
    with torch.no_grad(), _threads_for(values.numel() * columns):
        classifier = _fit_squared(loss, c, point) if penalty == "squared" else _fit_norm(loss, c, point)
    assert bool(classifier.weights.isfinite().all()), "features are finite"
    return classifier


@contextlib.contextmanager
def _threads_for(products: int) -> Iterator[None]:
    """Give torch one thread inside this context if a step is small: threads that wait for each other cost more."""
    before = torch.get_num_threads()
    if products < _SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class _CrossEntropy:
    """The mean cross-entropy of images, as a function of weights [D, K] above a row of biases."""

    values: torch.Tensor
    targets: torch.Tensor
    block_rows: int

    @property
    def blocks(self) -> list[slice]:
        """The images in blocks."""
        return [slice(first, first + self.block_rows) for first in range(0, len(self.values), self.block_rows)]

    def logits(self, block: slice, point: torch.Tensor) -> torch.Tensor:
        """Of the images of a block, [B, K]."""
        return torch.addmm(point[-1], self.values[block], point[:-1])

    def probabilities(self, block: slice, point: torch.Tensor) -> torch.Tensor:
        """Of the columns, for the images of a block, [B, K]."""
        logits = self.logits(block, point)
        return logits.sigmoid_() if self.targets.ndim == 2 else logits.softmax(dim=1)

    def evaluate(self, point: torch.Tensor, keeps: bool) -> tuple[float, torch.Tensor, list[torch.Tensor]]:
        """The loss, its gradient [D + 1, K], and with `keeps` the probabilities of each block."""
        total, gradient = 0.0, torch.zeros_like(point)
        kept = []
        for block in self.blocks:
            targets = self.targets[block]
            part, residuals = _cross_entropy(self.logits(block, point), targets)
            total += part
            self.add_back(block, residuals, gradient)
            if keeps:
                kept.append(_probabilities(residuals, targets))
        return total / len(self.values), gradient.div_(len(self.values)), kept

    def add_back(self, block: slice, by_image: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add the derivatives with respect to weights and biases, from those with respect to logits [B, K]."""
        gradient[:-1].addmm_(self.values[block].T, by_image)
        gradient[-1].add_(by_image.sum(dim=0))


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The summed loss of a block of images, and its gradient with respect to the logits [B, K].

    The gradient is p - 1 at an image's label. It is computed from the others: where p is almost 1, the difference would
    be rounding, and it is what large C are about.
    """
    if targets.ndim == 2:
        signs = 1.0 - 2.0 * targets.double()
        signed = logits.mul_(signs)
        return float(F.softplus(signed).sum()), signed.sigmoid_().mul_(signs)
    rows = torch.arange(len(targets))
    logarithms = logits.log_softmax(dim=1)
    total = -float(logarithms[rows, targets].sum())
    residuals = logarithms.exp_()
    residuals[rows, targets] = 0.0
    residuals[rows, targets] = -residuals.sum(dim=1)
    return total, residuals


def _probabilities(residuals: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The probabilities [B, K] from the gradient of `_cross_entropy`, in its place."""
    if targets.ndim == 2:
        return residuals.add_(targets)
    residuals[torch.arange(len(targets)), targets] += 1.0
    return residuals


@dataclass(frozen=True, eq=False)
class _Local:
    """The loss with the squared penalty near a point (`truncated_newton.Local`)."""

    loss: _CrossEntropy
    weight: float
    """Of the penalty: 1 / (C N)."""
    point: torch.Tensor
    value: float
    gradient: torch.Tensor
    kept: list[torch.Tensor]
    """The probabilities of each block; empty if they are too many."""

    @classmethod
    def at(cls, loss: _CrossEntropy, weight: float, point: torch.Tensor) -> "_Local":
        """The loss near a point."""
        value, gradient, kept = loss.evaluate(point, len(loss.values) * point.shape[1] <= _KEPT_ELEMENTS)
        weights = point[:-1]
        gradient[:-1].add_(weights, alpha=weight)
        return cls(loss, weight, point, value + weight / 2 * float(weights.norm()) ** 2, gradient, kept)

    @property
    def is_sum_over_columns(self) -> bool:
        """Whether images may have several labels: then each column is a regression of its own."""
        return self.loss.targets.ndim == 2

    def _blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Each block with its probabilities."""
        for number, block in enumerate(self.loss.blocks):
            yield block, self.kept[number] if self.kept else self.loss.probabilities(block, self.point)

    def product(self, direction: torch.Tensor) -> torch.Tensor:
        """The second derivatives times a direction."""
        product = torch.zeros_like(direction)
        for block, probabilities in self._blocks():
            moved = self.loss.logits(block, direction)
            if self.loss.targets.ndim == 2:
                moved.mul_(probabilities).mul_(1 - probabilities)
            else:
                moved.mul_(probabilities)
                moved.addcmul_(probabilities, moved.sum(dim=1, keepdim=True), value=-1.0)
            self.loss.add_back(block, moved, product)
        product.div_(len(self.loss.values))
        product[:-1].add_(direction[:-1], alpha=self.weight)
        return product

    def preconditioner(self) -> Linear:
        """The inverse of the second derivatives of one column, with the mean curvature p (1 - p) of all columns."""
        width = len(self.point)
        matrix = torch.zeros(width, width, dtype=torch.float64)
        for block, probabilities in self._blocks():
            values = self.loss.values[block]
            curvature = (probabilities * (1 - probabilities)).mean(dim=1)
            weighted = values * curvature[:, None]
            matrix[:-1, :-1].addmm_(values.T, weighted)
            matrix[-1, :-1].add_(weighted.sum(dim=0))
            matrix[-1, -1].add_(curvature.sum())
        matrix[:-1, -1] = matrix[-1, :-1]
        matrix.div_(len(self.loss.values))
        matrix.diagonal()[:-1].add_(self.weight)
        factor = _factor(matrix)
        return lambda residual: torch.cholesky_solve(residual, factor)


def _factor(matrix: torch.Tensor) -> torch.Tensor:
    """Cholesky's factor of a positive definite matrix with rounding errors."""
    ridge = _RIDGE * float(matrix.diagonal().mean())
    while True:
        matrix.diagonal().add_(ridge)
        factor: torch.Tensor
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return factor
        ridge *= 100


def _fit_squared(loss: _CrossEntropy, c: float, start: torch.Tensor) -> Classifier:
    weight = 1 / (c * len(loss.values))

    def tolerance(point: torch.Tensor) -> float:
        return max(TOLERANCE * weight * float(point[:-1].norm()), _SMALLEST_GRADIENT)

    found = minimise(lambda point: _Local.at(loss, weight, point), start, tolerance, MAX_ITERATIONS)
    return Classifier(found.point[:-1], found.point[-1], found.steps, found.is_reached)


def _fit_norm(loss: _CrossEntropy, c: float, start: torch.Tensor) -> Classifier:
    point = start.clone()
    optimiser = torch.optim.LBFGS([point], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    @torch.no_grad()
    def closure() -> float:
        value, gradient, _ = loss.evaluate(point, keeps=False)
        weights = point[:-1]
        norm = float(weights.norm())
        if norm:  # at zero the norm has no gradient, and 0 is one of its subgradients
            gradient[:-1].add_(weights, alpha=1 / (2 * c * norm))
        point.grad = gradient
        return value + norm / (2 * c)

    optimiser.step(closure)
    state = optimiser.state[point]
    # L-BFGS also ends after 1.25 evaluations of the loss for each iteration.
    converged = state["n_iter"] < MAX_ITERATIONS and state["func_evals"] < MAX_ITERATIONS * 5 // 4
    return Classifier(point[:-1], point[-1], state["n_iter"], converged)
