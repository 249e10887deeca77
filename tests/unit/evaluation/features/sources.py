"""Shards of tests."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from laclip_ray.data.image_formats import DEFAULT_LIMITS, ImageLimits
from laclip_ray.evaluation.features.rows import Row


@dataclass
class ListedSource:
    """A shard whose rows are listed; it fails after them if it has an error."""

    listed: list[Row]
    name: str = "shard"
    key: str = "abc0"
    exif: bool = False
    limits: ImageLimits = DEFAULT_LIMITS
    error: Exception | None = None
    read: list[str] = field(default_factory=list)
    """Ids of the rows that were read."""

    def rows(self) -> Iterator[Row]:
        for row in self.listed:
            self.read.append(row.id)
            yield row
        if self.error is not None:
            raise self.error
