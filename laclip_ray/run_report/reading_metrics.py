"""Read the metrics of a training run, in bounded work: all lines of a small file, or some of a large one."""

import json
from collections.abc import Iterable
from typing import Any

from laclip_ray import storage
from laclip_ray.status.damage import Damage

_WHOLE_BYTES = 16 * 2**20
"""A file of at most so many bytes is read whole."""
_PARTS = 64
_PART_BYTES = 64 * 2**10


def read_lines(url: str, damage: Damage) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a file of JSON lines, in order.

    Returns:
        The lines, and whether they are all; of a large file they are from `_PARTS` places.
    """
    try:
        if not storage.exists(url):
            return [], True
        fs, path = storage.filesystem(url)
        size = int(fs.info(path)["size"])
        if size <= _WHOLE_BYTES:
            parts = [storage.read_bytes(url)]
        else:
            starts = [number * (size - _PART_BYTES) // (_PARTS - 1) for number in range(_PARTS)]
            parts = [fs.cat_file(path, start=start, end=start + _PART_BYTES) for start in starts]
    except OSError as error:
        damage.found.append(f"{url}: the metrics cannot be read ({error}). Give this user access to them")
        return [], True
    texts = [part.decode("utf-8", "replace").splitlines() for part in parts]
    is_whole = len(parts) == 1
    # A part begins and ends inside a line.
    lines, damaged = _parsed(text for part in texts for text in (part if is_whole else part[1:-1]))
    if damaged:
        damage.found.append(f"{url}: {damaged:,} lines are damaged and left out. Training is not affected")
    return lines, is_whole


def _parsed(texts: Iterable[str]) -> tuple[list[dict[str, Any]], int]:
    """The objects among lines, and the number of other lines."""
    lines, damaged = [], 0
    for text in texts:
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if isinstance(content, dict):
            lines.append(content)
        elif text.strip():
            damaged += 1
    return lines, damaged
