"""The file that img2dataset writes beside each tar, `00000_stats.json`: how many samples the tar has."""

import json

ENDING = "_stats.json"
"""Stands in place of the tar's extension."""


def successes(content: bytes) -> int | None:
    """The number of samples. None: the file does not have it."""
    try:
        count = json.loads(content)["successes"]
    except (ValueError, LookupError, TypeError):
        return None
    return count if type(count) is int and count >= 0 else None
