"""Logistic regression on features, with either penalty on the weights, by L-BFGS in float64 on the CPU.

    one label an image     mean over images of the cross-entropy of the softmax + penalty
    several labels         mean over images of the classes' summed binary cross-entropies + penalty
    penalty `squared`      ||W||^2 / (2 C N)      scikit-learn's `LogisticRegression(C=C)`, divided by C N
    penalty `norm`         ||W|| / (2 C)          LGSSL's, see `lgssl.py`

The bias is free. With several labels the squared penalty separates, so the result is that of one regression a class.
Both gradients are written out. They are computed in blocks of images, so that memory grows with the features and not
with images x classes.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

Penalty = Literal["squared", "norm"]

_SMALL_STEP = 2**25
"""Products of a step below which one thread is faster."""

MAX_ITERATIONS = 1_000
BLOCK_ELEMENTS = 2**22
"""Upper bound on the logits computed at a time, unless one image has more. Each takes about 32 bytes."""

HISTORY = 20
"""Steps that L-BFGS remembers. Torch's 100 saves no iterations, and takes 1.2 GB for 1,000 classes of 768 features."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier of D features into K columns."""

    weights: torch.Tensor
    """float64 [D, K]."""
    biases: torch.Tensor
    """float64 [K]."""
    iterations: int
    """Of L-BFGS."""
    converged: bool
    """False if the iterations ended first."""

    def scores(self, values: torch.Tensor) -> np.ndarray:
        """The logits of features [N, D]: float64 [N, K]."""
        logits: np.ndarray = torch.addmm(self.biases, values, self.weights).numpy()
        return logits


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
    count = len(values)
    shape = values.shape[1], columns
    scale, options = _optimisation(penalty, c * count, 4 if targets.ndim == 2 else columns)
    scaled = torch.zeros(shape, dtype=torch.float64) if start is None else start.weights / scale
    biases = torch.zeros(columns, dtype=torch.float64) if start is None else start.biases.clone()
    of_weights, of_biases = torch.zeros_like(scaled), torch.zeros_like(biases)
    scaled.grad, biases.grad = of_weights, of_biases
    block_rows = max(1, block_elements // columns)
    optimiser = torch.optim.LBFGS([scaled, biases], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe", **options)

    @torch.no_grad()
    def loss() -> float:
        weights = scaled * scale
        of_weights.zero_()
        of_biases.zero_()
        total = 0.0
        for first in range(0, count, block_rows):
            block = slice(first, first + block_rows)
            part, residuals = _cross_entropy(torch.addmm(biases, values[block], weights), targets[block])
            total += part
            of_weights.addmm_(values[block].T, residuals)
            of_biases.add_(residuals.sum(dim=0))
        of_weights.div_(count)
        of_biases.div_(count)
        total = total / count + _add_penalty(weights, of_weights, c, penalty, count)
        of_weights.mul_(scale)
        return total

    with _threads_for(count * scaled.numel()):
        optimiser.step(loss)
    state = optimiser.state[scaled]
    # L-BFGS also ends after 1.25 evaluations of the loss for each iteration.
    converged = state["n_iter"] < MAX_ITERATIONS and state["func_evals"] < MAX_ITERATIONS * 5 // 4
    assert bool(scaled.isfinite().all()), "features are finite"
    return Classifier(scaled * scale, biases, state["n_iter"], converged)


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


def _optimisation(penalty: Penalty, c_times_count: float, spread: int) -> tuple[float, dict[str, Any]]:
    """The scale of the weights in which L-BFGS searches, and its options.

    The squared penalty curves the loss in the weights by 1 / (C N). The cross-entropy curves it in the biases by about
    1 / `spread`. For small C the biases would need hundreds of iterations; the scale makes both curvatures alike.

    The largest gradient at the end is 1e-8, and at most a hundredth of the penalty's gradient of a weight of 1. With a
    fixed tolerance, and with torch's on the change of the loss, large C would end early on separable classes, as
    soon as the loss is small, at weights that depend on the first point.

    With the other penalty all is as in LGSSL: no scale, and torch's tolerances.
    """
    if penalty == "norm":
        return 1.0, {}
    tolerance = max(min(1e-8, 0.01 / c_times_count), 1e-13)  # float64 has no smaller gradients
    options = {"tolerance_grad": tolerance, "tolerance_change": 0.0, "history_size": HISTORY}
    return 1 / math.sqrt(1 + spread / c_times_count), options


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The summed loss of a block of images, and its gradient with respect to the logits [B, K]."""
    if targets.ndim == 2:
        wanted = targets.double()
        return float((F.softplus(logits) - wanted * logits).sum()), logits.sigmoid() - wanted
    rows = torch.arange(len(targets))
    logarithms = logits.log_softmax(dim=1)
    total = -float(logarithms[rows, targets].sum())
    residuals = logarithms.exp_()
    residuals[rows, targets] -= 1
    return total, residuals


def _add_penalty(weights: torch.Tensor, gradient: torch.Tensor, c: float, penalty: Penalty, count: int) -> float:
    """The penalty; its gradient is added to `gradient`."""
    norm = float(weights.norm())
    if penalty == "squared":
        gradient.add_(weights, alpha=1 / (c * count))
        return norm * norm / (2 * c * count)
    if norm:  # at zero the norm has no gradient, and 0 is one of its subgradients
        gradient.add_(weights, alpha=1 / (2 * c * norm))
    return norm / (2 * c)
