"""The search for C in LGSSL's linear probe, which the LaCLIP paper's linear probes follow.

Source: El Banani, Desai and Johnson, "Learning Visual Representations via Language-Guided Sampling" (CVPR 2023), and
`lgssl/evaluation/` in github.com/mbanani/lgssl. The facts of that probe:

- Features are used unchanged. The images of a split without validation give every fifth of each class to it.
- Mean cross-entropy + ||W|| / (2 C), with the norm not squared and the penalty not divided by the number of images. The
  bias is free; weights and bias start at zero for every C.
- L-BFGS with strong Wolfe, 1,000 iterations.
- Seven values of C from 1e-6 to 1e6, two decades apart. Around the best one, 29 values in the two decades on each side
  (seven a decade), cut to [1e-6, 1e6], of which the search visits some by halving.
- The final probe trains on train and validation.

Here the arithmetic is float64 on the CPU, theirs float32 on a GPU; and ids choose the validation images.
"""

import math
from collections.abc import Callable, Sequence

COARSE = tuple(10.0**power for power in range(-6, 7, 2))
"""Values of C of the first sweep."""
FINE_COUNT = 29
"""Values of C of the second sweep, before those outside the coarse ones are cut."""

MOST_VISITED = len(COARSE) + 12
"""Values that the search visits, at most: three quarter points in each of four halvings, and the last."""


def fine_values(best: float) -> list[float]:
    """The values of C of the second sweep, ascending.

    Args:
        best: the best value of the first.
    """
    middle = FINE_COUNT // 2
    centre = math.log10(best)
    # The middle is `best` itself: its classifier is not fitted twice.
    values = [best if n == middle else 10 ** (centre + 2 * (n - middle) / middle) for n in range(FINE_COUNT)]
    slack = 1 + 1e-9  # ends of the range, after rounding
    return [value for value in values if COARSE[0] / slack <= value <= COARSE[-1] * slack]


def search(score: Callable[[float], float]) -> dict[float, float]:
    """Search for the C of the highest score.

    Among equal scores the search prefers the smaller values of C: it takes the smallest best coarse value, and goes
    left before it goes right, and right before it stays.

    Args:
        score: the validation score of a value of C. It is called once for each value.

    Returns:
        The score of each visited value, the best coarse one first. The choice is the first of the best.
    """
    coarse = {c: score(c) for c in COARSE}
    best = max(coarse, key=coarse.__getitem__)
    visited = {best: coarse[best], **coarse}
    values = fine_values(best)
    while len(values) > 1:
        quarters = [values[number] for number in quarter_points(len(values))]
        for c in quarters:
            if c not in visited:
                visited[c] = score(c)
        values = _narrowed(values, [visited[c] for c in quarters])
    return visited


def quarter_points(count: int) -> tuple[int, int, int]:
    """Positions of the lower quarter, the middle and the upper quarter in `count` values."""
    return count // 4, count // 2, count - math.ceil(count / 4)


def _narrowed(values: Sequence[float], scores: Sequence[float]) -> list[float]:
    """The half of the values around the best of the three quarter points."""
    lower, middle, upper = quarter_points(len(values))
    best = max(scores)
    if scores[0] == best:
        return list(values[:middle])
    return list(values[middle:] if scores[2] == best else values[lower:upper])
