"""What every kind of set gives to an evaluation: shards to encode, texts to encode, and results."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures
from laclip_ray.evaluation.features.rows import Source
from laclip_ray.evaluation.results import TaskResult


class SetMeasure(ABC):
    """An open set, and its measurement."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The set."""

    @property
    @abstractmethod
    def sources(self) -> Sequence[Source]:
        """The shards to encode."""

    def are_enough(self, reader: FeatureReader, sources: Sequence[Source]) -> bool:
        """Whether only some shards are measured; these are encoded."""
        return False

    @property
    def is_cut_short(self) -> bool:
        """Whether perhaps not all shards are measured."""
        return False

    def first_texts(self) -> list[str]:
        """Texts to encode, known before the images are read."""
        return []

    def later_texts(self, reader: FeatureReader) -> list[str]:
        """Texts to encode, read with the images."""
        return []

    @abstractmethod
    def measure(self, reader: FeatureReader, texts: TextFeatures | None) -> list[TaskResult]:
        """Measure every protocol of the set; one that gives no result says why."""
