"""What every kind of set gives to an evaluation: shards to encode, texts to encode, and results."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures
from laclip_ray.evaluation.features.rows import Source
from laclip_ray.evaluation.results import TaskResult


class SetMeasure(ABC):
    """A set, opened, and what is measured on it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The set."""

    @property
    @abstractmethod
    def sources(self) -> Sequence[Source]:
        """The shards to encode."""

    def are_enough(self, reader: FeatureReader, sources: Sequence[Source]) -> bool:
        """Whether some of the shards, which are encoded, are all that is measured."""
        return False

    @property
    def is_cut_short(self) -> bool:
        """Whether perhaps not all shards are measured."""
        return False

    def first_texts(self) -> list[str]:
        """Texts to encode that are known before the images are read."""
        return []

    def later_texts(self, reader: FeatureReader) -> list[str]:
        """Texts to encode that are read with the images."""
        return []

    @abstractmethod
    def measure(self, reader: FeatureReader, texts: TextFeatures | None) -> list[TaskResult]:
        """Measure every protocol of the set; one that gives no result says why."""
