"""The reader of W&B's files gives every whole record, and stops where a file was cut."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.tracking.wandb_files import records

BLOCK, HEADER = 32_768, b":W&B\x00\x00\x00"
SIZES = st.lists(st.one_of(st.integers(0, 200), st.integers(32_000, 33_000), st.integers(60_000, 70_000)), max_size=12)


def written(contents: list[bytes]) -> bytes:
    """A file of these records, as W&B writes it (checksums are left zero: the reader does not look at them)."""
    out = bytearray(HEADER)
    for content in contents:
        rest, is_first = content, True
        while is_first or rest:
            room = BLOCK - len(out) % BLOCK
            if room < 7:
                out += bytes(room)
                room = BLOCK
            part, rest = rest[: room - 7], rest[room - 7 :]
            kind = (1 if is_first else 4) if not rest else (2 if is_first else 3)
            out += struct.pack("<IHB", 0, len(part), kind) + part
            is_first = False
    return bytes(out)


@given(SIZES)
def test_records_of_every_size_are_read(sizes: list[int]) -> None:
    contents = [bytes([number % 250 + 1]) * size for number, size in enumerate(sizes)]
    assert [*records(written(contents))] == contents


@given(SIZES, st.integers(0, 200_000))
def test_a_cut_file_gives_the_records_before_the_cut(sizes: list[int], cut: int) -> None:
    contents = [bytes([number % 250 + 1]) * size for number, size in enumerate(sizes)]
    read = [*records(written(contents)[:cut])]
    assert read == contents[: len(read)]
