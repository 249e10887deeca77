"""The steps in the files that W&B keeps of a run (`run-ID.wandb`).

A file is a log of records in blocks of 32 KiB: a header of 7 bytes, then fragments, each with a checksum (4 bytes), a
length (2), and a kind (1: whole, 2: first, 3: middle, 4: last). A record is a message of `wandb.proto`.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 32_768
_HEADER_BYTES = 7
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


def last_step(path: Path) -> int:
    """The highest step in the history of a run's file, or 0. What a killed process left incomplete is not read."""
    from wandb.proto.wandb_internal_pb2 import Record

    step = 0
    for content in records(path.read_bytes()):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            step = max(step, record.history.step.num)
    return step


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file, up to the first incomplete one.

    Args:
        content: of the file.
    """
    position, parts = _HEADER_BYTES, b""
    while position + _FRAGMENT.size <= len(content):
        rest = _BLOCK_BYTES - position % _BLOCK_BYTES
        if rest < _FRAGMENT.size:  # too short for a fragment: filled with zeros
            position += rest
            continue
        _, length, kind = _FRAGMENT.unpack_from(content, position)
        start = position + _FRAGMENT.size
        position = start + length
        if not kind or position > len(content):
            return
        parts = content[start:position] if kind in (_WHOLE, _FIRST) else parts + content[start:position]
        if kind in (_WHOLE, _LAST):
            yield parts
