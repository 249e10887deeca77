"""Figures of rewrites that can be trusted: the gate against people, real models, scores, the paper's setting."""

from collections.abc import Callable, Collection, Iterator

from tests.figures.figure import Figure
from tests.figures.rewrites_choice import choice
from tests.figures.rewrites_cost import cost_of_meaning
from tests.figures.rewrites_engine import computed_tokens, pipeline_against_engine
from tests.figures.rewrites_paper import paper
from tests.figures.rewrites_preview import preview
from tests.figures.rewrites_quality import defects, faithful_shares, quality
from tests.figures.rewrites_shapes import shapes


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """The figures of the chosen shows, all without a choice."""
    areas: tuple[tuple[int, Callable[[int], Iterator[Figure]]], ...] = (
        (1, quality),
        (2, faithful_shares),
        (3, defects),
        (3, shapes),
        (4, cost_of_meaning),
        (5, computed_tokens),
        (5, pipeline_against_engine),
        (6, paper),
        (7, choice),
        (8, preview),
    )
    for show, measure in areas:
        if not shows or show in shows:
            yield from measure(show)
