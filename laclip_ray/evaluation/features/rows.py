"""Rows of evaluation sets before they are encoded, the same for every kind and layout of a set."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from laclip_ray.data.image_formats import ImageLimits


@dataclass(frozen=True)
class Row:
    """A row of a shard, with its encoded image or the reason why it has none."""

    id: str
    image: bytes | None = None
    """The encoded image. None: there is none, or an earlier row of the shard has it."""
    problem: str = ""
    """Why the image cannot be used; empty if it can."""
    label: str = ""
    """The raw label of a labelled set."""
    caption: str = ""
    """The raw caption of a captioned set."""
    row_problems: tuple[str, ...] = ()
    """The row's problems, as the readers of shards name them."""
    place: str = ""
    """The file of the image, if the row names one. Rows of one place have one image."""


class Source(Protocol):
    """A shard that can be read in any process."""

    @property
    def name(self) -> str:
        """The shard's name, for messages."""

    @property
    def key(self) -> str:
        """Digest of everything that decides the rows: the file's place and identity, and how it is read."""

    @property
    def exif(self) -> bool:
        """Whether images are turned by their EXIF orientation."""

    @property
    def limits(self) -> ImageLimits:
        """Images of these sizes are refused before decoding."""

    def rows(self) -> Iterator[Row]:
        """The rows in the shard's order. A damaged shard ends with a row whose `problem` says so.

        Raises:
            OSError: the storage failed, so the content is unknown.
        """


ROWS_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "problem": pa.string(),
        "label": pa.string(),
        "caption": pa.string(),
        "row_problems": pa.list_(pa.string()),
        "place": pa.string(),
        "picture": pa.binary(),
    }
)
"""A part's rows. `picture` is the digest of the encoded image, null without one."""

EMBEDDING, BACKBONE = "embedding", "backbone"
"""Columns of features: the bytes of float32 values, null for rows without features. The embedding is not normalised;
the backbone is the image tower's output before its projection."""

FEATURES_SCHEMA = pa.schema([*ROWS_SCHEMA, pa.field(EMBEDDING, pa.binary()), pa.field(BACKBONE, pa.binary())])
"""A stored part. The first row of a picture in a shard has its features."""

TEXTS_SCHEMA = pa.schema({"text": pa.string(), "tokens": pa.binary(), "is_cut": pa.bool_(), EMBEDDING: pa.binary()})
"""Stored texts. `tokens` is a digest of the tokens; `is_cut`: longer than the model's context."""
