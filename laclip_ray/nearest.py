"""The known name that a mistyped one most likely means."""

from collections.abc import Iterable
from difflib import get_close_matches

_CUTOFF = 0.6
"""Similarity from which a name counts as near, by `difflib`."""


def nearest(name: str, known: Iterable[str], cutoff: float = _CUTOFF) -> str | None:
    """The nearest of some names; None if none is near.

    >>> nearest("clened", ["cleaned", "terse"]), nearest("l4", ["h100"])
    ('cleaned', None)
    """
    by_lower = {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: a question if a known one is near, else nothing.

    >>> did_you_mean("evalute", ["evaluate", "estimate"])
    '; did you mean evaluate?'
    """
    found = nearest(name, known)
    return "" if found is None or found == name else f"; did you mean {found}?"
