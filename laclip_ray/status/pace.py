"""How fast units of work are committed, and when the others will be. Pure functions."""

import heapq
from collections.abc import Iterable

_NEWEST = 200
"""Commits that a rate is taken over. Older ones may be of another number of engines."""


def commits_per_s(times_s: Iterable[float], now_s: float, since_s: float = 0.0) -> float | None:
    """The rate of a run's newest commits. It falls while a run commits no unit.

    Args:
        times_s: when units were committed, in any order.
        now_s: the present, by the same clock.
        since_s: the start of the run. Earlier commits belong to other runs.

    Returns:
        None before the second commit.

    >>> commits_per_s([10.0, 20.0, 30.0], now_s=30.0)
    0.1
    """
    newest = heapq.nlargest(_NEWEST, (time_s for time_s in times_s if time_s >= since_s))
    if len(newest) < 2:
        return None
    elapsed_s = max(now_s, newest[0]) - newest[-1]
    return (len(newest) - 1) / elapsed_s if elapsed_s > 0 else None


def time_left_s(units_left: float, per_s: float | None) -> float | None:
    """When the work left is done at this rate; None if the rate is not known, or 0."""
    return units_left / per_s if per_s else None
