"""Reasons why a listing leaves files out, and the line that says so."""

import logging
from functools import cache

from laclip_ray.tally import Tally, first_names

logger = logging.getLogger(__name__)

HIDDEN = "hidden"
UNFINISHED = "unfinished"
NO_DATA = "no_data"
BESIDE_TAR = "beside_tar"
STATISTICS = "statistics"
GIVEN_TWICE = "given_twice"
LINK_LOOP = "link_loop"
OTHER_FORMAT = "other_format"
COMPRESSED = "compressed_table"
LINK_DANGLING = "dangling_link"
NOT_A_FILE = "not_a_file"
DIRECTORY_UNREADABLE = "directory_unreadable"

_WORDS = {
    HIDDEN: "hidden, with a name that begins with . or _",
    UNFINISHED: "unfinished",
    NO_DATA: "of no data format",
    BESIDE_TAR: "beside a tar of the same name",
    STATISTICS: "with img2dataset's counts",
    GIVEN_TWICE: "named twice",
    LINK_LOOP: "a link to a directory that is read already",
    OTHER_FORMAT: "of another format than data.format",
    COMPRESSED: "compressed; unpack it to read it",
    LINK_DANGLING: "a link to nothing",
    NOT_A_FILE: "a pipe, a socket or a device",
    DIRECTORY_UNREADABLE: "a directory that cannot be read",
}
"""By reason, in the order of a line."""

_MAYBE_DATA = frozenset({COMPRESSED, LINK_DANGLING, DIRECTORY_UNREADABLE})
"""Reasons of files that a user may want to be read."""


def reason_with_extension(reason: str, extension: str) -> str:
    """The reason under which a file of an extension is counted.

    >>> reason_with_extension("no_data", ".json"), reason_with_extension("no_data", "")
    ('no_data .json', 'no_data')
    """
    return f"{reason} {extension}".rstrip()


def describe_left_out(left_out: Tally) -> str:
    """The counts by reason and extension, each with first names; empty if nothing was left out.

    >>> tally = Tally()
    >>> for name in ("1.json", "2.json"): tally.add("no_data .json", name)
    >>> describe_left_out(tally)
    '2 .json of no data format (1.json, 2.json)'
    """
    reasons = sorted(left_out.counts, key=lambda reason: [*_WORDS].index(reason.partition(" ")[0]))
    return "; ".join(_describe(left_out, reason) for reason in reasons)


def _describe(left_out: Tally, reason: str) -> str:
    kind, _, extension = reason.partition(" ")
    names = list(left_out.names[reason])
    more = left_out.counts[reason] - len(names)
    shown = first_names([*names, *[""] * more], most=3)
    return f"{left_out.counts[reason]:,} {f'{extension} ' if extension else ''}{_WORDS[kind]} ({shown})"


def log_left_out(left_out: Tally, setting: str, shards: int) -> None:
    """Log what a listing left out, once for each listing of a process; a warning if some of it may be data."""
    if left_out.counts:
        may_be_data = any(reason.partition(" ")[0] in _MAYBE_DATA for reason in left_out.counts)
        line = f"{setting}.path: {shards:,} shards; left out: {describe_left_out(left_out)}"
        _log_once(logging.WARNING if may_be_data else logging.INFO, line)


@cache
def _log_once(level: int, line: str) -> None:
    logger.log(level, "%s", line)
