"""Decode an image, crop it at random, and resize the crop, as uint8.

The crop is torchvision's RandomResizedCrop: area uniform in a range, aspect ratio log-uniform in 3/4 to 4/3, ten
attempts, then a central crop. It is a pure function of (seed, epoch, id).

libjpeg-turbo decodes JPEGs, at 1/2, 1/4 or 1/8 of their size if the crop is large enough. Pillow decodes JPEGs that
libjpeg-turbo refuses, and all other formats (`pictures`). torch resizes crops decoded at full size, in a quarter of
Pillow's time; almost all pixels of photographs are within 1 level of Pillow's result (bicubic: within 3).

The crop is chosen in the upright picture. The stored picture is cropped to match, and only the result is turned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from laclip_ray.data.image_formats import DEFAULT_LIMITS, JPEG_BEGINNING, ImageError, ImageLimits, check_content
from laclip_ray.data.orientation import UPRIGHT, Box, stored_box, turn_upright, upright_size
from laclip_ray.data.pictures import rgb_crop
from laclip_ray.randomness import uniforms
from laclip_ray.safe_import import import_safely

_ATTEMPTS = 10
_LOG_RATIO = math.log(4 / 3)
_MAX_SHRINK = 8
"""libjpeg-turbo decodes a JPEG at 1/8 of its size at the smallest."""


@dataclass(frozen=True)
class ImageSpec:
    """The images that a model takes."""

    size_px: int
    """Height and width."""
    interpolation: str
    """`bilinear` or `bicubic`."""
    mean: tuple[float, float, float]
    """Subtracted from each channel of pixels in 0 to 1."""
    std: tuple[float, float, float]
    """Divides each channel after that."""


def random_crop_box(width: int, height: int, scale: tuple[float, float], seed: int, epoch: int, sample_id: str) -> Box:
    """The box of a random resized crop; a function of its arguments alone.

    Args:
        width: the image's width in pixels.
        height: the image's height in pixels.
        scale: the smallest and largest area of a crop, as shares of the image's area.
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
    # A very wide or tall image: the largest central crop with a ratio in range.
    crop_width, crop_height = width, height
    if width / height > 4 / 3:
        crop_width = max(1, round(height * 4 / 3))
    elif width / height < 3 / 4:
        crop_height = max(1, round(width * 4 / 3))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def decode_and_crop(
    content: bytes,
    spec: ImageSpec,
    scale: tuple[float, float],
    seed: int,
    epoch: int,
    sample_id: str,
    limits: ImageLimits = DEFAULT_LIMITS,
    exif: bool = True,
) -> np.ndarray:
    """Decode an image, crop it at random and resize the crop.

    Args:
        content: the encoded image.
        spec: size and interpolation.
        scale: the smallest and largest area of a crop, as shares of the image's area.
        seed: the experiment's seed.
        epoch: the epoch, from 0.
        sample_id: the sample's id.
        limits: sizes above which the image is refused.
        exif: whether to turn the image by its EXIF orientation.

    Returns:
        uint8 [size_px, size_px, 3], RGB.

    Raises:
        ImageError: with the `reason` to skip the sample.
    """

    def choose_box(width: int, height: int) -> Box:
        return random_crop_box(width, height, scale, seed, epoch, sample_id)

    pixels = _crop_jpeg(content, spec, limits, exif, choose_box) if content.startswith(JPEG_BEGINNING) else None
    return pixels if pixels is not None else _resize(rgb_crop(content, limits, exif, choose_box), spec)


def _crop_jpeg(
    content: bytes, spec: ImageSpec, limits: ImageLimits, exif: bool, choose_box: Callable[[int, int], Box]
) -> np.ndarray | None:
    """The resized crop of a JPEG, uint8 [size_px, size_px, 3]; None if Pillow must decode the image."""
    exif_orientation = check_content(content, limits)
    orientation = exif_orientation if exif else UPRIGHT
    try:
        stored_height, stored_width, *_ = simplejpeg.decode_jpeg_header(content)
        limits.check_pixels(stored_width, stored_height)
        if orientation == UPRIGHT:
            box = choose_box(stored_width, stored_height)
        else:
            width, height = upright_size(stored_width, stored_height, orientation)
            box = stored_box(choose_box(width, height), width, height, orientation)
        shrink = _shrink_factor(box, spec.size_px)
        least = {"min_height": -(-stored_height // shrink), "min_width": -(-stored_width // shrink)}
        pixels: np.ndarray = simplejpeg.decode_jpeg(content, "RGB", **least)
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 - errors of several types, also for unusual valid files (bytes between segments, 4:4:1)
        return None
    left, top, right, bottom = box
    if shrink == 1:
        return turn_upright(_resize(pixels[top:bottom, left:right], spec), orientation)
    # In the smaller image the box may start between pixels. Pillow accepts that, torch does not.
    smaller_box = (left / shrink, top / shrink, right / shrink, bottom / shrink)
    method = Image.Resampling[spec.interpolation.upper()]
    resized = Image.fromarray(pixels).resize((spec.size_px, spec.size_px), method, smaller_box)
    return turn_upright(np.asarray(resized), orientation)


def _shrink_factor(box: Box, size_px: int) -> int:
    """How much smaller the image may be decoded: the largest of 1, 2, 4, 8 with a crop of at least `size_px`."""
    left, top, right, bottom = box
    limit = min(_MAX_SHRINK, min(right - left, bottom - top) // size_px)
    shrink = 1
    while 2 * shrink <= limit:
        shrink *= 2
    return shrink


def _resize(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Resize uint8 [height, width, 3] to [size_px, size_px, 3], with antialiasing."""
    torch = _torch()
    # `permute` without a copy: torch recognises the channels-last layout.
    batch = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    size = (spec.size_px, spec.size_px)
    resized = torch.nn.functional.interpolate(batch, size, mode=spec.interpolation, antialias=True)
    result: np.ndarray = resized.permute(0, 2, 3, 1).squeeze(0).numpy()
    return result


def load_resizer() -> None:
    """Import torch, which takes seconds, before the first crop needs it."""
    _torch()


@cache
def _torch() -> Any:
    """torch, imported on first use. A cancelled task could otherwise leave it half imported."""
    return import_safely(lambda: import_module("torch"))
