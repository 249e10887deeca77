"""A shard in parts: rows, and the pixels of their images. A part is the unit of commit.

Part K holds rows [256 K, 256 (K + 1)), so a run that continues finds the same parts, and decodes only the missing ones.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from laclip_ray.data.image_formats import IMAGE_TOO_LARGE, ImageError
from laclip_ray.data.pictures import open_rgb
from laclip_ray.evaluation.features.rows import ROWS_SCHEMA, Row, Source
from laclip_ray.models.pixel_transform import PixelTransform

PART_ROWS = 256
"""Rows of a part. 256 images of 224 pixels are 38 MB."""


@dataclass(frozen=True)
class Part:
    """Rows of a shard, ready to be encoded."""

    number: int
    is_last: bool
    rows: pa.Table
    """`ROWS_SCHEMA`."""
    encoded_rows: np.ndarray
    """int64 [N], ascending: the rows whose image is encoded here."""
    pixels: Mapping[str, np.ndarray]
    """By digest of a transform, the N images, stacked."""


def read_parts(source: Source, transforms: Collection[PixelTransform], done: Collection[int]) -> Iterator[Part]:
    """Read a shard and decode its images, each once.

    Args:
        source: the shard.
        transforms: one of each model; each is applied to every image.
        done: numbers of parts to leave out. They are read, but neither decoded nor given.

    Raises:
        OSError: the storage failed.
    """
    building = _PartBuilder(0, source, transforms, 0 in done)
    pictures: dict[bytes, str] = {}
    for row in source.rows():
        if len(building.rows) == PART_ROWS:
            following = building.number + 1
            if not building.is_done:
                yield building.finish(is_last=False)
            building = _PartBuilder(following, source, transforms, following in done)
        building.add(row, pictures)
    if not building.is_done:
        yield building.finish(is_last=True)


@dataclass
class _PartBuilder:
    number: int
    source: Source
    transforms: Collection[PixelTransform]
    is_done: bool
    rows: list[dict[str, object]] = field(default_factory=list)
    _encoded_rows: list[int] = field(default_factory=list)
    _pixels: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, row: Row, pictures: dict[bytes, str]) -> None:
        """Add a row.

        Args:
            row: the row.
            pictures: by digest of the pictures so far, why each cannot be used; empty if it can. The row's is added.
        """
        picture, problem = None, row.problem
        if row.image is not None and not problem:
            picture = blake2b(row.image, digest_size=16).digest()
            if picture not in pictures:
                # Whether a picture of a committed part can be decoded is in that part; later rows look there.
                pictures[picture] = "" if self.is_done else self._decode(row.image)
            problem = pictures[picture]
        self.rows.append(
            {
                "id": row.id,
                "problem": problem,
                "label": row.label,
                "caption": row.caption,
                "row_problems": list(row.row_problems),
                "place": row.place,
                "picture": picture,
            }
        )

    def _decode(self, content: bytes) -> str:
        """Decode an image of the next row; the reason why it cannot be used, or an empty text."""
        try:
            image = open_rgb(content, self.source.limits, self.source.exif)
            arrays = {transform.digest: transform.pixels(image) for transform in self.transforms}
        except ImageError as error:
            return error.reason
        except MemoryError:
            return IMAGE_TOO_LARGE
        self._encoded_rows.append(len(self.rows))
        for digest, array in arrays.items():
            self._pixels.setdefault(digest, []).append(array)
        return ""

    def finish(self, is_last: bool) -> Part:
        """The part with all rows so far."""
        return Part(
            self.number,
            is_last,
            pa.Table.from_pylist(self.rows, ROWS_SCHEMA),
            np.array(self._encoded_rows, np.int64),
            {digest: np.stack(arrays) for digest, arrays in self._pixels.items()},
        )
