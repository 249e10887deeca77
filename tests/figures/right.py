"""Figures of what happens to wrong input: refused, counted, or the run continues."""

from collections.abc import Callable, Collection, Iterator

from tests.figures.figure import Figure
from tests.figures.right_cases import case_table
from tests.figures.right_cost import cost_of_checks
from tests.figures.right_hostile import hostile_sizes
from tests.figures.right_lease import lease
from tests.figures.right_secrets import secrets
from tests.figures.right_signals import signals


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """The figures of the chosen shows, all without a choice."""
    areas: dict[int, Callable[[int], Iterator[Figure]]] = {
        1: case_table,
        2: signals,
        3: lease,
        4: hostile_sizes,
        5: secrets,
        6: cost_of_checks,
    }
    for show, measure in areas.items():
        if not shows or show in shows:
            yield from measure(show)
