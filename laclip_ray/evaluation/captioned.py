"""Captioned images for retrieval, from any shards: images, and the captions of each.

A row gives an image its captions: one, a list (a column of Parquet or JSON lines, a key of a WebDataset json member),
or the lines of a WebDataset txt member, which is CLIP_benchmark's layout. Rows of one image are joined: they name the
same file, or hold the same bytes. So a table with a row a caption, such as Flickr30k's `captions.txt` or COCO as CSV,
has each image once, and reads and embeds it once. Ids do not matter.

In CLIP_benchmark's own retrieval sets (`dataset_type.txt`) each sample is an image, as there: equal pictures under
different keys stay separate.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain, islice

import torch

from laclip_ray import storage
from laclip_ray.config import DataConfig, RetrievalConfig
from laclip_ray.data.image_formats import ImageLimits, image_problem
from laclip_ray.data.image_sources import ImageSource, images_in_order
from laclip_ray.data.records import (
    CAPTION_EMPTY,
    DUPLICATE_ID,
    IMAGE_MISSING,
    NO_CAPTION,
    SHARD_TRUNCATED,
    SHARD_UNREADABLE,
    Sample,
    Shard,
    ShardUnreadableError,
)
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import Coverage
from laclip_ray.evaluation.labelled import RETRIEVAL_TYPE, dataset_type
from laclip_ray.evaluation.pixels import Transform, pixels_or_reason
from laclip_ray.evaluation.retrieval import CaptionedImage

_COUNT = "nshards.txt"
"""File in the directory of each split of a benchmark set."""

_ROWS_LOOKED_AT = 100
"""Rows of a table that show whether it names image files or holds images."""


def is_benchmark_set(data: DataConfig, setting: str) -> bool:
    """Whether a set is one of CLIP_benchmark's retrieval sets, by the `dataset_type.txt` beside or above its shards.

    Args:
        data: the set.
        setting: the config key of `data`, for messages.

    Raises:
        UserError: the file says that the set has labels instead of captions, or a path holds several splits.
    """
    kinds: dict[str, str] = {}
    for path in [data.path] if isinstance(data.path, str) else data.path:
        _refuse_several_splits(path, setting)
        for directory in _directories_of(path):
            if (kind := dataset_type(directory, f"{setting}.path")) is not None:
                kinds.setdefault(kind, directory)
    for kind, directory in kinds.items():
        if kind != RETRIEVAL_TYPE:
            raise UserError(
                f"{setting}.path: {directory} holds a {kind} set (dataset_type.txt), which has labels and no captions; "
                "name it under evaluate.labelled"
            )
    return bool(kinds)


def _refuse_several_splits(path: str, setting: str) -> None:
    """Refuse the directory of a benchmark set, whose splits would be read together."""
    if dataset_type(path, f"{setting}.path") is not None:
        splits = [name for name in storage.list_directories(path) if storage.exists(storage.join(path, name, _COUNT))]
        if len(splits) > 1:
            raise UserError(
                f"{setting}.path: {path} holds several splits ({', '.join(splits)}); give the directory of one, such "
                f"as {storage.join(path, splits[0])}"
            )


def _directories_of(path: str) -> list[str]:
    """The directory of a path's shards, and the one above it."""
    fixed = path
    while any(mark in storage.name_of(fixed) for mark in "*?[{") or not storage.is_directory(fixed):
        above = fixed.rstrip("/").rpartition("/")[0]
        if not above or above.endswith(":/"):
            return []
        fixed = above
    above = fixed.rstrip("/").rpartition("/")[0]
    return [fixed, above] if above and not above.endswith(":/") else [fixed]


def captioned_images(
    config: RetrievalConfig, transform: Transform, coverage: Coverage, setting: str, is_benchmark: bool
) -> Iterator[CaptionedImage]:
    """Yield the usable rows of a set, and record the others.

    Args:
        config: the set.
        transform: an image to pixels.
        coverage: counts the captions.
        setting: the config key of `config.data`, for messages.
        is_benchmark: from `is_benchmark_set`.

    Raises:
        NoResultError: the storage refuses a shard.
    """
    data = config.data
    images = _Images(transform, data, is_benchmark)
    for shard in list_shards(data, setting):
        rows = _without_end(images.read(shard))
        for sample, encoded in coverage.read_shard(shard.name, rows, shard.row_count):
            captions, empty = _captions(sample, shard, data)
            if empty:
                coverage.skip(CAPTION_EMPTY, sample.id, empty)
            if not captions:
                if not empty:
                    coverage.skip(min(NO_CAPTION.intersection(sample.problems)), sample.id)
                continue
            image = images.number(sample, encoded)
            if isinstance(image, str):
                coverage.skip(image, sample.id, len(captions))
                continue
            if image == config.max_samples:
                return
            coverage.used += len(captions)
            yield CaptionedImage(image, images.pictures[image], images.take_pixels(), captions)


Row = tuple[Sample, bytes | str | int]
"""A row with its encoded image, the reason why it has none, or the number of a known image."""


def _without_end(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows; raises where a shard reports that the others cannot be read."""
    for sample, image in rows:
        if lost := {SHARD_TRUNCATED, SHARD_UNREADABLE}.intersection(sample.problems):
            raise ShardUnreadableError(min(lost))
        yield sample, image


def _captions(sample: Sample, shard: Shard, data: DataConfig) -> tuple[Sequence[str], int]:
    """The captions of a row, and how many others of it are blank."""
    if NO_CAPTION.intersection(sample.problems):
        return (), 0
    if shard.format != "webdataset":
        return (sample.caption,), 0
    lines = sample.caption.splitlines()
    captions = [line for line in lines if line.strip()]
    return captions[:1] if data.captions == "first" else captions, len(lines) - len(captions)


class _Images:
    """The images of a set: reads and decodes each once, and numbers those that can be used."""

    def __init__(self, transform: Transform, data: DataConfig, is_benchmark: bool) -> None:
        self._transform, self._data, self._is_benchmark = transform, data, is_benchmark
        self._limits = ImageLimits.of(data)
        self.pictures: list[int] = []
        """For each image, the number of its content."""
        self._picture_of: dict[bytes, int] = {}
        self._known: dict[tuple[str, ...] | bytes, int | str] = {}
        """The number of an image, or the reason why it cannot be used: by its place or its content."""
        self._last: tuple[bytes, int | str] = (b"", IMAGE_MISSING)
        self._new: torch.Tensor | None = None

    def read(self, shard: Shard) -> Iterator[Row]:
        """Yield the rows of a shard. A file that several rows name is read once."""
        if shard.format != "webdataset":
            samples = read_samples(shard, self._data, with_images=False)
            first = list(islice(samples, _ROWS_LOOKED_AT))
            if any(sample.image_path for sample in first):
                yield from self._read_files(chain(first, samples), shard)
                return
        for sample in read_samples(shard, self._data, with_images=True):
            yield sample, image_problem(sample) if sample.image is None else sample.image

    def _read_files(self, samples: Iterator[Sample], shard: Shard) -> Iterator[Row]:
        directory = self._data.image_root or shard.url.rpartition("/")[0]
        row_of_path: dict[str, int] = {}

        def path_to_read(sample: Sample) -> str | None:
            path = sample.image_path
            if path is None or path in row_of_path or NO_CAPTION.intersection(sample.problems):
                return None
            row_of_path[path] = sample.row
            return None if (directory, path) in self._known else path

        for sample, content in images_in_order(samples, path_to_read, ImageSource(shard.url, self._data)):
            path = sample.image_path or ""
            place = (directory, path)
            if row_of_path.get(path) == sample.row and place not in self._known:
                self._known[place] = self.number(sample, content)
            yield sample, self._known.get(place, IMAGE_MISSING)

    def number(self, sample: Sample, image: bytes | str | int) -> int | str:
        """The number of a row's image, from 0, or the reason why it cannot be used."""
        if not isinstance(image, bytes):
            return image
        if image is self._last[0]:  # another caption of the same row
            return self._last[1]
        digest = blake2b(image, digest_size=16).digest()
        key = (_own_id(sample), digest.hex()) if self._is_benchmark else digest
        if key not in self._known:
            self._known[key] = self._add(image, digest)
        self._last = (image, self._known[key])
        return self._last[1]

    def _add(self, image: bytes, digest: bytes) -> int | str:
        pixels = pixels_or_reason(image, self._transform, self._limits, self._data.exif)
        if isinstance(pixels, str):
            return pixels
        self._new = pixels
        self.pictures.append(self._picture_of.setdefault(digest, len(self._picture_of)))
        return len(self.pictures) - 1

    def take_pixels(self) -> torch.Tensor | None:
        """The pixels [3, H, W] of the image that was numbered last, if no row had it before."""
        pixels, self._new = self._new, None
        return pixels


def _own_id(sample: Sample) -> str:
    """The sample's id without the number that a repeated id gets."""
    return sample.id.rpartition("#")[0] if DUPLICATE_ID in sample.problems else sample.id
