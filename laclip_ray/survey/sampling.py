"""Read some rows of some shards, and count their contents."""

from collections.abc import Sequence
from itertools import islice

from laclip_ray.config import DataConfig
from laclip_ray.data.image_formats import ImageError, ImageLimits
from laclip_ray.data.pictures import open_rgb
from laclip_ray.data.preview import spread
from laclip_ray.data.records import NO_CAPTION, Sample, Shard
from laclip_ray.data.shards import read_or_report
from laclip_ray.survey.captions import CaptionCounts, PictureSizes
from laclip_ray.survey.facts import Rows, Sampled
from laclip_ray.tally import Tally

_SHARDS = 8
_ROWS = 512
"""Rows of a shard whose captions are counted."""
_PICTURE_SHARDS, _PICTURES = 4, 16
"""Upper bounds on shards with decoded pictures, and on pictures of each."""
_COUNTED_TARS = 8
"""So many tars are read for their number of samples. It is estimated from some if there are more."""


def sample_rows(data: DataConfig, shards: Sequence[Shard], with_pictures: bool) -> Sampled:
    """Count the contents of the first rows of some shards.

    Args:
        data: how they are read.
        shards: of the dataset.
        with_pictures: whether to decode some pictures.

    Raises:
        OSError: the storage failed.
    """
    captions, pictures, problems, rows = CaptionCounts(), PictureSizes(), Tally(), 0
    for shard in spread(shards, _SHARDS):
        for sample in islice(read_or_report(shard, data, with_images=False), _ROWS):
            rows += 1
            count_caption(sample, captions, problems)
    if with_pictures:
        for shard in spread(shards, _PICTURE_SHARDS):
            for sample in islice(read_or_report(shard, data, with_images=True), _PICTURES):
                count_picture(sample, data, pictures, problems)
    return Sampled(rows, captions, pictures, problems, with_pictures)


def count_caption(sample: Sample, captions: CaptionCounts, problems: Tally) -> None:
    """Count a sample's caption, and its problems apart from its image's."""
    for problem in sample.problems:
        if not problem.startswith("image_"):
            problems.add(problem, sample.id)
    if NO_CAPTION.isdisjoint(sample.problems):
        captions.add(sample.caption)


def count_picture(sample: Sample, data: DataConfig, pictures: PictureSizes, problems: Tally) -> None:
    """Decode a sample's picture, and count its size or its problem."""
    if sample.image is None:
        for problem in sample.problems:
            if problem.startswith("image_"):
                problems.add(problem, sample.id)
        return
    try:
        pictures.sizes.append(open_rgb(sample.image, ImageLimits.of(data), data.exif).size)
    except ImageError as error:
        problems.add(error.reason, sample.id)


def count_rows(data: DataConfig, shards: Sequence[Shard]) -> Rows:
    """The number of samples of tars: of a few by reading them, of many from the samples of some by their bytes."""
    if all(shard.known_rows is not None for shard in shards):
        return Rows(sum(shard.known_rows or 0 for shard in shards), True, "by the dataset index")
    chosen = list(spread(shards, _COUNTED_TARS))
    counts = [sum(1 for _ in read_or_report(shard, data, with_images=False)) for shard in chosen]
    if len(chosen) == len(shards):
        return Rows(sum(counts), True, "counted")
    sizes = [shard.size_bytes or 0 for shard in shards]
    read_bytes = sum(shard.size_bytes or 0 for shard in chosen)
    share = read_bytes / sum(sizes) if all(sizes) else len(chosen) / len(shards)
    return Rows(round(sum(counts) / share), False, f"estimated from {len(chosen)} of {len(shards):,} tars")
