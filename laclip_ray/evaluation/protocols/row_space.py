"""The space that the rows of a feature matrix span.

A penalised linear classifier of N images has its weights in the span of their features: a part at right angles to them
changes no logit, and the penalty removes it. With fewer images than features, the classifier is found there: N numbers
a class instead of D. The basis is orthonormal, so logits and the norm of the weights stay the same.
"""

from dataclasses import dataclass, replace

import torch

from laclip_ray.evaluation.protocols.logistic_regression import Classifier


@dataclass(frozen=True, eq=False)
class RowSpace:
    """Features of N images in the basis of their span."""

    values: torch.Tensor
    """float64 [N, R], where R is at most N and at most D."""
    basis: torch.Tensor | None
    """float64 [D, R], its columns orthonormal. None: the features stay as they are, R = D."""

    @classmethod
    def of(cls, values: torch.Tensor) -> "RowSpace":
        """The span of features, float64 [N, D]. With as many images as features nothing changes."""
        count, width = values.shape
        if count >= width:
            return cls(values, None)
        left, sizes, right = torch.linalg.svd(values, full_matrices=False)
        rank = int((sizes > sizes[0] * torch.finfo(sizes.dtype).eps * width).sum())
        return cls(left[:, :rank] * sizes[:rank], right[:rank].T.contiguous())

    def inside(self, classifier: Classifier) -> Classifier:
        """A classifier of features, as one in the span. A part of its weights outside the span is lost."""
        if self.basis is None:
            return classifier
        return replace(classifier, weights=self.basis.T @ classifier.weights)

    def outside(self, classifier: Classifier) -> Classifier:
        """A classifier in the span, as one of features."""
        if self.basis is None:
            return classifier
        return replace(classifier, weights=self.basis @ classifier.weights)
