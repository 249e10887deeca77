"""Encoded images to cropped pixels, as uint8.

The crop is RandomResizedCrop as torchvision defines it (area from a range, aspect ratio log-uniform in 3/4 to 4/3,
ten attempts, then a central crop), drawn as a pure function of (seed, epoch, id).

JPEGs are decoded by libjpeg-turbo, at a half, a quarter or an eighth of their size where the crop allows it; what that
does not read, and all else, by Pillow. Crops of what was decoded at its own size are resized by torch in a quarter of
Pillow's time, almost all pixels of photographs to within a level of what Pillow gives (bicubic: three).
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from laclip_ray.randomness import uniforms
from laclip_ray.safe_import import import_safely

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

_ATTEMPTS = 10
_LOG_RATIO = math.log(4 / 3)
_MOST_SHRUNK = 8
"""To an eighth: the least that a JPEG holds by itself."""


class ImageError(ValueError):
    """The bytes are not an image that can be decoded."""


@dataclass(frozen=True)
class ImageSpec:
    """What a model wants its images to be."""

    size_px: int
    """Height and width."""
    interpolation: str
    """`bilinear` or `bicubic`."""
    mean: tuple[float, float, float]
    """By channel, for pixels in 0 to 1."""
    std: tuple[float, float, float]


def random_crop_box(width: int, height: int, scale: tuple[float, float], seed: int, epoch: int, sample_id: str) -> Box:
    """The box of a random resized crop; a function of its arguments alone.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        scale: the range of the crop's area, as a share of the image's.
        seed: the experiment's seed.
        epoch: the epoch, from 0.
        sample_id: the sample's id.
    """
    for attempt in range(_ATTEMPTS):
        area_draw, ratio_draw, left_draw, top_draw = uniforms(4, "crop", seed, epoch, sample_id, attempt)
        area = width * height * (scale[0] + (scale[1] - scale[0]) * area_draw)
        ratio = math.exp(_LOG_RATIO * (2 * ratio_draw - 1))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(left_draw * (width - crop_width + 1))
            top = int(top_draw * (height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    # An extreme shape: the largest central crop with a ratio in range.
    crop_width, crop_height = width, height
    if width / height > 4 / 3:
        crop_width = max(1, round(height * 4 / 3))
    elif width / height < 3 / 4:
        crop_height = max(1, round(width * 4 / 3))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def decode_and_crop(
    content: bytes, spec: ImageSpec, scale: tuple[float, float], seed: int, epoch: int, sample_id: str
) -> np.ndarray:
    """Decode an image, crop it at random and resize the crop.

    Returns:
        uint8 [size_px, size_px, 3], RGB.

    Raises:
        ImageError: the bytes are not a whole image.
    """

    def box_of(width: int, height: int) -> Box:
        return random_crop_box(width, height, scale, seed, epoch, sample_id)

    pixels = _crop_of_jpeg(content, spec, box_of)
    return _resized(_crop_of_any(content, box_of), spec) if pixels is None else pixels


def _crop_of_jpeg(content: bytes, spec: ImageSpec, box_of: Callable[[int, int], Box]) -> np.ndarray | None:
    """The resized crop [size_px, size_px, 3] of a JPEG; None where Pillow is to be asked."""
    if not content.startswith(b"\xff\xd8"):
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        if width * height > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
            return None  # Pillow refuses such
        box = box_of(width, height)
        shrink = 1
        while 2 * shrink <= min(_MOST_SHRUNK, min(box[2] - box[0], box[3] - box[1]) // spec.size_px):
            shrink *= 2
        least = {"min_height": -(-height // shrink), "min_width": -(-width // shrink)}
        pixels: np.ndarray = simplejpeg.decode_jpeg(content, "RGB", **least)
    except Exception:  # noqa: BLE001 - of files that are unusual too (bytes between segments, 4:4:1), and not always alike
        return None
    if shrink == 1:
        left, top, right, bottom = box
        return _resized(pixels[top:bottom, left:right], spec)
    # The box lies between pixels then, which Pillow takes as it is, and torch does not.
    between = (box[0] / shrink, box[1] / shrink, box[2] / shrink, box[3] / shrink)
    method = Image.Resampling[spec.interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize((spec.size_px, spec.size_px), method, between))


def _crop_of_any(content: bytes, box_of: Callable[[int, int], Box]) -> np.ndarray:
    """The pixels of a crop [h, w, 3] of an image in any format that Pillow reads."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            colours = image if image.mode == "RGB" else image.convert("RGB")  # which copies also where it is
            return np.array(colours.crop(box_of(*image.size)))
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except Exception as error:  # Pillow's readers raise what they like (DDS: NotImplementedError, AVIF: RuntimeError)
        raise ImageError(str(error) or type(error).__name__) from error


def _resized(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 [h, w, 3] to [size_px, size_px, 3], with the filter made as wide as the picture shrinks."""
    torch = _torch()
    # In this order torch sees that channels are last, and does not copy it.
    channels_last = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    size = (spec.size_px, spec.size_px)
    made = torch.nn.functional.interpolate(channels_last, size, mode=spec.interpolation, antialias=True)
    result: np.ndarray = made.permute(0, 2, 3, 1).squeeze(0).numpy()
    return result


def load_resizer() -> None:
    """Load what the first crop would load, which takes seconds."""
    _torch()


@cache
def _torch() -> Any:
    """Loaded where it is used: tasks that are cancelled meanwhile would leave half of it."""
    return import_safely(lambda: import_module("torch"))
