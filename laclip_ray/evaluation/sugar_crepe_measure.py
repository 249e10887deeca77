"""SugarCrepe and SugarCrepe++: their annotation files, and a directory with COCO's images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from laclip_ray.config import SugarCrepeConfig
from laclip_ray.data.hub_addresses import resolve_hub_address
from laclip_ray.data.records import IMAGE_MISSING, clean_id
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures, normalised
from laclip_ray.evaluation.labelled_split import LabelledSource
from laclip_ray.evaluation.per_image import PerImage
from laclip_ray.evaluation.results import TaskResult
from laclip_ray.evaluation.set_measure import SetMeasure
from laclip_ray.evaluation.sets.folders import shards_of_files
from laclip_ray.evaluation.sets.set_files import SetFiles
from laclip_ray.evaluation.tasks import SUGAR_CREPE
from laclip_ray.evaluation.wording.sugar_crepe import Example, read_examples, sugar_crepe_metrics


@dataclass(frozen=True)
class SugarCrepeMeasure(SetMeasure):
    """A set of examples, opened."""

    config: SugarCrepeConfig
    examples: Sequence[Example]
    shards: Sequence[LabelledSource]
    most_skipped: float
    """`evaluate.max_skipped`."""

    @classmethod
    def open(cls, config: SugarCrepeConfig, most_skipped: float) -> "SugarCrepeMeasure":
        """Read the annotations, and list the images.

        Raises:
            UserError: a file has another layout, or the images are not there.
        """
        where = f"evaluate.sugar_crepe: {config.name}"
        examples = read_examples(resolve_hub_address(config.path), where)
        images = resolve_hub_address(config.images)
        files = SetFiles(images, where, f"evaluate.sugar_crepe[{config.name}].images")
        wanted = {example.image for example in examples}
        shards = shards_of_files(files, [file for file in files.images if file.name in wanted])
        return cls(config, examples, [LabelledSource(shard) for shard in shards], most_skipped)

    @property
    def name(self) -> str:
        """The set."""
        return self.config.name

    @property
    def sources(self) -> Sequence[LabelledSource]:
        """The shards of the images that the examples name."""
        return self.shards

    @cached_property
    def _texts(self) -> list[str]:
        texts = (text for example in self.examples for text in (*example.captions, example.negative))
        return list(dict.fromkeys(texts))

    def first_texts(self) -> list[str]:
        """All captions."""
        return self._texts

    def measure(self, reader: FeatureReader, texts: TextFeatures | None) -> list[TaskResult]:
        """The shares of right choices by kind."""
        coverage = Coverage()
        try:
            return [self._measure(reader, texts, coverage)]
        except NoResultError as error:
            return [TaskResult(SUGAR_CREPE, self.name, {"no_result": str(error)}, coverage=coverage)]

    def _measure(self, reader: FeatureReader, texts: TextFeatures | None, coverage: Coverage) -> TaskResult:
        assert texts is not None
        embeddings, problems = self._embeddings(reader)
        usable = []
        for example in self.examples:
            image = clean_id(example.image)
            if image in embeddings:
                usable.append(example)
                coverage.used += 1
            else:
                coverage.skip(problems.get(image, IMAGE_MISSING), example.image)
        coverage.check(self.most_skipped, "check that images holds the files that the annotations name")
        names = list(dict.fromkeys(clean_id(example.image) for example in usable))
        number_of = {name: number for number, name in enumerate(names)}
        row = texts.number_of
        measured = sugar_crepe_metrics(
            usable,
            torch.from_numpy(normalised(np.stack([embeddings[name] for name in names]))),
            torch.tensor([number_of[clean_id(example.image)] for example in usable]),
            torch.from_numpy(texts.embeddings),
            torch.tensor([[row[caption] for caption in example.captions] for example in usable]),
            torch.tensor([row[example.negative] for example in usable]),
        )
        metrics = {**measured.metrics, "captions_cut": texts.count_cut(self._texts)}
        return TaskResult(SUGAR_CREPE, self.name, metrics, PerImage(names, measured.per_image), coverage)

    def _embeddings(self, reader: FeatureReader) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """By name of an image, its embedding; and why others have none."""
        embeddings: dict[str, np.ndarray] = {}
        problems: dict[str, str] = {}
        for source in self.sources:
            for row in reader.rows(source):
                if row.embedding is None:
                    problems[row.id] = row.problem
                else:
                    embeddings[row.id] = row.embedding
        return embeddings, problems
