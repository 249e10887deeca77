"""EXIF orientation: read it from an image's metadata, and apply it to boxes and pixels.

Orientations are numbers from 1 to 8, as EXIF has them; 1 is upright. Malformed or missing metadata gives 1.
"""

from typing import Literal

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

UPRIGHT = 1

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Pillow's name of the operation that turns a stored image upright, by orientation."""

_STEPS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""The same as three steps in this order: exchange rows and columns, mirror left-right, mirror top-bottom."""

_ORIENTATION_TAG = 0x0112
_BYTES_BY_TYPE = {1: 1, 3: 2, 4: 4}
"""Bytes of an EXIF number, by type: BYTE, SHORT, LONG."""


def exif_orientation(exif: bytes) -> int:
    r"""The orientation in a block of EXIF metadata.

    >>> exif_orientation(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    6
    """
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:2] not in (b"II", b"MM"):
        return UPRIGHT
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"

    def number(start: int, size: int) -> int:
        return int.from_bytes(exif[start : start + size], order)

    directory = number(4, 4)
    end = min(directory + 2 + 12 * number(directory, 2), len(exif) - 11)
    for entry in range(directory + 2, end, 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            value = number(entry + 8, _BYTES_BY_TYPE.get(number(entry + 2, 2), 0))
            return value if value in _STEPS else UPRIGHT
    return UPRIGHT


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright image, from the stored image's."""
    return (height, width) if _STEPS[orientation][0] else (width, height)


def stored_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """The box in the stored image that holds the pixels of a box in the upright image.

    Args:
        box: in the upright image.
        width: the upright image's width.
        height: the upright image's height.
        orientation: from 1 to 8.
    """
    exchange, mirror_across, mirror_down = _STEPS[orientation]
    left, top, right, bottom = box
    if mirror_across:
        left, right = width - right, width - left
    if mirror_down:
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if exchange else (left, top, right, bottom)


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn the pixels of a stored image, [height, width, channels], upright. Copies only if it turns."""
    if orientation == UPRIGHT:
        return pixels
    exchange, mirror_across, mirror_down = _STEPS[orientation]
    if exchange:
        pixels = pixels.transpose(1, 0, 2)
    if mirror_across:
        pixels = pixels[:, ::-1]
    if mirror_down:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
