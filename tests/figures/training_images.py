"""Figures of a crop: its CPU time against the usual way, by Pillow and torchvision."""

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from laclip_ray.config import DataConfig
from laclip_ray.data.images import ImageSpec, decode_and_crop
from laclip_ray.data.shards import list_shards, read_samples
from tests.figures.figure import Figure
from tests.integration.procedures import real_data

CROP = (0.5, 1.0)
_SIZE_PX = 224
_PICTURES, _ROUNDS = 150, 9


Crop = Callable[[bytes, ImageSpec, str], object]
"""What is done with an image's bytes and the sample's id."""


def own_crop(content: bytes, spec: ImageSpec, sample_id: str) -> None:
    """What the stream does, up to the pixels."""
    decode_and_crop(content, spec, CROP, 0, 0, sample_id)


def usual_crop(content: bytes, spec: ImageSpec, _: str) -> None:
    """What open_clip's own training does, up to the pixels."""
    interpolation = transforms.InterpolationMode(spec.interpolation)
    crop = transforms.RandomResizedCrop(spec.size_px, CROP, interpolation=interpolation)
    with Image.open(io.BytesIO(content)) as image:
        np.asarray(crop(image.convert("RGB")))


def crops() -> Iterator[Figure]:
    """Show 4: the decoder that was chosen, on photographs of three sizes."""
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the CPU time of a crop (show 4) is left out")
        return
    torch.set_num_threads(1)
    images = DataConfig(path=str(data / "clothing-cc0" / "train"), caption_column="cls")
    samples = islice(read_samples(list_shards(images)[0], images, with_images=True), _PICTURES)
    pictures = [sample.image for sample in samples if sample.image is not None]
    sizes = {
        "128 x 171 pixels (median)": pictures,
        "256 pixels, shorter side": [resized(each, 256, min) for each in pictures],
        "1,024 pixels, longer side": [resized(each, 1_024, max) for each in pictures],
    }
    for name, contents in sizes.items():
        for interpolation in ("bilinear", "bicubic"):
            spec = ImageSpec(_SIZE_PX, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
            shares = [
                _cpu_s(own_crop, contents, spec, number) / _cpu_s(usual_crop, contents, spec, number)
                for number in range(_ROUNDS)
            ]
            yield Figure(
                4, f"CPU time of a crop against the usual, {name}, {interpolation}", statistics.median(shares), "share"
            )


def resized(content: bytes, side: int, which: Callable[[Sequence[int]], int]) -> bytes:
    """The same picture as a JPEG whose shorter (`min`) or longer (`max`) side has so many pixels."""
    with Image.open(io.BytesIO(content)) as picture:
        factor = side / which(picture.size)
        other = picture.convert("RGB").resize((round(picture.width * factor), round(picture.height * factor)))
    buffer = io.BytesIO()
    other.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _cpu_s(crop: Crop, contents: Sequence[bytes], spec: ImageSpec, number: int) -> float:
    started_s = time.process_time()
    for place, content in enumerate(contents):
        crop(content, spec, f"{number}-{place}")
    return time.process_time() - started_s
