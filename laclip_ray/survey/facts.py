"""The findings of a look at a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from laclip_ray.config import DataConfig
from laclip_ray.survey.captions import CaptionCounts, PictureSizes
from laclip_ray.survey.columns import Choice
from laclip_ray.tally import Tally


@dataclass(frozen=True)
class Rows:
    """The number of samples of a dataset."""

    count: int
    is_exact: bool
    how: str
    """How it is known: `Parquet footers`."""

    def describe(self) -> str:
        """The number, and how it is known."""
        return f"{'' if self.is_exact else 'about '}{self.count:,} samples ({self.how})"


@dataclass(frozen=True)
class Sampled:
    """Facts about the rows of a sample."""

    rows: int
    captions: CaptionCounts
    pictures: PictureSizes
    problems: Tally
    """Problems and notes of rows, and reasons of broken pictures."""
    are_pictures_fetched: bool = True
    """Whether pictures were looked at: not those on other hosts."""


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split of the data, measured and not trained on."""

    name: str
    data: DataConfig
    rows: Rows


@dataclass(frozen=True)
class Facts:
    """The findings of a look at a dataset."""

    data: DataConfig
    """How it is read."""
    format: str
    files: int
    shards: int
    size_bytes: int | None
    """None: the store does not tell it."""
    rows: Rows
    caption: Choice
    image: Choice | None
    """None: captions without pictures."""
    id: Choice | None
    sampled: Sampled
    evaluated: EvaluatedSplit | None = None
    """None: the files name no splits, and some of the samples are held out."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Notes for the user: other formats, left-out files, captions beside tars."""
