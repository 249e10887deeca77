"""The rate of counted work, and the time for the rest."""

from collections import deque

_WINDOW_S = 120.0
"""A rate is taken over this time: long enough for work that arrives in lumps, short enough to follow a change."""
_FEWEST_S = 1.0


class Pace:
    """The newest counts of a piece of work."""

    def __init__(self) -> None:
        """Begin without a count."""
        self._counts: deque[tuple[float, float]] = deque()

    def add(self, done: float, now_s: float) -> None:
        """Add a count. A smaller one than before begins anew: work was lost.

        Args:
            done: things done by now.
            now_s: by a clock that does not go back.
        """
        if self._counts and done < self._counts[-1][1]:
            self._counts.clear()
        if len(self._counts) == 1 and done == self._counts[0][1]:
            self._counts.clear()  # an engine or a worker still starts
        self._counts.append((now_s, done))
        while len(self._counts) > 2 and self._counts[1][0] <= now_s - _WINDOW_S:
            self._counts.popleft()

    def per_s(self, now_s: float) -> float | None:
        """The rate; it falls while no work is done. None: not known yet.

        >>> pace = Pace()
        >>> pace.add(10, 0.0)
        >>> pace.add(50, 4.0)
        >>> pace.per_s(8.0)
        5.0
        """
        if not self._counts:
            return None
        (first_s, first), (_, last) = self._counts[0], self._counts[-1]
        elapsed_s = now_s - first_s
        return (last - first) / elapsed_s if elapsed_s >= _FEWEST_S and last > first else None

    def left_s(self, total: float, now_s: float) -> float | None:
        """The time for the rest at this rate; None: not known."""
        per_s = self.per_s(now_s)
        return max(0.0, total - self._counts[-1][1]) / per_s if per_s else None
