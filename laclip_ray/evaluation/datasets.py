"""Evaluation sets: labelled images in CLIP_benchmark's WebDataset layout, and captioned images from any shards.

CLIP_benchmark's layout, for a set at PATH:

    PATH/classnames.txt                         a class name a line
    PATH/zeroshot_classification_templates.txt  a template a line, `{c}` for the class name
    PATH/SPLIT/nshards.txt                      the number of shards
    PATH/SPLIT/N.tar                            members KEY.(jpg|png|webp) and KEY.cls, the class's line number

Samples that cannot be evaluated (no readable image, label or caption) are counted by reason and named. They never stop
an evaluation.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from laclip_ray import storage
from laclip_ray.config import DataConfig, ZeroShotConfig
from laclip_ray.data.image_formats import IMAGE_UNREADABLE
from laclip_ray.data.records import IMAGE_MISSING, NO_CAPTION, SHARD_TRUNCATED
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.webdataset import IMAGE_MEMBERS, tar_groups
from laclip_ray.errors import UserError
from laclip_ray.tally import Tally

LABEL_UNUSABLE = "label_unusable"
"""Reason to skip a sample: its label is missing, or not the number of a class."""


@dataclass(frozen=True)
class LabelledSet:
    """A zero-shot classification set."""

    name: str
    class_names: list[str]
    """Indexed by label."""
    templates: list[str]
    """Prompts with `{c}` for the class name."""
    shards: list[str]
    """URLs of tar files."""


def open_labelled_set(config: ZeroShotConfig) -> LabelledSet:
    """Find a set's files.

    Raises:
        UserError: a file of the layout is missing, or empty.
    """

    def lines(name: str) -> list[str]:
        url = storage.join(config.path, name)
        if not storage.exists(url):
            raise UserError(f"evaluate.zero_shot: {config.name}: {url} does not exist")
        content = [line.strip() for line in storage.read_bytes(url).decode().splitlines() if line.strip()]
        if not content:
            raise UserError(f"evaluate.zero_shot: {config.name}: {url} is empty")
        return content

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
    labelled: LabelledSet, transform: Callable[[Image.Image], torch.Tensor], skipped: Tally
) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield (pixels [3, H, W], label) of every usable image of a set; add the other samples to `skipped`."""
    for shard in labelled.shards:
        for key, members in _groups_of(shard, skipped):
            content = next((members[name] for name in IMAGE_MEMBERS if members.get(name)), None)
            pixels = _pixels_or_reason(content, transform)
            label = (members.get("cls") or b"").strip()
            if isinstance(pixels, str):
                skipped.add(pixels, key)
            elif not label.isdigit() or int(label) >= len(labelled.class_names):
                skipped.add(LABEL_UNUSABLE, key)
            else:
                yield pixels, int(label)


def _groups_of(shard: str, skipped: Tally) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """Yield (key, content by extension) of a tar's samples; a tar that ends early is one more skipped sample."""
    fs, path = storage.filesystem(shard)
    with fs.open(path, "rb") as file:
        try:
            yield from tar_groups(file, with_images=True)
        except (tarfile.TarError, EOFError):
            skipped.add(SHARD_TRUNCATED, f"{storage.name_of(shard)}#end")


def captioned_images(
    data: DataConfig,
    max_samples: int | None,
    transform: Callable[[Image.Image], torch.Tensor],
    skipped: Tally,
    setting: str,
) -> Iterator[tuple[torch.Tensor, str]]:
    """Yield (pixels [3, H, W], caption) of usable samples; add the other samples to `skipped`.

    Args:
        data: the shards.
        max_samples: stop after this many usable samples. None: yield all.
        transform: an image to pixels.
        skipped: counts samples without a caption or a readable image.
        setting: the config key of `data`, for messages.
    """
    usable = 0
    for shard in list_shards(data, setting):
        for sample in read_samples(shard, data, with_images=True):
            if usable == max_samples:
                return
            if unusable := NO_CAPTION.intersection(sample.problems):
                skipped.add(min(unusable), sample.id)
                continue
            pixels = _pixels_or_reason(sample.image, transform)
            if isinstance(pixels, str):
                skipped.add(pixels, sample.id)
                continue
            usable += 1
            yield pixels, sample.caption


def _pixels_or_reason(content: bytes | None, transform: Callable[[Image.Image], torch.Tensor]) -> torch.Tensor | str:
    """Pixels [3, H, W] of an encoded image, or the reason to skip its sample."""
    if not content:
        return IMAGE_MISSING
    try:
        with Image.open(io.BytesIO(content)) as image:
            return transform(image.convert("RGB"))
    except Exception:  # noqa: BLE001 - Pillow's readers raise many kinds of errors
        return IMAGE_UNREADABLE


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
