"""Measures a labelled set: zero-shot classification, probes, few-shot, neighbours, and template wording."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from laclip_ray.config import LabelledConfig
from laclip_ray.evaluation.bootstrap import Estimate
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures, normalised
from laclip_ray.evaluation.labelled_split import LabelledSource, LabelledSplit, collect_split
from laclip_ray.evaluation.per_image import MetricValues, PerImage, RankedValues, unique_ids
from laclip_ray.evaluation.protocols.accuracies import Measured, Metric
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.protocols.few_shot import few_shot
from laclip_ray.evaluation.protocols.k_shot import k_shot
from laclip_ray.evaluation.protocols.linear_probe import linear_probe
from laclip_ray.evaluation.protocols.neighbours import nearest_neighbours
from laclip_ray.evaluation.protocols.progress import Progress
from laclip_ray.evaluation.protocols.zero_shot import build_classifier, class_prompts, zero_shot
from laclip_ray.evaluation.results import TaskResult
from laclip_ray.evaluation.set_measure import SetMeasure
from laclip_ray.evaluation.sets.labelled_set import LabelledSet, check_expected, open_labelled_set
from laclip_ray.evaluation.tasks import FEW_SHOT, LINEAR_PROBE, NEIGHBOURS, TEMPLATES, ZERO_SHOT, k_shot_task
from laclip_ray.evaluation.wording.sentences import on_templates
from laclip_ray.evaluation.wording.templates import template_metrics

_K_SHOT = "k-shot"
"""The task of all probes on a few images, if they give no result."""


@dataclass(frozen=True)
class LabelledMeasure(SetMeasure):
    """A labelled set, opened."""

    config: LabelledConfig
    labelled: LabelledSet
    most_skipped: float
    """`evaluate.max_skipped`."""
    seed: int

    @classmethod
    def open(cls, config: LabelledConfig, most_skipped: float, seed: int) -> "LabelledMeasure":
        """Find the set's files.

        Raises:
            UserError: with the set, if it cannot be used.
        """
        return cls(config, open_labelled_set(config), most_skipped, seed)

    @property
    def name(self) -> str:
        """The set."""
        return self.config.name

    @cached_property
    def sources(self) -> list[LabelledSource]:
        """The shards of all read splits."""
        return [source for split in self.config.splits for source in self._sources_of(split)]

    def _sources_of(self, split: str) -> list[LabelledSource]:
        return [LabelledSource(shard) for shard in self.labelled.splits[split]]

    @cached_property
    def _prompts(self) -> list[list[str]]:
        return class_prompts(self.labelled.class_names, self.labelled.templates)

    def first_texts(self) -> list[str]:
        """The class prompts, if they are needed."""
        if not (self.config.zero_shot or self.config.wording):
            return []
        return [prompt for of_class in self._prompts for prompt in of_class]

    def measure(self, reader: FeatureReader, texts: TextFeatures | None) -> list[TaskResult]:
        """Measure every protocol of the set; one that gives no result says why."""
        splits = _Splits(self, reader)
        protocols: dict[str, tuple[object, Callable[[], list[TaskResult]]]] = {
            ZERO_SHOT: (self.config.zero_shot, lambda: self._zero_shot(splits, texts)),
            LINEAR_PROBE: (self.config.linear_probe, lambda: self._linear_probe(splits)),
            FEW_SHOT: (self.config.few_shot, lambda: self._few_shot(splits)),
            _K_SHOT: (self.config.k_shot, lambda: self._k_shot(splits)),
            NEIGHBOURS: (self.config.neighbours, lambda: self._neighbours(splits)),
            TEMPLATES: (self.config.wording, lambda: self._templates(splits, texts)),
        }
        results = []
        for task, (wanted, measured) in protocols.items():
            if not wanted:
                continue
            try:
                results += measured()
            except NoResultError as error:
                coverage = splits.coverages.get(self.config.split, Coverage())
                results.append(TaskResult(task, self.name, {"no_result": str(error)}, coverage=coverage))
        return results

    @property
    def _choice_metric(self) -> Metric:
        """The metric that chooses a probe's settings."""
        return "mean_per_class" if self.config.metric == "mean_per_class" else "top1"

    def _zero_shot(self, splits: "_Splits", texts: TextFeatures | None) -> list[TaskResult]:
        assert texts is not None
        test = splits.read(self.config.split)
        measured = zero_shot(test.embeddings, build_classifier(self._prompts, texts), test.unreadable)
        metrics = {
            **measured.metrics,
            "captions_cut": texts.count_cut(self.first_texts()),
            "class_names_digest": self.labelled.names_digest,
            "templates_digest": self.labelled.templates_digest,
        }
        return [self._result(ZERO_SHOT, replace(measured, metrics=metrics), splits)]

    def _linear_probe(self, splits: "_Splits") -> list[TaskResult]:
        config = self.config.linear_probe
        assert config is not None
        train, val, test = splits.features(config.features)
        unreadable = splits.read(self.config.split).unreadable
        progress = self._progress(LINEAR_PROBE)
        measured = linear_probe(train, val, test, config, self.seed, self._choice_metric, unreadable, progress)
        return [self._result(LINEAR_PROBE, measured, splits)]

    def _few_shot(self, splits: "_Splits") -> list[TaskResult]:
        config = self.config.few_shot
        assert config is not None
        train = self.config.train_split
        support = None if train is None else splits.of(train, config.features)
        test, progress = splits.of(self.config.split, config.features), self._progress(FEW_SHOT)
        measured = few_shot(test, config, self.seed, support, progress)
        # The entry's `intervals` has it by bootstrap, as of other metrics.
        metrics = {name: value for name, value in measured.metrics.items() if name != "top1_interval"}
        episodes = PerImage(measured.ids, {"top1": MetricValues(measured.accuracies)}, "episode")

        def says(_: Mapping[str, Estimate]) -> str:
            return "The interval is over episodes of the same images, not over other images."

        coverage = splits.coverages[self.config.split]
        return [TaskResult(FEW_SHOT, self.name, metrics, episodes, coverage, says if config.episodes > 1 else None)]

    def _k_shot(self, splits: "_Splits") -> list[TaskResult]:
        config = self.config.k_shot
        assert config is not None
        train, val, test = splits.features(config.features)
        unreadable = splits.read(self.config.split).unreadable
        progress = self._progress(_K_SHOT)
        by_shots = k_shot(train, val, test, config, self.seed, self._choice_metric, unreadable, progress)
        return [self._result(k_shot_task(shots), measured, splits) for shots, measured in by_shots.items()]

    def _neighbours(self, splits: "_Splits") -> list[TaskResult]:
        config = self.config.neighbours
        assert config is not None
        train, _, test = splits.features(config.features)
        measured = nearest_neighbours(train, test, config, splits.read(self.config.split).unreadable)
        return [self._result(NEIGHBOURS, measured, splits)]

    def _templates(self, splits: "_Splits", texts: TextFeatures | None) -> list[TaskResult]:
        assert texts is not None
        test = splits.read(self.config.split).embeddings
        templates = self.labelled.templates

        def classifier_of(number: int) -> torch.Tensor:
            prompts = class_prompts(self.labelled.class_names, [templates[number]])
            return torch.from_numpy(build_classifier(prompts, texts).T)

        images, labels = torch.from_numpy(normalised(test.values)), torch.from_numpy(test.labels)
        measured = template_metrics(images, labels, templates, classifier_of, torch.device("cpu"))
        metrics = measured.metrics

        def says(estimated: Mapping[str, Estimate]) -> str:
            return on_templates(
                estimated["flip_rate"], estimated["template_mean"], metrics["template_spread"],
                metrics["spread_by_chance"], metrics["worst_template"], len(self.labelled.class_names),
            )  # fmt: skip

        per_image = PerImage(unique_ids(test.ids), measured.per_image)
        return [TaskResult(TEMPLATES, self.name, metrics, per_image, splits.coverages[self.config.split], says)]

    def _progress(self, task: str) -> Progress:
        return Progress(f"{task}, {self.name}")

    def _result(self, task: str, measured: Measured, splits: "_Splits") -> TaskResult:
        """A result with the values of its images. Hits are of the usable images, and then of the unreadable ones."""
        per_image = None
        test = splits.read(self.config.split)
        if measured.scores is not None:
            ranked = RankedValues(measured.scores.astype(np.float64), test.embeddings.labels)
            per_image = PerImage(unique_ids(test.embeddings.ids), {"map": ranked})
        if measured.hits is not None:
            values = measured.hits.astype(np.float64)
            labels = np.concatenate([test.embeddings.labels, test.unreadable])
            metrics = {"top1": MetricValues(values), "mean_per_class": MetricValues(values, classes=labels)}
            per_image = PerImage(unique_ids([*test.embeddings.ids, *test.unreadable_ids]), metrics)
        return TaskResult(task, self.name, measured.metrics, per_image, splits.coverages[self.config.split])


class _Splits:
    """The splits of a set, each collected once, when it is first needed."""

    def __init__(self, measure: LabelledMeasure, reader: FeatureReader) -> None:
        self._measure, self._reader = measure, reader
        self._splits: dict[str, LabelledSplit] = {}
        self.coverages: dict[str, Coverage] = {}

    def read(self, split: str) -> LabelledSplit:
        """A split.

        Raises:
            NoResultError: too much of it cannot be used, or it has another number of images than expected.
        """
        if split not in self._splits:
            measure, coverage = self._measure, Coverage()
            self.coverages[split] = coverage
            found = collect_split(measure.labelled, measure._sources_of(split), self._reader, coverage)
            coverage.check(measure.most_skipped)
            check_expected(measure.config, split, coverage.used + coverage.skipped_units)
            self._splits[split] = found
        return self._splits[split]

    def of(self, split: str, which: str) -> Features:
        """The features of a split: `backbone` or `embedding`."""
        found = self.read(split)
        return found.backbones if which == "backbone" else found.embeddings

    def features(self, which: str) -> tuple[Features, Features | None, Features]:
        """Train, validation (None: to be taken from train) and test features."""
        config = self._measure.config
        assert config.train_split is not None
        val = None if config.val_split is None else self.of(config.val_split, which)
        return self.of(config.train_split, which), val, self.of(config.split, which)
