"""Measure models on sets: encode missing features, then measure every set with every model from the stored features."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
from laclip_ray.evaluation.results import ResultFiles
from laclip_ray.evaluation.set_measure import SetMeasure

logger = logging.getLogger(__name__)

Encode = Callable[[Sequence[Work]], Iterator[Done]]
"""Does work with all models, here or on a cluster."""


@dataclass
class Encoding:
    """The feature stores of the measured models, and how they are filled."""

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
        readers = {name: encoding.reader(name) for name in files}
        first = next(iter(readers.values()))  # all models read the same texts
        units = encoding.texts(text for each in group for text in (*each.first_texts(), *each.later_texts(first)))
        for name, of_model in files.items():
            reader = readers[name]
            features: TextFeatures | None = reader.texts(units) if units else None
            for each in group:
                of_model.add(each.measure(reader, features))


def _encode_images(sets: Sequence[SetMeasure], encoding: Encoding) -> None:
    """Encode the images of sets; only the needed shards of a shortened set."""
    encoding.images(source for each in sets if not each.is_cut_short for source in each.sources)
    for each in sets:
        shards = 1
        while each.is_cut_short:
            chosen = each.sources[:shards]
            encoding.images(chosen)
            if shards >= len(each.sources) or each.are_enough(encoding.reader(next(iter(encoding.stores))), chosen):
                break
            shards *= 2
