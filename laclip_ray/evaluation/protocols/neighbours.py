"""Classification by the nearest training images.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018), as in DINO
(Caron et al., ICCV 2021; `eval_knn.py`): the k training images of the highest cosine similarity s vote for their class,
each with the weight exp(s / 0.07).
"""

import numpy as np
import torch
import torch.nn.functional as F

from laclip_ray.config.evaluation import NeighboursConfig
from laclip_ray.evaluation.protocols.accuracies import Measured, accuracies, notes_on_classes
from laclip_ray.evaluation.protocols.features import Features, check_features

TEMPERATURE = 0.07
BLOCK_ELEMENTS = 2**24
"""Upper bound on the similarities computed at a time, unless one row has more. Each takes about 8 bytes."""


def nearest_neighbours(
    train: Features,
    test: Features,
    config: NeighboursConfig,
    unreadable: np.ndarray | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> Measured:
    """Measure how often the nearest training images vote for the right class.

    Args:
        train: images that vote.
        test: test images.
        config: how many vote.
        unreadable: labels of test images that could not be decoded, int64 [M]. Each counts as wrong, and their hits
            follow those of `test`.
        block_elements: similarities computed at a time, at most.

    Returns:
        The accuracies of `accuracies`; a class without a vote is not among the first five. Also `neighbours`, `images`
        (tested), `counted_wrong` (those that could not be decoded), `classes`, `train_images`, `notes`.

    Raises:
        NoResultError: a split is empty, or its features are not numbers or all the same.
    """
    check_features(train, "train")
    check_features(test, "test")
    classes, columns = np.unique(train.labels, return_inverse=True)
    votes = _votes(train, test, torch.from_numpy(columns), len(classes), config.neighbours, block_elements)
    measured, hits = accuracies(votes, classes, test.labels, unreadable)
    notes = notes_on_classes(classes, test.labels, test.class_names)
    if len(train) < config.neighbours:
        notes.append(f"There are {len(train)} training images, so {len(train)} vote instead of {config.neighbours}.")
    metrics = {
        **measured,
        "neighbours": min(config.neighbours, len(train)),
        "images": len(test),
        "counted_wrong": len(hits) - len(test),
        "classes": len(classes),
        "train_images": len(train),
        "notes": notes,
    }
    return Measured(metrics, hits)


def _votes(
    train: Features, test: Features, columns: torch.Tensor, classes: int, neighbours: int, block_elements: int
) -> np.ndarray:
    """The logarithm of the votes for each class: float32 [N, K], -inf for a class without a vote."""
    known = F.normalize(torch.from_numpy(train.values))
    asked = F.normalize(torch.from_numpy(test.values))
    count = min(neighbours, len(known))
    block_rows = max(1, block_elements // max(len(known), classes))
    blocks = []
    for first in range(0, len(asked), block_rows):
        similarities, rows = (asked[first : first + block_rows] @ known.T).topk(count, dim=1)
        votes = torch.zeros(len(rows), classes, dtype=torch.float64)
        votes.scatter_add_(1, columns[rows], (similarities.double() / TEMPERATURE).exp())
        blocks.append(votes.log().float())
    return torch.cat(blocks).numpy()
