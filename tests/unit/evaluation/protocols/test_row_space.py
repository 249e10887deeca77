"""A classifier in the span of the images is the classifier of the features."""

import pytest
import torch

from laclip_ray.evaluation.protocols.logistic_regression import Penalty, fit
from laclip_ray.evaluation.protocols.row_space import RowSpace
from tests.unit.evaluation.protocols.mixtures import skewed

FEATURES = skewed("train")
VALUES, TARGETS = torch.from_numpy(FEATURES.values).double() * 30, torch.from_numpy(FEATURES.labels)


def test_few_images_of_many_features_span_as_many_dimensions_as_images() -> None:
    rows = RowSpace.of(VALUES)
    assert rows.values.shape == (40, 40)
    assert rows.basis is not None
    torch.testing.assert_close(rows.values @ rows.basis.T, VALUES)
    torch.testing.assert_close(rows.basis.T @ rows.basis, torch.eye(40, dtype=torch.float64))


def test_repeated_images_span_no_further_dimension() -> None:
    rows = RowSpace.of(torch.cat([VALUES[:10], VALUES[:10]]))
    assert rows.values.shape == (20, 10)


def test_more_images_than_features_stay_as_they_are() -> None:
    rows = RowSpace.of(VALUES[:, :30])
    assert rows.basis is None
    assert rows.values.shape == (40, 30)


@pytest.mark.parametrize("penalty", ["squared", "norm"])
def test_the_classifier_is_that_of_the_features(penalty: Penalty) -> None:
    rows = RowSpace.of(VALUES)
    inside = rows.outside(fit(rows.values, TARGETS, 5, 1.0, penalty))
    outside = fit(VALUES, TARGETS, 5, 1.0, penalty)
    scale = float(outside.weights.abs().max())
    torch.testing.assert_close(inside.weights, outside.weights, atol=1e-3 * scale, rtol=0)


def test_a_classifier_comes_back_from_the_span() -> None:
    rows = RowSpace.of(VALUES)
    inside = fit(rows.values, TARGETS, 5, 1.0)
    torch.testing.assert_close(rows.inside(rows.outside(inside)).weights, inside.weights)
