"""Measures a captioned set: retrieval in both directions, and its robustness to wording."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laclip_ray.config import EqualCaptions, RetrievalConfig
from laclip_ray.data.records import CAPTION_EMPTY, CAPTION_MISSING, IMAGE_MISSING
from laclip_ray.evaluation.bootstrap import Estimate, estimates
from laclip_ray.evaluation.captioned import CaptionedSource, captioned_images, captioned_sources, is_benchmark_set
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures
from laclip_ray.evaluation.features.rows import Source
from laclip_ray.evaluation.pairs import CaptionedSet, collect_captioned, embed_pairs, embed_unique
from laclip_ray.evaluation.paraphrase_texts import embed_rewrites, rewrites_by_caption, rewrites_of
from laclip_ray.evaluation.per_image import MetricValues, PerImage, unique_ids
from laclip_ray.evaluation.results import TaskResult
from laclip_ray.evaluation.retrieval import Pairs, Retrieval, ranks_of_captions, retrieval_metrics
from laclip_ray.evaluation.set_measure import SetMeasure
from laclip_ray.evaluation.tasks import HARD_NEGATIVES, PARAPHRASES, RANKS, RETRIEVAL, tasks_of_retrieval
from laclip_ray.evaluation.wording.hard_negative_metrics import WrongCaptions, hard_negative_metrics
from laclip_ray.evaluation.wording.hard_negatives import HardNegative, hard_negatives
from laclip_ray.evaluation.wording.paraphrases import paraphrase_metrics
from laclip_ray.evaluation.wording.sentences import on_hard_negatives, on_paraphrases


@dataclass
class CaptionedMeasure(SetMeasure):
    """A captioned set, opened."""

    config: RetrievalConfig
    setting: str
    """The config key of its data."""
    shards: list[CaptionedSource]
    is_benchmark: bool
    most_skipped: float
    """`evaluate.max_skipped`."""
    seed: int
    rewrites: Mapping[str, str] = field(default_factory=dict)
    """By a caption's hash, its rewrite by a prompt set that training did not see."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Computes similarities."""
    _reader: FeatureReader | None = None
    """What `_found`, `_coverage` and `_problem` were read by."""
    _found: CaptionedSet = field(default_factory=CaptionedSet)
    _coverage: Coverage = field(default_factory=Coverage)
    _problem: str = ""

    @classmethod
    def open(
        cls, config: RetrievalConfig, setting: str, most_skipped: float, seed: int, gate: Callable[[], str]
    ) -> "CaptionedMeasure":
        """Find the set's files, and read the rewrites of its captions if wording is measured with them.

        Args:
            config: the set, from `RetrievalConfig.of_training`.
            setting: the config key of its data.
            most_skipped: `evaluate.max_skipped`.
            seed: of hard negatives and resamples.
            gate: gives the fingerprint of the gate whose verdicts on rewrites count.

        Raises:
            UserError: with the set, if it or its rewrites cannot be used.
        """
        assert config.data is not None
        is_benchmark = not config.held_out and is_benchmark_set(config.data, setting)
        sources = captioned_sources(config.data, setting, config.held_out)
        opened = cls(config, setting, sources, is_benchmark, most_skipped, seed)
        if config.wording is not None and config.wording.rewrites is not None:
            opened.rewrites = rewrites_by_caption(config.wording.rewrites, gate())
        return opened

    @property
    def name(self) -> str:
        """The set."""
        return self.config.name

    @property
    def sources(self) -> list[CaptionedSource]:
        """The shards."""
        return self.shards

    @property
    def is_cut_short(self) -> bool:
        """Whether perhaps not all shards are measured."""
        return self.config.max_samples is not None

    def later_texts(self, reader: FeatureReader) -> list[str]:
        """The captions, and the texts to compare them with."""
        found = self._collect(reader)
        rewrites = [rewrite for rewrite in rewrites_of(found.captions, self.rewrites) if rewrite is not None]
        wrong = [negative.text for _, negative in self._hard_negatives(found)]
        return [*found.captions, *rewrites, *wrong]

    def _hard_negatives(self, found: CaptionedSet) -> list[tuple[int, HardNegative]]:
        """Wrong captions, each with the number of the caption that it is made from."""
        if self.config.wording is None or not self.config.wording.hard_negatives:
            return []
        return [
            (number, negative)
            for number, (caption, row_id) in enumerate(zip(found.captions, found.row_ids, strict=True))
            for negative in hard_negatives(caption, self.seed, row_id)
        ]

    def are_enough(self, reader: FeatureReader, sources: Sequence[Source]) -> bool:
        """Whether some of the shards have the wanted number of images."""
        chosen = self.shards[: len(sources)]
        rows = captioned_images(self.config, chosen, reader, Coverage(), self.is_benchmark)
        assert self.config.max_samples is not None
        return len(collect_captioned(rows).pictures) >= self.config.max_samples

    def _collect(self, reader: FeatureReader) -> CaptionedSet:
        """The usable images and captions by one model's features; those of the last reader are kept."""
        if self._reader is not reader:
            self._reader, self._coverage, self._problem = reader, Coverage(), ""
            rows = captioned_images(self.config, self.shards, reader, self._coverage, self.is_benchmark)
            try:
                self._found = collect_captioned(rows)
            except NoResultError as error:
                self._found, self._problem = CaptionedSet(), str(error)
        return self._found

    def measure(self, reader: FeatureReader, texts: TextFeatures | None) -> list[TaskResult]:
        """Measure every protocol of the set; one that gives no result says why."""
        found = self._collect(reader)
        try:
            pairs, retrieval = self._retrieval(found, texts)
        except NoResultError as error:
            reason = {"no_result": str(error)}
            return [TaskResult(task, self.name, reason, coverage=self._coverage) for task in self._tasks]
        results = [retrieval]
        blindness: Mapping[str, Estimate] | None = None
        assert texts is not None
        if HARD_NEGATIVES in self._tasks:
            result = self._wording(HARD_NEGATIVES, lambda: self._on_hard_negatives(found, pairs, texts))
            if result.per_image is not None and PARAPHRASES in self._tasks:
                blindness = estimates(result.per_image.metrics, seed=self.seed)
            results.append(result)
        if PARAPHRASES in self._tasks:
            rule = retrieval.metrics["equal_captions"]
            results.append(
                self._wording(PARAPHRASES, lambda: self._on_paraphrases(found, pairs, texts, rule, blindness))
            )
        return results

    @property
    def _tasks(self) -> dict[str, tuple[str, ...]]:
        return tasks_of_retrieval(self.config)

    def _wording(self, task: str, measured: Callable[[], TaskResult]) -> TaskResult:
        try:
            return measured()
        except NoResultError as error:
            return TaskResult(task, self.name, {"no_result": str(error)}, coverage=self._coverage)

    def _on_hard_negatives(self, found: CaptionedSet, pairs: Pairs, texts: TextFeatures) -> TaskResult:
        negatives = self._hard_negatives(found)
        wrong = WrongCaptions(
            *embed_unique([negative.text for _, negative in negatives], texts),
            torch.tensor([number for number, _ in negatives], dtype=torch.int64),
            [negative.kind for _, negative in negatives],
        )
        measured = hard_negative_metrics(pairs, wrong)
        per_image = PerImage(unique_ids(found.ids), measured.per_image)
        return TaskResult(
            HARD_NEGATIVES, self.name, measured.metrics, per_image, self._coverage, says=on_hard_negatives
        )

    def _on_paraphrases(
        self,
        found: CaptionedSet,
        pairs: Pairs,
        texts: TextFeatures,
        rule: EqualCaptions,
        blindness: Mapping[str, Estimate] | None,
    ) -> TaskResult:
        rewrites = embed_rewrites(rewrites_of(found.captions, self.rewrites), texts)
        measured = paraphrase_metrics(pairs, rewrites, rule, self.device)
        chance = 1 / measured.metrics["images"]

        def says(estimated: Mapping[str, Estimate]) -> str:
            recall, drop = estimated["text_to_image_r1"], estimated["text_to_image_r1_drop"]
            return on_paraphrases(recall, drop, blindness, chance)

        per_image = PerImage(unique_ids(found.ids), measured.per_image)
        return TaskResult(PARAPHRASES, self.name, measured.metrics, per_image, self._coverage, says=says)

    def _retrieval(self, found: CaptionedSet, texts: TextFeatures | None) -> tuple[Pairs, TaskResult]:
        coverage = self._coverage
        if self._problem:
            raise NoResultError(self._problem)
        if not coverage.used:
            coverage.check(1.0, _remedy(self.config, self.setting, coverage))
        coverage.check(self.most_skipped)
        assert texts is not None
        rule = "differ" if self.is_benchmark and self.config.equal_captions == "auto" else self.config.equal_captions
        pairs = embed_pairs(found, texts)
        measured = retrieval_metrics(pairs, self.device, rule)
        metrics = {
            **measured.metrics,
            "captions_cut": texts.count_cut(list(dict.fromkeys(found.captions))),
            "skipped_captions": coverage.skipped_units,
        }
        per_image = PerImage(unique_ids(found.ids), _per_image(found, measured))
        return pairs, TaskResult(RETRIEVAL, self.name, metrics, per_image, coverage)


def _per_image(found: CaptionedSet, measured: Retrieval) -> dict[str, MetricValues]:
    """The recalls of each image: of its captions by it, and of it by its captions."""
    of_captions = ranks_of_captions(measured.ranks[1], found.captions, measured.metrics["equal_captions"]).numpy()
    owners = np.array(found.owners)
    counts = np.bincount(owners, minlength=len(found.ids)).astype(np.float64)
    values = {}
    for rank in RANKS:
        values[f"image_to_text_r{rank}"] = MetricValues((measured.ranks[0] < rank).double().numpy())
        hits = np.bincount(owners, of_captions < rank, minlength=len(found.ids)) / counts
        values[f"text_to_image_r{rank}"] = MetricValues(hits, weights=counts)
    return values


def _remedy(config: RetrievalConfig, setting: str, coverage: Coverage) -> str:
    """A remedy for captioned images that are all skipped, or for a share that holds none; may be empty."""
    data, reasons = config.data, coverage.skipped.counts.keys()
    assert data is not None
    if config.held_out and not reasons:
        return (
            f"data.held_out: {data.held_out:g} of so few samples holds none; raise it, or change data.held_out_seed, "
            "and train again"
        )
    if reasons and reasons <= {IMAGE_MISSING} and data.image_column is None:
        return f"tables need {setting}.image_column, the column of the images"
    if reasons and reasons <= {CAPTION_EMPTY, CAPTION_MISSING}:
        return f"check {setting}.caption_column ({data.caption_column!r})"
    return ""
