"""Evaluation sets: labelled images in CLIP_benchmark's WebDataset layout, and captioned images from any shards.

CLIP_benchmark's layout, for a set at PATH:

    PATH/classnames.txt                         a class name a line
    PATH/zeroshot_classification_templates.txt  a template a line, `{c}` for the class name
    PATH/SPLIT/nshards.txt                      the number of shards
    PATH/SPLIT/N.tar                            members KEY.(jpg|png|webp) and KEY.cls, the class's line number

Images that cannot be decoded are counted and named, never fatal.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from laclip_ray import storage
from laclip_ray.config import DataConfig, ZeroShotConfig
from laclip_ray.data.records import NO_CAPTION
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.webdataset import IMAGE_MEMBERS, tar_groups
from laclip_ray.errors import UserError


@dataclass
class Skipped:
    """What could not be evaluated."""

    count: int = 0
    names: list[str] = field(default_factory=list)
    """The ids of the first few."""

    def add(self, sample_id: str) -> None:
        """Count a sample."""
        self.count += 1
        if len(self.names) < 20:
            self.names.append(sample_id)


@dataclass(frozen=True)
class LabelledSet:
    """A zero-shot classification set."""

    name: str
    class_names: list[str]
    templates: list[str]
    shards: list[str]


def open_labelled_set(config: ZeroShotConfig) -> LabelledSet:
    """Find a set's files.

    Raises:
        UserError: a file of the layout is missing, or empty.
    """

    def lines(name: str) -> list[str]:
        url = storage.join(config.path, name)
        if not storage.exists(url):
            raise UserError(f"evaluate.zero_shot: {config.name}: {url} does not exist")
        found = [line.strip() for line in storage.read_bytes(url).decode().splitlines() if line.strip()]
        if not found:
            raise UserError(f"evaluate.zero_shot: {config.name}: {url} is empty")
        return found

    templates = lines("zeroshot_classification_templates.txt")
    for template in templates:
        if "{c}" not in template:
            raise UserError(f"evaluate.zero_shot: {config.name}: the template {template!r} has no {{c}}")
    count_line = lines(f"{config.split}/nshards.txt")[0]
    if not count_line.isdecimal():
        raise UserError(f"evaluate.zero_shot: {config.name}: {config.split}/nshards.txt holds {count_line!r}")
    count = int(count_line)
    shards = [storage.join(config.path, config.split, f"{number}.tar") for number in range(count)]
    for shard in shards:
        if not storage.exists(shard):
            raise UserError(f"evaluate.zero_shot: {config.name}: {shard} does not exist")
    return LabelledSet(config.name, lines("classnames.txt"), templates, shards)


def labelled_images(
    labelled: LabelledSet, transform: Callable[[Image.Image], torch.Tensor], skipped: Skipped
) -> Iterator[tuple[torch.Tensor, int]]:
    """(pixels [3, H, W], class) of every image of a set."""
    for shard in labelled.shards:
        fs, path = storage.filesystem(shard)
        with fs.open(path, "rb") as file:
            groups = tar_groups(file, with_images=True)
            while True:
                try:
                    key, members = next(groups)
                except StopIteration:
                    break
                except (tarfile.TarError, EOFError):  # the tar ends in the middle
                    skipped.add(f"{storage.name_of(shard)}#end")
                    break
                content = next((members[name] for name in IMAGE_MEMBERS if members.get(name)), None)
                pixels = _decode(content, transform)
                label = (members.get("cls") or b"").strip()
                if pixels is None or not label.isdigit() or int(label) >= len(labelled.class_names):
                    skipped.add(key)
                    continue
                yield pixels, int(label)


def captioned_images(
    data: DataConfig,
    max_samples: int | None,
    transform: Callable[[Image.Image], torch.Tensor],
    skipped: Skipped,
    setting: str,
) -> Iterator[tuple[torch.Tensor, str]]:
    """(pixels [3, H, W], caption) of the first `max_samples` usable samples of any shards."""
    given = 0
    for shard in list_shards(data, setting):
        for sample in read_samples(shard, data, with_images=True):
            if given == max_samples:
                return
            pixels = None if NO_CAPTION.intersection(sample.problems) else _decode(sample.image, transform)
            if pixels is None:
                skipped.add(sample.id)
                continue
            given += 1
            yield pixels, sample.caption


def _decode(content: bytes | None, transform: Callable[[Image.Image], torch.Tensor]) -> torch.Tensor | None:
    if not content:
        return None
    try:
        with Image.open(io.BytesIO(content)) as image:
            return transform(image.convert("RGB"))
    except Exception:  # noqa: BLE001 - Pillow's readers raise what they like
        return None


def batches(items: Iterator[Any], size: int) -> Iterator[tuple[torch.Tensor, list[Any]]]:
    """Stack (pixels, other) pairs into batches of at most `size`: pixels [B, 3, H, W] and a list of B others."""
    pixels: list[torch.Tensor] = []
    others: list[Any] = []
    for image, other in items:
        pixels.append(image)
        others.append(other)
        if len(pixels) == size:
            yield torch.stack(pixels), others
            pixels, others = [], []
    if pixels:
        yield torch.stack(pixels), others
