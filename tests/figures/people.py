"""Figures of people: what they need from a folder of pictures to a page worth showing."""

from collections.abc import Callable, Collection, Iterator

from tests.figures.figure import Figure
from tests.figures.people_diaries import diaries
from tests.figures.people_log import log
from tests.figures.people_messages import messages
from tests.figures.people_pages import pages
from tests.figures.people_start import starts
from tests.figures.people_trackers import trackers
from tests.figures.people_words import words


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """The figures of the chosen shows, all without a choice."""
    areas: tuple[tuple[int, Callable[[int], Iterator[Figure]]], ...] = (
        (1, diaries),
        (2, log),
        (3, pages),
        (4, starts),
        (5, words),
        (6, messages),
        (7, trackers),
    )
    for show, measure in areas:
        if not shows or show in shows:
            yield from measure(show)
