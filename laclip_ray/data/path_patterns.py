"""Paths of data that name several files: joined by `::`, braces, wildcards. Pure functions over text."""

import re
from collections.abc import Sequence
from itertools import product
from math import prod

from laclip_ray.data.hub_addresses import resolve_hub_address

MAX_ALTERNATIVES = 1_000_000
"""Paths that the braces of one path may give."""

WILDCARDS = "*?["

_CHAINED = frozenset(
    ("simplecache", "filecache", "blockcache", "cached", "zip", "tar", "libarchive", "reference", "dir", "generic")
)
"""fsspec's protocols that stand before another URL, with `::` between them."""

_RANGE = re.compile(r"(-?\d+|[a-zA-Z])\.\.(-?\d+|[a-zA-Z])(?:\.\.(-?\d+))?")


class TooManyError(ValueError):
    """Braces that give more than `MAX_ALTERNATIVES` paths."""


def split_joined(path: str) -> list[str]:
    """Split paths that are joined by `::`, as img2dataset and open_clip join them. Chained URLs of fsspec stay whole.

    >>> split_joined("a.tar::s3://b/c.tar"), split_joined("simplecache::s3://b/c.tar")
    (['a.tar', 's3://b/c.tar'], ['simplecache::s3://b/c.tar'])
    """
    joined: list[str] = []
    is_chain = False
    for part in path.split("::"):
        if is_chain:
            joined[-1] += f"::{part}"
        else:
            joined.append(part)
        is_chain = part.partition("://")[0] in _CHAINED
    return joined


def single_paths(path: str | Sequence[str]) -> list[str]:
    """The paths of `data.path`: joined ones one by one, and pages of the Hugging Face Hub as their URLs.

    >>> single_paths("a.tar::https://huggingface.co/datasets/org/own/tree/main")
    ['a.tar', 'hf://datasets/org/own@main']
    """
    given = [path] if isinstance(path, str) else path
    return [resolve_hub_address(single) for joined in given for single in split_joined(joined)]


def expand_braces(pattern: str) -> list[str]:
    """All paths of a pattern with braces, as a shell expands them: lists, ranges, and both nested.

    Braces without a comma or a range, and unbalanced ones, stay as they are.

    >>> expand_braces("{08..10}.tar"), expand_braces("{a,b{1..2}}/x")
    (['08.tar', '09.tar', '10.tar'], ['a/x', 'b1/x', 'b2/x'])

    Raises:
        TooManyError: more than `MAX_ALTERNATIVES` paths, or braces nested too deeply.
    """
    try:
        pieces = [[part] if is_literal else _expand(part) for part, is_literal in _split_strays(pattern)]
    except RecursionError as error:
        raise TooManyError("braces nested too deeply") from error
    _check_count(prod(map(len, pieces)))
    return ["".join(choice) for choice in product(*pieces)]


def _split_strays(pattern: str) -> list[tuple[str, bool]]:
    """Split a pattern into texts, each with whether it is literal.

    Where a closing brace stands before the opening one that balances it, webdataset takes all between them literally.

    >>> _split_strays("{a,b}}{c"), _split_strays("a}{1..2}")
    ([('{a,b}', False), ('}{', True), ('c', False)], [('a}{1..2}', False)])
    """
    if pattern.count("{") != pattern.count("}"):
        return [(pattern, False)]  # webdataset refuses these; a shell expands the braces that have a partner
    parts: list[tuple[str, bool]] = []
    depth = start = 0
    for brace in re.finditer(r"[{}]", pattern):
        before, depth = depth, depth + (1 if brace[0] == "{" else -1)
        if min(before, depth) < 0 and 0 in (before, depth):
            end = brace.start() if before == 0 else brace.end()
            parts.append((pattern[start:end], before < 0))
            start = end
    return [*parts, (pattern[start:], False)]


def _expand(pattern: str) -> list[str]:
    pieces: list[list[str]] = []
    count = 1
    while (found := _first_braces(pattern)) is not None:
        start, end, alternatives = found
        pieces += [[pattern[:start]], alternatives]
        pattern = pattern[end:]
        count *= len(alternatives)
        _check_count(count)
    return ["".join(choice) for choice in product(*pieces, [pattern])]


def _first_braces(text: str) -> tuple[int, int, list[str]] | None:
    """The first braces that are a list or a range: start, end, and the texts that they stand for."""
    for opening in re.finditer(r"(?<!\$)\{", text):
        end = _closing(text, opening.start())
        alternatives = _alternatives(text[opening.end() : end]) if end is not None else None
        if end is not None and alternatives is not None:
            return opening.start(), end + 1, alternatives
    return None


def _closing(text: str, start: int) -> int | None:
    """The position of the brace that closes the one at `start`."""
    depth = 0
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.start()
    return None


def _alternatives(inner: str) -> list[str] | None:
    """The texts that braces stand for; None if they are no list and no range."""
    if bounds := _RANGE.fullmatch(inner):
        return _range(*bounds.groups())
    parts = _split_list(inner)
    if len(parts) < 2:
        return None
    alternatives: list[str] = []
    for part in parts:
        alternatives += _expand(part)
        _check_count(len(alternatives))
    return alternatives


def _range(first: str, last: str, step_text: str | None) -> list[str] | None:
    is_numeric = first.lstrip("-").isdigit() and last.lstrip("-").isdigit()
    if not is_numeric and len(first) + len(last) != 2:
        return None
    start, end = (int(first), int(last)) if is_numeric else (ord(first), ord(last))
    step = abs(int(step_text or 1)) or 1
    _check_count(abs(end - start) // step + 1)
    numbers = range(start, end + 1, step) if start <= end else range(start, end - 1, -step)
    if not is_numeric:
        return [chr(number) for number in numbers]
    is_padded = any(bound.lstrip("-").startswith("0") and len(bound.lstrip("-")) > 1 for bound in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    return [f"{number:0{width}d}" for number in numbers]


def _split_list(inner: str) -> list[str]:
    """The parts of a list, at commas outside inner braces."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(inner):
        if character == "," and depth == 0:
            parts.append(inner[start:position])
            start = position + 1
        depth += (character == "{") - (character == "}")
    return [*parts, inner[start:]]


def _check_count(count: int) -> None:
    if count > MAX_ALTERNATIVES:
        raise TooManyError(f"more than {MAX_ALTERNATIVES:,} paths")
