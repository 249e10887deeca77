"""Large arrays that are used again: fresh memory can cost more than what is written into it."""

import sys

import numpy as np

_ONLY_HERE = 3
"""References to an array that nobody else holds: the list's, the loop's, and that of the call which counts them."""

_MOST_KEPT = 4
"""Arrays; further ones are let go with whoever holds them."""


class ReusedArrays:
    """Gives arrays of one shape and type; one that nobody holds any more, nor a view of it, is given again.

    A view of an array holds the array, and so does whatever holds the view (a tensor, an Arrow buffer), so that the
    count of its references tells whether it is free. Not for several threads at once.
    """

    def __init__(self) -> None:
        """None yet."""
        self._arrays: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
        """An array with any content."""
        if self._arrays and (self._arrays[0].shape != shape or self._arrays[0].dtype != kind):
            self._arrays = []
        for array in self._arrays:
            if sys.getrefcount(array) == _ONLY_HERE:
                return array
        made = np.empty(shape, kind)
        if len(self._arrays) < _MOST_KEPT:
            self._arrays.append(made)
        return made
