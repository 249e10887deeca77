"""Encoded images to cropped pixels, as uint8.

The crop is RandomResizedCrop as torchvision defines it (area from a range, aspect ratio log-uniform in 3/4 to 4/3,
ten attempts, then a central crop), drawn as a pure function of (seed, epoch, id).
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from laclip_ray.randomness import generator

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

_ATTEMPTS = 10
_LOG_RATIO = math.log(4 / 3)
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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
    draws = generator("crop", seed, epoch, sample_id).random((_ATTEMPTS, 4))
    for area_draw, ratio_draw, left_draw, top_draw in draws.tolist():
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
    try:
        with Image.open(io.BytesIO(content)) as image:
            box = random_crop_box(image.width, image.height, scale, seed, epoch, sample_id)
            # JPEG can be decoded at 1/2, 1/4 or 1/8 size; never below what the crop is resized to.
            shrink = min(box[2] - box[0], box[3] - box[1]) // spec.size_px
            if shrink >= 2 and image.format == "JPEG":
                full_width, full_height = image.size
                drafted = image.draft("RGB", (full_width // shrink, full_height // shrink))
                # The part of the decoded image that the original covers: its last pixels may lie half outside.
                _, (_, _, width, height) = drafted or ("", (0, 0, full_width, full_height))
                horizontal, vertical = width / full_width, height / full_height
                scaled = (box[0] * horizontal, box[1] * vertical, box[2] * horizontal, box[3] * vertical)
            else:
                scaled = tuple(map(float, box))  # type: ignore[assignment]
            colours = image if image.mode == "RGB" else image.convert("RGB")  # which copies also where it is
            pixels = colours.resize((spec.size_px, spec.size_px), _RESAMPLING[spec.interpolation], scaled)
            return np.asarray(pixels, dtype=np.uint8)
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except Exception as error:  # Pillow's readers raise what they like (DDS: NotImplementedError, AVIF: RuntimeError)
        raise ImageError(str(error) or type(error).__name__) from error
