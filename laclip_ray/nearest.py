"""The known name that a mistyped one most likely means."""

from collections.abc import Iterable
from difflib import get_close_matches

_CUTOFF = 0.6
"""Similarity from which a name counts as near, by `difflib`."""
_CUTOFF_OF_SIMILAR = 0.4
_MOST_CHARACTERS = 200
"""Longer names are no typing errors, and comparing them is slow."""


def nearest(name: str, known: Iterable[str], cutoff: float = _CUTOFF) -> str | None:
    """The nearest of some names; None if all are far.

    >>> nearest("clened", ["cleaned", "terse"]), nearest("l4", ["h100"])
    ('cleaned', None)
    """
    if len(name) > _MOST_CHARACTERS:
        return None
    by_lower = {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def similar(name: str, known: Iterable[str], most: int = 6) -> list[str]:
    """Names that are a little like a name, the nearest first: for messages about long lists.

    >>> similar("ViT-B32", ["ViT-B-32", "ViT-B-16", "RN50"], most=1)
    ['ViT-B-32']
    """
    return get_close_matches(name, list(known), n=most, cutoff=_CUTOFF_OF_SIMILAR)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: a question if a known one is near, else empty.

    >>> did_you_mean("evalute", ["evaluate", "estimate"])
    '; did you mean evaluate?'
    """
    found = nearest(name, known)
    return "" if found is None or found == name else f"; did you mean {found}?"
