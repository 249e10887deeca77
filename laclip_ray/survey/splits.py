"""The splits of a dataset by the names of its files: `train-00000-of-00001.parquet`, `test/0.tar`. Pure.

Training reads one split, and evaluation another, so a test set never gets into training.
"""

import re
from collections.abc import Mapping, Sequence

TRAIN = "train"
EVALUATED = ("validation", "val", "dev", "test")
"""Splits that evaluation may read, the best first: a test set is for the end."""
_SPLIT = re.compile(r"(?:^|/)(train|test|val|validation|dev)(?=[-_./]|$)", re.IGNORECASE)
"""The name of a split, as the files of Hugging Face and others begin."""
_GLOB = re.compile(r"[*?\[\]{}]")
_MOST_PATHS = 16
"""Upper bound on the paths that name a split in a config."""


def splits_of(urls: Sequence[str], root: str) -> dict[str, list[str]]:
    """The files of each split, by its name in lower case; files of none are under the empty name.

    Args:
        urls: of the files.
        root: the directory that they lie below, as it stands in the URLs.
    """
    found: dict[str, list[str]] = {}
    for url in urls:
        match = _SPLIT.search(_below(url, root))
        found.setdefault(match[1].lower() if match else "", []).append(url)
    return found


def paths_of(urls: Sequence[str], root: str) -> list[str] | None:
    """Paths and globs that name the files of one split, and no file of another; None: they take too many.

    >>> paths_of(["/d/data/train-0.parquet", "/d/data/train-1.parquet"], "/d"), paths_of(["/d/val/0.tar"], "/d")
    (['/d/data/train-*.parquet'], ['/d/val'])
    """
    paths = [*dict.fromkeys(_path_of(url, root) for url in urls)]
    return paths if len(paths) <= _MOST_PATHS and not any(_GLOB.search(_before(url, root)) for url in urls) else None


def evaluated_split(splits: Mapping[str, Sequence[str]]) -> str | None:
    """The split that evaluation reads; None without one, or if files belong to no split."""
    if TRAIN not in splits or "" in splits:
        return None
    return next((name for name in EVALUATED if name in splits), None)


def _path_of(url: str, root: str) -> str:
    """The directory of a split, or a glob of its files, that a file belongs to."""
    below = _below(url, root)
    start = url[: len(url) - len(below)]
    match = _SPLIT.search(below)
    assert match is not None
    rest = below[match.end() :]
    if "/" in rest:
        return start + below[: match.end()] + rest[: rest.index("/")]
    extension = rest[rest.rindex(".") :] if "." in rest else ""
    return url if rest == extension else f"{start}{below[: match.end()]}{rest[0]}*{extension}"


def _below(url: str, root: str) -> str:
    return url.partition(f"{root.rstrip('/')}/")[2]


def _before(url: str, root: str) -> str:
    """The part of a URL that stands in a path as it is."""
    match = _SPLIT.search(_below(url, root))
    return url if match is None else url[: len(url) - len(_below(url, root)) + match.end()]
