"""Counts by reason, with the names of the first occurrences."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NAMES_KEPT = 20
"""Names kept for each reason."""
NAMES_SHOWN = 5
"""Names shown in a message."""


@dataclass
class Tally:
    """How often each reason occurred, and the first names for each."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)
    """By reason, at most `NAMES_KEPT` names without repeats."""

    def add(self, reason: str, name: str) -> None:
        """Count one occurrence."""
        self.counts[reason] += 1
        self.add_names(reason, (name,))

    def add_names(self, reason: str, names: Iterable[str]) -> None:
        """Keep names for a reason counted elsewhere, up to `NAMES_KEPT`."""
        kept = self.names.setdefault(reason, [])
        for name in names:
            if len(kept) == NAMES_KEPT:
                return
            if name not in kept:
                kept.append(name)

    def merge(self, counts: Mapping[str, int], names: Mapping[str, Iterable[str]]) -> None:
        """Add the counts and names of another tally."""
        self.counts.update(counts)
        for reason, reason_names in names.items():
            self.add_names(reason, reason_names)


def first_names(names: Iterable[str], most: int = NAMES_SHOWN, separator: str = ", ") -> str:
    """The first names as one text, and the number of the others.

    >>> first_names(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    listed = list(names)
    more = len(listed) - most
    return separator.join(listed[:most]) + (f" and {more:,} more" if more > 0 else "")
