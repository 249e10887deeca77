"""Figures of a crop: its CPU time against the usual way, by Pillow and torchvision, and that of decoders alone."""

import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from laclip_ray.config import DataConfig
from laclip_ray.data.images import ImageSpec, decode_and_crop
from laclip_ray.data.shards import list_shards, read_samples
from tests.figures.figure import Figure

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


def crops(data: Path) -> Iterator[Figure]:
    """Show 4: the decoders to choose from, and a crop by the one that was chosen, on photographs of three sizes."""
    torch.set_num_threads(1)
    for name, contents in _contents(data).items():
        yield from _decoders(name, contents)
        for interpolation in ("bilinear", "bicubic"):
            spec = ImageSpec(_SIZE_PX, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
            shares = [
                _crops_s(own_crop, contents, spec, number) / _crops_s(usual_crop, contents, spec, number)
                for number in range(_ROUNDS)
            ]
            yield Figure(
                4, f"CPU time of a crop against the usual, {name}, {interpolation}", statistics.median(shares), "share"
            )


def _contents(data: Path) -> dict[str, list[bytes]]:
    """Photographs as JPEGs, by their size."""
    images = DataConfig(path=str(data / "clothing-cc0" / "train"), caption_column="cls")
    samples = islice(read_samples(list_shards(images)[0], images, with_images=True), _PICTURES)
    pictures = [sample.image for sample in samples if sample.image is not None]
    return {
        "128 x 171 pixels (median)": pictures,
        "256 pixels, shorter side": [resized(each, 256, min) for each in pictures],
        "1,024 pixels, longer side": [resized(each, 1_024, max) for each in pictures],
    }


def resized(content: bytes, side: int, which: Callable[[Sequence[int]], int]) -> bytes:
    """The same picture as a JPEG whose shorter (`min`) or longer (`max`) side has so many pixels."""
    with Image.open(io.BytesIO(content)) as picture:
        factor = side / which(picture.size)
        other = picture.convert("RGB").resize((round(picture.width * factor), round(picture.height * factor)))
    buffer = io.BytesIO()
    other.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _crops_s(crop: Crop, contents: Sequence[bytes], spec: ImageSpec, number: int) -> float:
    return cpu_s(partial(crop, content, spec, f"{number}-{place}") for place, content in enumerate(contents))


def cpu_s(calls: Iterable[Callable[[], object]]) -> float:
    """The CPU time that they take, one after another, in seconds."""
    started_s = time.process_time()
    for call in calls:
        call()
    return time.process_time() - started_s


def _decoders(name: str, contents: Sequence[bytes]) -> Iterator[Figure]:
    """Those that can, read a large JPEG at a fraction of its size."""
    rounds = [
        {decoder: cpu_s(partial(decode, content) for content in contents) for decoder, decode in DECODERS.items()}
        for _ in range(_ROUNDS)
    ]
    for decoder in list(DECODERS)[1:]:
        share = statistics.median(spent_s[decoder] / spent_s["Pillow"] for spent_s in rounds)
        yield Figure(4, f"CPU time of decoding against Pillow, {decoder}, {name}", share, "share")


def _by_draft(content: bytes) -> object:
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (_SIZE_PX, _SIZE_PX))
        return np.asarray(image.convert("RGB"))


def _by_torchvision(content: bytes) -> object:
    encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return torchvision.io.decode_image(encoded, torchvision.io.ImageReadMode.RGB)


def _by_fraction(content: bytes) -> object:
    """At a half, a quarter or an eighth of the size, as long as a whole picture of the wanted size is left."""
    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    shrink = max(each for each in (1, 2, 4, 8) if each == 1 or min(height, width) >= each * _SIZE_PX)
    return simplejpeg.decode_jpeg(content, "RGB", min_height=-(-height // shrink), min_width=-(-width // shrink))


DECODERS: dict[str, Callable[[bytes], object]] = {
    "Pillow": lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")),
    "Pillow in draft mode": _by_draft,
    "torchvision": _by_torchvision,
    "simplejpeg": lambda content: simplejpeg.decode_jpeg(content, "RGB"),
    "simplejpeg at a fraction": _by_fraction,
}
