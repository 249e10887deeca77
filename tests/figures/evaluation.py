"""Figures of evaluation: equal to the standard tools, resumable, fast, and what robustness to wording says."""

from collections.abc import Callable, Collection, Iterator

from tests.figures.evaluation_during import during
from tests.figures.evaluation_features import features
from tests.figures.evaluation_peers import clip_benchmark
from tests.figures.evaluation_probe import probes
from tests.figures.evaluation_suites import suites
from tests.figures.evaluation_wording import wording
from tests.figures.figure import Figure, outcomes_of_tests


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """The figures of the chosen shows, all without a choice."""
    areas: tuple[tuple[int, Callable[[int], Iterator[Figure]]], ...] = (
        (1, clip_benchmark),
        (2, probes),
        (3, lambda show: outcomes_of_tests(show, "../integration/test_evaluation.py")),
        (3, features),
        (4, suites),
        (5, wording),
        (6, during),
        (7, lambda show: outcomes_of_tests(show, "evaluation")),
    )
    for show, measure in areas:
        if not shows or show in shows:
            yield from measure(show)
