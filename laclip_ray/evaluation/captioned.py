"""Captioned images for retrieval, from any shards: images, and the captions of each.

A row gives an image its captions: one, a list (a column of Parquet or JSON lines, a key of a WebDataset json member),
or the lines of a WebDataset txt member, which is CLIP_benchmark's layout. Rows of one image are joined: they name the
same file, or hold the same bytes. So a table with a row a caption, such as Flickr30k's `captions.txt` or COCO as CSV,
has each image once, and reads it once. Ids do not matter.

In CLIP_benchmark's own retrieval sets (`dataset_type.txt`) each sample is an image, as there: equal pictures under
different keys stay separate.

Not covered: an image file that changes while its table does not; then the features are those of the old file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from laclip_ray import storage
from laclip_ray.config import DataConfig, RetrievalConfig, RetrievalDataConfig
from laclip_ray.data.held_out import is_for_evaluation
from laclip_ray.data.image_formats import ImageLimits, image_problem
from laclip_ray.data.image_sources import ImageSource, images_in_order
from laclip_ray.data.path_patterns import single_paths
from laclip_ray.data.records import (
    CAPTION_EMPTY,
    DUPLICATE_ID,
    IMAGE_MISSING,
    NO_CAPTION,
    SHARD_UNREADABLE,
    Sample,
    Shard,
)
from laclip_ray.data.shards import list_shards, read_or_report
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import Coverage
from laclip_ray.evaluation.features.reading import FeatureReader, FeatureRow, until_damage
from laclip_ray.evaluation.features.rows import Row
from laclip_ray.evaluation.features.store import digest_of
from laclip_ray.evaluation.sets.tars import RETRIEVAL_TYPE, dataset_type

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
    for path in single_paths(data.path):
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


@dataclass(frozen=True)
class CaptionedSource:
    """A shard of captioned images (`features.rows.Source`)."""

    shard: Shard
    data: RetrievalDataConfig
    is_held_out: bool = False
    """Whether the rows are only the samples that training leaves out (`data.held_out`)."""

    @property
    def name(self) -> str:
        """The shard's name."""
        return self.shard.name

    @property
    def key(self) -> str:
        """Digest of the shard's place and identity, and of how it is read."""
        excluded = {"path", "captions"}
        if self.is_held_out:
            return digest_of("held out", repr(self.shard), self.data.model_dump_json(exclude={"path"}))
        excluded |= {"held_out", "held_out_seed"}  # no part of the rows, nor of the keys of earlier versions
        return digest_of("captioned", repr(self.shard), self.data.model_dump_json(exclude=excluded))

    @property
    def exif(self) -> bool:
        """Whether images are turned by their EXIF orientation."""
        return self.data.exif

    @property
    def limits(self) -> ImageLimits:
        """Sizes of refused images."""
        return ImageLimits.of(self.data)

    def rows(self) -> Iterator[Row]:
        """The rows, the last one with the reason if the rest cannot be read. A file that several name is read once.

        Raises:
            OSError: the storage failed.
        """
        if self.shard.format != "webdataset":
            samples = self._samples(with_images=False)
            first = list(islice(samples, _ROWS_LOOKED_AT))
            if any(sample.image_path for sample in first):
                yield from self._rows_of_files(chain(first, samples))
                return
        for sample in self._samples(with_images=True):
            if sample.image is not None:
                yield _row(sample, sample.image)
            else:
                yield _row(sample, None, image_problem(sample))

    def _samples(self, with_images: bool) -> Iterator[Sample]:
        samples = _reported(self.shard, self.data, with_images)
        return (sample for sample in samples if not self.is_held_out or is_for_evaluation(sample, self.data))

    def _rows_of_files(self, samples: Iterator[Sample]) -> Iterator[Row]:
        directory = self.data.image_root or self.shard.url.rpartition("/")[0]
        row_of_path: dict[str, int] = {}

        def path_to_read(sample: Sample) -> str | None:
            path = sample.image_path
            if path is None or path in row_of_path or NO_CAPTION.intersection(sample.problems):
                return None
            row_of_path[path] = sample.row
            return path

        for sample, content in images_in_order(samples, path_to_read, ImageSource(self.shard.url, self.data)):
            path = sample.image_path
            place = f"{directory}\n{path}" if path else ""
            if isinstance(content, bytes):
                yield _row(sample, content, place=place)
            elif path and row_of_path.get(path) != sample.row:
                yield _row(sample, None, place=place)
            else:
                yield _row(sample, None, content or IMAGE_MISSING, place)


def _reported(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """The samples; an unreadable or missing file gives one that reports it."""
    try:
        yield from read_or_report(shard, data, with_images)
    except FileNotFoundError:
        yield Sample(0, f"{shard.name}#unreadable", "", None, (SHARD_UNREADABLE,))


def _row(sample: Sample, image: bytes | None, problem: str = "", place: str = "") -> Row:
    return Row(sample.id, image, problem, caption=sample.caption, row_problems=sample.problems, place=place)


def captioned_sources(data: RetrievalDataConfig, setting: str, is_held_out: bool = False) -> list[CaptionedSource]:
    """The shards of a set, sorted by name; arguments and errors as in `list_shards`.

    Args:
        data: the set, or the training data.
        setting: the config key of `data`.
        is_held_out: whether the set is the held-out samples of the training data.
    """
    return [CaptionedSource(shard, data, is_held_out) for shard in list_shards(data, setting)]


@dataclass(frozen=True)
class CaptionedImage:
    """A row of a retrieval set: an image and captions of it."""

    image: int
    """The image's number, from 0. Rows of one image have the same number."""
    picture: int
    """Number of the image's content. Images of the same bytes have the same number."""
    embedding: np.ndarray | None
    """float32 [D], not normalised; None if an earlier row has the image."""
    captions: Sequence[str]
    id: str = ""
    """The row's id."""


def captioned_images(
    config: RetrievalConfig,
    sources: Iterable[CaptionedSource],
    reader: FeatureReader,
    coverage: Coverage,
    is_benchmark: bool,
) -> Iterator[CaptionedImage]:
    """Yield the usable rows of a set, and record the others.

    Args:
        config: the set, from `RetrievalConfig.of_training`.
        sources: its shards.
        reader: their features.
        coverage: counts the captions.
        is_benchmark: from `is_benchmark_set`.

    Raises:
        NoResultError: the storage refused a shard.
    """
    images = _Images(is_benchmark)
    assert config.data is not None
    for source in sources:
        shard = source.shard
        expected = None if config.held_out else shard.row_count
        for row in coverage.read_shard(shard.name, until_damage(reader.rows(source)), expected):
            captions, empty = _captions(row, shard, config.data)
            if empty:
                coverage.skip(CAPTION_EMPTY, row.id, empty)
            if not captions:
                if not empty:
                    coverage.skip(min(NO_CAPTION.intersection(row.row_problems)), row.id)
                continue
            image = images.number(row)
            if isinstance(image, str):
                coverage.skip(image, row.id, len(captions))
                continue
            if image == config.max_samples:
                return
            coverage.used += len(captions)
            yield CaptionedImage(image, images.pictures[image], images.take_embedding(), captions, row.id)


def _captions(row: FeatureRow, shard: Shard, data: RetrievalDataConfig) -> tuple[Sequence[str], int]:
    """The captions of a row, and how many others of it are blank."""
    if NO_CAPTION.intersection(row.row_problems):
        return (), 0
    if shard.format != "webdataset":
        return (row.caption,), 0
    lines = row.caption.splitlines()
    captions = [line for line in lines if line.strip()]
    return captions[:1] if data.captions == "first" else captions, len(lines) - len(captions)


class _Images:
    """The images of a set: numbers the usable ones."""

    def __init__(self, is_benchmark: bool) -> None:
        self._is_benchmark = is_benchmark
        self.pictures: list[int] = []
        """For each image, the number of its content."""
        self._picture_of: dict[bytes, int] = {}
        self._known: dict[tuple[str, bytes] | str, int | str] = {}
        """The number of an image, or the reason why it cannot be used: by its content, and by its place."""
        self._new: np.ndarray | None = None

    def number(self, row: FeatureRow) -> int | str:
        """The number of a row's image, from 0, or the reason why it cannot be used."""
        if row.place and row.place in self._known:
            return self._known[row.place]
        number = self._by_content(row)
        if row.place:
            self._known[row.place] = number
        return number

    def _by_content(self, row: FeatureRow) -> int | str:
        if row.picture is None or row.embedding is None:
            return row.problem or IMAGE_MISSING
        key = (_own_id(row) if self._is_benchmark else "", row.picture)
        if key not in self._known:
            self._known[key] = len(self.pictures)
            self._new = row.embedding
            self.pictures.append(self._picture_of.setdefault(row.picture, len(self._picture_of)))
        return self._known[key]

    def take_embedding(self) -> np.ndarray | None:
        """The embedding [D] of the image numbered last, if no earlier row had it."""
        embedding, self._new = self._new, None
        return embedding


def _own_id(row: FeatureRow) -> str:
    """The row's id without the number that a repeated id gets."""
    return row.id.rpartition("#")[0] if DUPLICATE_ID in row.row_problems else row.id
