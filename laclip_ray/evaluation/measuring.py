"""Measure models on sets: encode what is missing, then measure every set with every model from the stored features."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from laclip_ray.evaluation.captioned_measure import CaptionedMeasure
from laclip_ray.evaluation.features.encoding import (
    Done,
    EncodingProgress,
    TextWork,
    Work,
    image_work,
    text_units,
    text_work,
)
from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures
from laclip_ray.evaluation.features.rows import Source
from laclip_ray.evaluation.features.store import FeatureStore
from laclip_ray.evaluation.labelled_measure import LabelledMeasure
from laclip_ray.evaluation.results import ResultFiles
from laclip_ray.evaluation.sugar_crepe_measure import SugarCrepeMeasure

logger = logging.getLogger(__name__)

SetMeasure = LabelledMeasure | CaptionedMeasure | SugarCrepeMeasure

Encode = Callable[[Sequence[Work]], Iterator[Done]]
"""Does work with all models, here or on a cluster."""


@dataclass
class Encoding:
    """The feature stores of the models that are measured, and how they are filled."""

    stores: Mapping[str, FeatureStore]
    """By the model's name."""
    encode: Encode
    errors: dict[str, str] = field(default_factory=dict)
    """By unit, why it could not be read."""

    def images(self, sources: Iterable[Source]) -> None:
        """Encode the parts of shards that a store lacks."""
        self._do(image_work(sources, list(self.stores.values())))

    def texts(self, texts: Iterable[str]) -> list[TextWork]:
        """Encode texts that a store lacks. Returns the units that hold all of them."""
        units = text_units(texts)
        self._do(text_work(units, list(self.stores.values())))
        return units

    def _do(self, work: Sequence[Work]) -> None:
        if not work:
            return
        progress = EncodingProgress(len(work))
        for done in self.encode(work):
            progress.add(done)
        self.errors |= progress.errors
        logger.info("%s", progress.line())

    def reader(self, model: str) -> FeatureReader:
        """Reads the features of a model."""
        return FeatureReader(self.stores[model], self.errors)


def measure_sets(
    sets: Sequence[SetMeasure], encoding: Encoding, files: Mapping[str, ResultFiles], at_once: bool
) -> None:
    """Measure sets with every model, and write the results of each set when it is measured.

    Args:
        sets: the sets.
        encoding: of the models.
        files: by model, where its results go.
        at_once: encode all sets before the first is measured, so that the models are loaded once on a cluster.
    """
    for group in [list(sets)] if at_once else [[each] for each in sets]:
        _encode_images(group, encoding)
        first = encoding.reader(next(iter(files)))
        texts = {each.name: [*each.first_texts(), *each.later_texts(first)] for each in group}
        units = encoding.texts(text for of_set in texts.values() for text in of_set)
        for name, of_model in files.items():
            reader = encoding.reader(name)
            features: TextFeatures | None = reader.texts(units) if units else None
            for each in group:
                of_model.add(each.measure(reader, features))


def _encode_images(sets: Sequence[SetMeasure], encoding: Encoding) -> None:
    """Encode the images of sets; of a set that is cut short, no more shards than it needs."""
    encoding.images(source for each in sets if each.at_most_images is None for source in each.sources)
    for each in sets:
        if each.at_most_images is None:
            continue
        assert isinstance(each, CaptionedMeasure)
        shards = 1
        while True:
            encoding.images(each.sources[:shards])
            reader = encoding.reader(next(iter(encoding.stores)))
            if shards >= len(each.sources) or each.usable_images(reader, each.sources[:shards]) >= each.at_most_images:
                break
            shards *= 2
