"""Decode encoded images of any kind to 8-bit RGB, within limits checked before anything is allocated.

- Pillow opens only the formats in `FORMATS`. Others may start external programs (EPS: Ghostscript).
- 16-bit grey keeps its high byte. 32-bit integers and floats are scaled by their range (`_scale_of_range`).
- Transparent images are laid on white.
- Of an animation, the first frame is used.

Guarantees: every fault of an image is an `ImageError` with a reason. Conversion to RGB acts on each pixel alone, so
a crop has the pixels that the whole picture has there.

Not covered: colour profiles, which the paper's code ignores too. Pillow itself turns TIFFs upright, whatever
`data.exif` says.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from laclip_ray.data.image_formats import (
    FORMATS,
    IMAGE_FORMAT_REFUSED,
    IMAGE_TOO_LARGE,
    IMAGE_TOO_THIN,
    IMAGE_UNREADABLE,
    MAX_ASPECT_RATIO,
    ImageError,
    ImageLimits,
    check_content,
    is_refused_format,
)
from laclip_ray.data.orientation import (
    TRANSPOSITIONS,
    UPRIGHT,
    Box,
    exif_orientation,
    stored_box,
    turn_upright,
    upright_size,
)

_BAND_PIXELS = 2**22
"""Pixels converted at a time. Larger pictures are converted in bands, to hold one copy less."""
_WHITE = (255, 255, 255)


def open_rgb(content: bytes, limits: ImageLimits, exif: bool) -> Image.Image:
    """Decode a whole picture.

    Args:
        content: the encoded image.
        limits: sizes above which it is refused (`ImageLimits.of(data)`).
        exif: whether to turn the picture by its EXIF orientation (`data.exif`).

    Returns:
        The picture, mode `RGB`.

    Raises:
        ImageError: with the `reason` `image_unreadable`, `image_too_large`, `image_too_thin` or `image_format_refused`.
    """
    with _faults_as_image_errors():
        image, orientation = _load(content, limits, exif)
        if max(image.size) >= MAX_ASPECT_RATIO * min(image.size):
            raise ImageError(IMAGE_TOO_THIN, f"{image.width} x {image.height} pixels")
        if image.mode != "RGB" or image.has_transparency_data:
            pixels = _rgb_pixels(image, (0, 0, *image.size))
            del image  # frees the memory of its decoder
            image = Image.fromarray(pixels)
        return image if orientation == UPRIGHT else image.transpose(TRANSPOSITIONS[orientation])


def rgb_crop(content: bytes, limits: ImageLimits, exif: bool, choose_box: Callable[[int, int], Box]) -> np.ndarray:
    """Decode a part of a picture.

    Args:
        content: the encoded image.
        limits: sizes above which it is refused.
        exif: whether to turn the picture by its EXIF orientation.
        choose_box: gives the part, from width and height of the upright picture.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ImageError: with the `reason` `image_unreadable`, `image_too_large` or `image_format_refused`.
    """
    with _faults_as_image_errors():
        image, orientation = _load(content, limits, exif)
        width, height = upright_size(*image.size, orientation)
        box = stored_box(choose_box(width, height), width, height, orientation)
        return turn_upright(_rgb_pixels(image, box), orientation)


@contextmanager
def _faults_as_image_errors() -> Iterator[None]:
    """Turn errors of Pillow's readers, which are of many types, into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageError(IMAGE_TOO_LARGE, str(error) or type(error).__name__) from error
    except Exception as error:  # DDS: NotImplementedError, AVIF: RuntimeError, damaged PNG: SyntaxError
        raise ImageError(IMAGE_UNREADABLE, str(error) or type(error).__name__) from error


def _load(content: bytes, limits: ImageLimits, exif: bool) -> tuple[Image.Image, int]:
    """Decode an image; also returns the orientation by which it must be turned, 1 without `exif`."""
    orientation = check_content(content, limits)
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        if is_refused_format(content):
            raise ImageError(IMAGE_FORMAT_REFUSED, f"not one of {', '.join(FORMATS)}") from error
        raise
    limits.check_pixels(*image.size, _weight(image))
    image.load()
    if image.format in ("PNG", "WEBP", "AVIF"):  # TIFFs are turned by `load`
        orientation = exif_orientation(image.info.get("exif", b""))
    return image, orientation if exif else UPRIGHT


def _weight(image: Image.Image) -> int:
    """How much a pixel counts: once if decoding takes up to 10 bytes for it, else twice (measured, Pillow 13).

    The decoders of WebP (16 bytes) and AVIF (13) copy the picture several times. libtiff holds a whole strip (12: four
    channels of 16 bits), libjpeg the coefficients of all scans (12: four channels).
    """
    is_heavy_jpeg = image.mode == "CMYK" and "progressive" in image.info
    return 2 if is_heavy_jpeg or image.format in ("WEBP", "AVIF", "TIFF") else 1


def _rgb_pixels(image: Image.Image, box: Box) -> np.ndarray:
    """The part of a loaded image in a box, as uint8 [height, width, 3], RGB."""
    to_rgb = _converter(image)
    left, top, right, bottom = box
    band_height = max(1, _BAND_PIXELS // (right - left))
    if bottom - top <= band_height:
        return np.array(to_rgb(image.crop(box)))
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    for start in range(top, bottom, band_height):
        end = min(start + band_height, bottom)
        pixels[start - top : end - top] = np.asarray(to_rgb(image.crop((left, start, right, end))))
    return pixels


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """The function that converts any part of a loaded image to RGB."""
    mode = image.mode
    if mode.startswith("I;16"):
        transparent = image.info.get("transparency")
        return lambda part: _high_bytes(part, transparent)
    if mode in ("I", "F"):
        # Netpbm's 16-bit greys have mode I, and are scaled to 65,535 when they are read.
        lowest, highest = (0.0, 65_535.0) if mode == "I" and image.format == "PPM" else _finite_range(image)
        offset, factor = _scale_of_range(lowest, highest)
        return lambda part: _scaled(part, offset, factor)
    if image.has_transparency_data:
        return _on_white
    return lambda part: part if part.mode == "RGB" else part.convert("RGB")


def _high_bytes(part: Image.Image, transparent: int | None) -> Image.Image:
    """The high byte of 16-bit greys; white where a pixel has the value that stands for transparent."""
    values = np.asarray(part)
    grey = (values >> 8).astype(np.uint8)
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _finite_range(image: Image.Image) -> tuple[float, float]:
    """The smallest and the largest value of an image of mode I or F, without infinite values and NaN."""
    lowest, highest = np.inf, -np.inf
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        finite = values[np.isfinite(values)]
        if finite.size:
            lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
    return (lowest, highest) if lowest <= highest else (0.0, 0.0)


def _scale_of_range(lowest: float, highest: float) -> tuple[float, float]:
    """How values of a range become 8-bit greys: (value - offset) * factor. Returns (offset, factor).

    Values in 0 to 1 are multiplied by 255, values in 0 to 255 stay, values in 0 to 65,535 are divided by 256, and any
    other range is stretched over 0 to 255.
    """
    if lowest >= 0:
        for limit, factor in ((1.0, 255.0), (255.0, 1.0), (65_535.0, 1 / 256)):
            if highest <= limit:
                return 0.0, factor
    return lowest, 255.0 / (highest - lowest) if highest > lowest else 0.0


def _scaled(part: Image.Image, offset: float, factor: float) -> Image.Image:
    """Greys of values of mode I or F (`_scale_of_range`). Divided values are rounded down; NaN is black."""
    values = (np.asarray(part, np.float64) - offset) * factor
    if factor >= 1:
        values += 0.5
    grey = np.clip(np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _on_white(part: Image.Image) -> Image.Image:
    """A part of a transparent image on white."""
    transparent = part.info.get("transparency")
    if part.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        # A PNG with 16-bit channels: Pillow keeps the high bytes of its pixels, but not of this colour.
        part.info["transparency"] = tuple(value >> 8 for value in transparent)
    if part.mode == "La":  # premultiplied; Pillow has no direct conversion
        part = part.convert("LA")
    rgba = part if part.mode == "RGBA" else part.convert("RGBA")
    white = Image.new("RGB", part.size, _WHITE)
    white.paste(rgba, mask=rgba)
    return white
