"""EXIF orientation is read from metadata of any shape, and boxes and pixels are turned as Pillow turns images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffTags

from laclip_ray.data.orientation import (
    TRANSPOSITIONS,
    exif_orientation,
    stored_box,
    turn_upright,
    upright_size,
)

ORIENTATION = 0x0112
orientations = st.integers(1, 8)
sides = st.integers(1, 12)


@given(orientation=orientations, width=sides, height=sides, ends=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_turned_part_is_the_part_of_the_turned_image(
    orientation: int, width: int, height: int, ends: list[float]
) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(stored)
    image.getexif()[ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    wide, high = upright_size(width, height, orientation)
    assert upright.shape == (high, wide, 3)
    left, right = sorted(int(end * (wide - 1)) for end in ends[:2])
    top, bottom = sorted(int(end * (high - 1)) for end in ends[2:])
    box = (left, top, right + 1, bottom + 1)
    inner_left, inner_top, inner_right, inner_bottom = stored_box(box, wide, high, orientation)
    part = turn_upright(stored[inner_top:inner_bottom, inner_left:inner_right], orientation)
    np.testing.assert_array_equal(part, upright[box[1] : box[3], box[0] : box[2]])
    if orientation != 1:
        assert part.flags.c_contiguous
        np.testing.assert_array_equal(image.transpose(TRANSPOSITIONS[orientation]), upright)


tags = st.integers(0x8000, 0x8290).filter(lambda tag: tag not in TiffTags.TAGS_V2)
"""Tags that Pillow does not know write texts."""


@given(
    orientation=st.integers(0, 65_535),
    others=st.dictionaries(tags, st.text(max_size=9), max_size=4),
)
def test_the_orientation_is_the_one_that_pillow_reads(orientation: int, others: dict[int, str]) -> None:
    exif = Image.Exif()
    for tag, text in others.items():
        exif[tag] = text
    exif[ORIENTATION] = orientation
    expected = orientation if orientation in range(1, 9) else 1
    assert exif_orientation(exif.tobytes()) == expected
    assert exif_orientation(exif.tobytes().removeprefix(b"Exif\0\0")) == expected


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("kind", "size"), [(1, 1), (3, 2), (4, 4)])
def test_an_orientation_of_any_integer_type_and_byte_order_is_read(order: str, kind: int, size: int) -> None:
    def number(value: int, length: int) -> bytes:
        return value.to_bytes(length, "little" if order == "little" else "big")

    entry = number(ORIENTATION, 2) + number(kind, 2) + number(1, 4) + number(6, size).ljust(4, b"\0")
    mark = b"II" if order == "little" else b"MM"
    assert exif_orientation(mark + number(42, 2) + number(8, 4) + number(1, 2) + entry) == 6


@given(st.binary(max_size=80), st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_bytes_give_an_orientation(content: bytes, start: bytes) -> None:
    assert exif_orientation(start + content) in range(1, 9)


def test_a_cut_directory_is_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = exif.tobytes()
    assert exif_orientation(whole) == 6
    assert {exif_orientation(whole[:length]) for length in range(len(whole) - 6)} == {1}
