"""Classifiers are at the minimum of the documented loss, and equal scikit-learn's."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from laclip_ray.evaluation.protocols import logistic_regression
from laclip_ray.evaluation.protocols.logistic_regression import Classifier, Penalty, fit
from tests.unit.evaluation.protocols.mixtures import mixture, several_labels

CLASSES = 5


def problem(is_multilabel: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    features = mixture("train", CLASSES, noise=2.0)
    labels = several_labels(features, CLASSES).labels if is_multilabel else features.labels
    return torch.from_numpy(features.values).double(), torch.from_numpy(labels)


def separable() -> tuple[torch.Tensor, torch.Tensor]:
    features = mixture("train", CLASSES, noise=0.5)
    return torch.from_numpy(features.values).double(), torch.from_numpy(features.labels)


def gradients(classifier: Classifier, c: float, penalty: Penalty, is_multilabel: bool) -> tuple[torch.Tensor, ...]:
    """Gradients of the loss as the module documents it, by automatic differentiation."""
    values, targets = problem(is_multilabel)
    weights, biases = classifier.weights.clone().requires_grad_(), classifier.biases.clone().requires_grad_()
    logits = values @ weights + biases
    if is_multilabel:
        loss = F.binary_cross_entropy_with_logits(logits, targets.double(), reduction="none").sum(dim=1).mean()
    else:
        loss = F.cross_entropy(logits, targets)
    norm = weights.norm()
    loss = loss + (norm**2 / (2 * c * len(values)) if penalty == "squared" else norm / (2 * c))
    return torch.autograd.grad(loss, [weights, biases])


@pytest.mark.parametrize("is_multilabel", [False, True])
@pytest.mark.parametrize("penalty", ["squared", "norm"])
@pytest.mark.parametrize("c", [0.5, 20.0])
def test_the_loss_is_flat_at_the_result(is_multilabel: bool, penalty: Penalty, c: float) -> None:
    classifier = fit(*problem(is_multilabel), CLASSES, c, penalty)
    assert classifier.converged
    for gradient in gradients(classifier, c, penalty, is_multilabel):
        assert float(gradient.abs().max()) < (1e-6 if penalty == "squared" else 2e-4)  # torch's tolerances are wider


def peer(values: torch.Tensor, targets: np.ndarray, c: float) -> Any:
    return LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=10_000).fit(values.numpy(), targets)


@pytest.mark.parametrize("c", [1e-5, 1e-3, 1.0, 1e3, 1e6])
def test_coefficients_equal_scikit_learns_at_the_same_c(c: float) -> None:
    values, targets = problem()
    ours, theirs = fit(values, targets, CLASSES, c), peer(values, targets.numpy(), c)
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.weights.T.numpy(), theirs.coef_, atol=1e-4 * scale)
    # The softmax does not change if all biases do.
    biases = ours.biases.numpy()
    np.testing.assert_allclose(biases - biases.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=1e-3)


def test_several_labels_are_one_regression_a_class() -> None:
    values, targets = problem(is_multilabel=True)
    ours = fit(values, targets, CLASSES, 0.7)
    for column in range(CLASSES):
        theirs = peer(values, targets[:, column].numpy(), 0.7)
        np.testing.assert_allclose(ours.weights[:, column].numpy(), theirs.coef_[0], atol=1e-4)
        assert float(ours.biases[column]) == pytest.approx(theirs.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_the_size_of_a_block_does_not_change_the_result(is_multilabel: bool) -> None:
    whole = fit(*problem(is_multilabel), CLASSES, 1.0)
    in_parts = fit(*problem(is_multilabel), CLASSES, 1.0, block_elements=7 * CLASSES)
    torch.testing.assert_close(whole.weights, in_parts.weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_probabilities_that_are_not_kept_are_computed_anew(
    is_multilabel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fit(*problem(is_multilabel), CLASSES, 1.0, block_elements=7 * CLASSES)
    monkeypatch.setattr(logistic_regression, "_KEPT_ELEMENTS", 0)
    anew = fit(*problem(is_multilabel), CLASSES, 1.0, block_elements=7 * CLASSES)
    torch.testing.assert_close(kept.weights, anew.weights, atol=1e-9, rtol=0)


@pytest.mark.parametrize("c", [1e-5, 1e-2, 1.0, 1e3, 1e6])
def test_the_weights_are_within_the_tolerance_of_the_minimum(c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit(*separable(), CLASSES, c)
    monkeypatch.setattr(logistic_regression, "TOLERANCE", 1e-9)
    nearer = fit(*separable(), CLASSES, c)
    assert found.converged
    assert float((found.weights - nearer.weights).norm()) < 2e-5 * float(nearer.weights.norm())


def test_the_next_classifier_of_a_path_lies_on_its_line() -> None:
    first, second = fit(*problem(), CLASSES, 1.0), fit(*problem(), CLASSES, 2.0)
    torch.testing.assert_close(second.beyond(first).weights - second.weights, second.weights - first.weights)


@pytest.mark.parametrize(("first", "c"), [(100.0, 0.1), (1e3, 1e6)])
def test_the_first_point_does_not_change_the_result(first: float, c: float) -> None:
    start = fit(*separable(), CLASSES, first)
    from_zero, from_start = fit(*separable(), CLASSES, c), fit(*separable(), CLASSES, c, start=start)
    assert float((from_zero.weights - from_start.weights).abs().max()) < 0.01 * float(from_zero.weights.abs().max())


def test_a_start_is_not_changed() -> None:
    start = fit(*problem(), CLASSES, 100.0)
    weights = start.weights.clone()
    fit(*problem(), CLASSES, 0.1, start=start)
    assert torch.equal(start.weights, weights)


def test_a_large_norm_penalty_keeps_the_weights_at_zero() -> None:
    assert float(fit(*problem(), CLASSES, 1e-6, "norm").weights.norm()) < 1e-6


def test_scores_are_logits() -> None:
    values, targets = problem()
    classifier = fit(values, targets, CLASSES, 1.0)
    np.testing.assert_allclose(classifier.scores(values), (values @ classifier.weights + classifier.biases).numpy())


def test_too_few_iterations_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "MAX_ITERATIONS", 3)
    assert not fit(*problem(), CLASSES, 1.0).converged
