"""Pixels of encoded images, as the model takes them, in batches."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from PIL import Image

from laclip_ray.data.image_formats import IMAGE_TOO_LARGE, ImageError, ImageLimits
from laclip_ray.data.pictures import open_rgb
from laclip_ray.data.records import IMAGE_MISSING

T = TypeVar("T")

Transform = Callable[[Image.Image], torch.Tensor]
"""An image to pixels [3, H, W]."""


def pixels_or_reason(
    content: bytes | None, transform: Transform, limits: ImageLimits, exif: bool
) -> torch.Tensor | str:
    """Pixels [3, H, W] of an encoded image, or the reason to skip it: a name that begins with `image_`.

    Args:
        content: the encoded image; None or empty if there is none.
        transform: of the model.
        limits: sizes that are refused before the image is decoded.
        exif: whether to turn the image by its EXIF orientation.
    """
    if not content:
        return IMAGE_MISSING
    try:
        return transform(open_rgb(content, limits, exif))
    except ImageError as error:
        return error.reason
    except MemoryError:
        return IMAGE_TOO_LARGE


def batches(items: Iterator[tuple[torch.Tensor, T]], size: int) -> Iterator[tuple[torch.Tensor, list[T]]]:
    """Stack (pixels, other) pairs into batches of at most `size`: pixels [B, 3, H, W] and a list of B others."""
    pixels: list[torch.Tensor] = []
    others: list[T] = []
    for image, other in items:
        pixels.append(image)
        others.append(other)
        if len(pixels) == size:
            yield torch.stack(pixels), others
            pixels, others = [], []
    if pixels:
        yield torch.stack(pixels), others
