"""File names for shards. Outputs are named after their shard, and a shard's name may be too long for that.

A shard's name is a path whose parts have up to 255 bytes, which is also the limit for the name of an output with its
suffix. A part of more than `LONGEST_PART_BYTES` becomes directories inside each other, each named by the next bytes of
the part and `~more`, and the rest of the part:

    LONG.tar  ->  LO~more/NG.tar

Guarantees: shorter names stay as they are. `shard_of_path` is the inverse of `path_of_shard`: the directories with the
mark are longer than any part that stays as it is.
"""

from collections.abc import Iterator

LONGEST_PART_BYTES = 210
"""Leaves room for suffixes, and is the longest part that outputs could have before parts were cut."""
_MARK = "~more"


def path_of_shard(shard_name: str) -> str:
    """The relative path of a shard's outputs, without their suffix."""
    if len(shard_name) * 4 <= LONGEST_PART_BYTES:  # a character has at most four bytes
        return shard_name
    return "/".join(piece for part in shard_name.split("/") for piece in _pieces(part))


def shard_of_path(path: str) -> str:
    """The name of the shard whose outputs have this relative path."""
    if _MARK not in path:
        return path
    parts: list[str] = []
    is_open = False
    for piece in path.split("/"):
        is_cut = piece.endswith(_MARK) and _size(piece) > LONGEST_PART_BYTES
        text = piece.removesuffix(_MARK) if is_cut else piece
        if is_open:
            parts[-1] += text
        else:
            parts.append(text)
        is_open = is_cut
    return "/".join(parts)


def _pieces(part: str) -> Iterator[str]:
    """Cut a part of a path at characters, so that each piece but the last is almost as long as allowed."""
    while _size(part) > LONGEST_PART_BYTES:
        end = LONGEST_PART_BYTES
        while _size(part[:end]) > LONGEST_PART_BYTES:
            end -= 1
        yield part[:end] + _MARK
        part = part[end:]
    yield part


def _size(text: str) -> int:
    """Bytes of a name in UTF-8."""
    return len(text.encode("utf-8", "surrogateescape"))
