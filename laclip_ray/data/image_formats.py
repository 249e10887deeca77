"""Checks of an encoded image before it is decoded: its bytes, its format, and the claims of its header."""

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# Importing a plugin registers its format.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from laclip_ray.config import DataConfig
from laclip_ray.data.avif_header import frame_sizes
from laclip_ray.data.orientation import UPRIGHT, exif_orientation
from laclip_ray.data.records import IMAGE_MISSING, Sample

# Pillow warns above 89 million pixels. Here, `ImageLimits` decides, and the row is counted.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

IMAGE_UNREADABLE = "image_unreadable"
"""Reason to skip a row: its bytes are not a whole image."""

IMAGE_TOO_LARGE = "image_too_large"
"""Reason to skip a row: its image has more bytes or more pixels than the config allows."""

IMAGE_TOO_THIN = "image_too_thin"
"""Reason to skip a row: one side of its image is at least `MAX_ASPECT_RATIO` times the other."""

IMAGE_FORMAT_REFUSED = "image_format_refused"
"""Reason to skip a row: its image has a known format outside `FORMATS`."""

FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        AvifImagePlugin.AvifImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)
"""Formats that Pillow may open, by its names."""

MAX_ASPECT_RATIO = 100
"""Whole pictures are thinner than 1 to this. To give the shorter side a model's size, a resizer enlarges the longer one
by the same factor: a line of 60,000 pixels would need gigabytes."""

_REFUSED_BEGINNINGS = (
    b"%!PS",  # EPS
    b"\xc5\xd0\xd3\xc6",  # EPS with a preview
    b"%PDF-",
    b"8BPS",  # PSD
    b"gimp xcf",
    b"\x00\x00\x01\x00",  # ICO
    b"\x00\x00\x02\x00",  # CUR
    b"icns",
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",  # JPEG 2000 without a container
    b"\x00\x00\x00\x0cJXL ",
    b"\xff\x0a",  # JPEG XL without a container
    b"II\xbc",  # JPEG XR
    b"DDS ",
    b"BLP1",
    b"BLP2",
    b"qoif",
    b"SIMPLE  =",  # FITS
    b"\x89HDF",
    b"GRIB",
    b"BUFR",
    b"\xd7\xcd\xc6\x9a",  # WMF
    b"\x01\xda",  # SGI
    b"\x59\xa6\x6a\x95",  # Sun raster
    b"/* XPM */",
)
"""How files of other image formats begin."""

_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_TIFF_BYTES_BY_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_OPAQUE_TYPES = (1, 2, 7)
"""BYTE, ASCII and UNDEFINED values stay bytes. Of all others, Pillow makes a Python number each."""
_MAX_TIFF_VALUES = 2**18
"""Values of one TIFF tag: enough for a strip for each row of any allowed picture."""

JPEG_BEGINNING = b"\xff\xd8"
_EXIF_SEGMENT = 0xE1
_PROGRESSIVE_FRAMES = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that end the metadata: the next segments describe the pixels."""
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_SCAN = b"\xff\xda"
_read_segment_start = struct.Struct(">BBH").unpack_from
"""0xFF, the marker, and the length of the segment without the marker."""
_MAX_SEGMENTS = 1_000
"""JPEG segments examined at most. Files from cameras and editors have fewer than 50."""
_MAX_SCANS = 500
"""Scans of a progressive JPEG. Each of them passes over the whole picture; encoders write about ten."""


class ImageError(ValueError):
    """An image cannot be used."""

    def __init__(self, reason: str, detail: str) -> None:
        """Make an error.

        Args:
            reason: a name that begins with `image_`, under which the row is counted.
            detail: what happened, for a message.
        """
        super().__init__(reason, detail)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True)
class ImageLimits:
    """Sizes up to which images are decoded."""

    max_bytes: int
    """Of the encoded image."""
    max_pixels: int
    """`DataConfig.max_pixels`."""

    @classmethod
    def of(cls, data: DataConfig) -> "ImageLimits":
        """The limits that a dataset's config sets."""
        return cls(data.max_image_bytes, data.max_pixels)

    def check_pixels(self, width: int, height: int, weight: int = 1) -> None:
        """Refuse a picture with too many pixels.

        Args:
            width: in pixels.
            height: in pixels.
            weight: how much a pixel counts: 1 or 2.

        Raises:
            ImageError: `IMAGE_TOO_LARGE`.
        """
        if width * height * weight > self.max_pixels:
            counted = ", each counted twice" if weight > 1 else ""
            limit = f"data.max_pixels is {self.max_pixels}"
            raise ImageError(IMAGE_TOO_LARGE, f"{width} x {height} pixels{counted}; {limit}")


DEFAULT_LIMITS = ImageLimits(
    DataConfig.model_fields["max_image_bytes"].default, DataConfig.model_fields["max_pixels"].default
)
"""The limits in a config without these settings."""


def image_problem(sample: Sample) -> str:
    """Why a sample has no image: its problem whose name begins with `image_`."""
    return next((problem for problem in sample.problems if problem.startswith("image_")), IMAGE_MISSING)


def check_content(content: bytes, limits: ImageLimits) -> int:
    """Refuse an image by its bytes alone. Other claims of its header are checked when it is open.

    Returns:
        The EXIF orientation of a JPEG; 1 for other formats, whose metadata is known when they are open.

    Raises:
        ImageError: the image has too many bytes, or a header that makes decoders work or allocate out of proportion to
            the picture.
    """
    if len(content) > limits.max_bytes:
        raise ImageError(IMAGE_TOO_LARGE, f"{len(content)} bytes; data.max_image_bytes is {limits.max_bytes}")
    if content.startswith(JPEG_BEGINNING):
        return _check_jpeg(content)
    if content.startswith(_TIFF_BEGINNINGS):
        _check_tiff(content, limits)
    elif content[4:8] == b"ftyp":
        for width, height in frame_sizes(content):
            limits.check_pixels(width, height, weight=2)
    return UPRIGHT


def _check_jpeg(content: bytes) -> int:
    """The EXIF orientation of a JPEG, from its first EXIF segment. Refuses a progressive one with very many scans."""
    orientation: int | None = None
    position = len(JPEG_BEGINNING)
    for _ in range(_MAX_SEGMENTS):
        if position < 0 or position + 4 > len(content):
            break
        prefix, marker, length = _read_segment_start(content, position)
        if prefix != 0xFF or marker in (0, 0xFF):  # other bytes between segments, an escaped byte, or filling
            position = content.find(b"\xff", position + 1)
            continue
        if marker in _FRAMES:
            if marker in _PROGRESSIVE_FRAMES and content.count(_START_OF_SCAN) > _MAX_SCANS:
                raise ImageError(IMAGE_TOO_LARGE, f"more than {_MAX_SCANS} scans")
            break
        if marker == _EXIF_SEGMENT and orientation is None and content.startswith(b"Exif\0\0", position + 4):
            orientation = exif_orientation(content[position + 4 : position + 2 + length])
        position += 2 if marker in _WITHOUT_LENGTH else 2 + length
    return orientation or UPRIGHT


def is_refused_format(content: bytes) -> bool:
    """Whether the bytes begin like a file of a known image format outside `FORMATS`."""
    if content.startswith(_REFUSED_BEGINNINGS) or content[40:44] == b" EMF":
        return True
    if content[4:8] == b"ftyp":  # HEIC and its relatives; AVIF is opened
        return content[8:12] not in (b"avif", b"avis")
    beginning = content[:1024].lstrip()
    return beginning.startswith(b"<svg") or (
        beginning.startswith((b"<?xml", b"<!--", b"<!DOCTYPE")) and b"<svg" in beginning
    )


@dataclass(frozen=True)
class _TiffTag:
    number: int
    type: int
    count: int
    value: int
    """Meaningful for a tag with one number."""


def _check_tiff(content: bytes, limits: ImageLimits) -> None:
    """Refuse a TIFF with tags of very many values, or with tiles larger than any picture."""
    tile_sides = {_TIFF_TILE_WIDTH: 1, _TIFF_TILE_LENGTH: 1}
    for tag in _tiff_tags(content):
        if tag.type not in _TIFF_OPAQUE_TYPES and tag.count > _MAX_TIFF_VALUES:
            raise ImageError(IMAGE_TOO_LARGE, f"TIFF tag {tag.number} with {tag.count} values")
        if tag.number in tile_sides:
            tile_sides[tag.number] = max(tile_sides[tag.number], tag.value)
    limits.check_pixels(tile_sides[_TIFF_TILE_WIDTH], tile_sides[_TIFF_TILE_LENGTH])


def _tiff_tags(content: bytes) -> Iterator[_TiffTag]:
    """The tags of a TIFF's first directory, as far as the file has them."""
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    is_big = b"+" in content[2:4]  # BigTIFF
    offset_bytes, count_bytes, entry_bytes = (8, 8, 20) if is_big else (4, 2, 12)

    def number(start: int, size: int) -> int:
        return int.from_bytes(content[start : start + size], order)

    directory = number(offset_bytes, offset_bytes)
    first = directory + count_bytes
    end = min(first + entry_bytes * number(directory, count_bytes), len(content) - entry_bytes + 1)
    for entry in range(first, end, entry_bytes):
        tag_type = number(entry + 2, 2)
        value_bytes = _TIFF_BYTES_BY_TYPE.get(tag_type, 0)
        yield _TiffTag(
            number(entry, 2), tag_type, number(entry + 4, offset_bytes), number(entry + 4 + offset_bytes, value_bytes)
        )
