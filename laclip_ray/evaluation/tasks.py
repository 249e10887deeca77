"""The names of measurements: tasks, and the metrics of each that a sweep can compare."""

from collections.abc import Mapping
from typing import Any

from laclip_ray.config import EvaluateConfig, LabelledConfig, RetrievalConfig

ZERO_SHOT, LINEAR_PROBE, FEW_SHOT, NEIGHBOURS = "zero-shot", "linear-probe", "few-shot", "neighbours"
TEMPLATES, RETRIEVAL, PARAPHRASES, HARD_NEGATIVES = (
    "template-wording",
    "retrieval",
    "paraphrased-retrieval",
    "hard-negatives",
)
SUGAR_CREPE = "sugar-crepe"
"""Names of the tasks in results."""

RANKS = (1, 5, 10)
RECALLS = tuple(f"{direction}_r{rank}" for direction in ("image_to_text", "text_to_image") for rank in RANKS)
"""Metrics of retrieval."""

_ONE_LABEL, _SEVERAL_LABELS = ("top1", "mean_per_class"), ("map",)


def k_shot_task(shots: int) -> str:
    """The task of probes on this many images a class."""
    return f"{shots}-shot"


def tasks_of_labelled(config: LabelledConfig) -> dict[str, tuple[str, ...]]:
    """By task of a labelled set, its metrics."""
    accuracies = _SEVERAL_LABELS if config.metric == "map" else _ONE_LABEL
    tasks: dict[str, tuple[str, ...]] = {}
    if config.zero_shot:
        tasks[ZERO_SHOT] = accuracies if config.metric == "map" else ("top1", "top5", "mean_per_class")
    if config.linear_probe is not None:
        tasks[LINEAR_PROBE] = accuracies
    if config.few_shot is not None:
        tasks[FEW_SHOT] = ("top1",)
    if config.k_shot is not None:
        tasks |= {k_shot_task(shots): accuracies for shots in config.k_shot.shots}
    if config.neighbours is not None:
        tasks[NEIGHBOURS] = accuracies
    if config.wording:
        tasks[TEMPLATES] = ("template_mean", "worst_template_top1", "flip_rate")
    return tasks


def tasks_of_retrieval(config: RetrievalConfig) -> dict[str, tuple[str, ...]]:
    """By task of a captioned set, its metrics."""
    tasks = {RETRIEVAL: RECALLS}
    if config.wording is not None and config.wording.rewrites is not None:
        tasks[PARAPHRASES] = tuple(f"{recall}_drop" for recall in RECALLS)
    if config.wording is not None and config.wording.hard_negatives:
        tasks[HARD_NEGATIVES] = ("preferred",)
    return tasks


def metric_names(evaluate: EvaluateConfig) -> list[str]:
    """Names of all metrics that an evaluation computes, `task/dataset/metric`, in the configuration's order."""
    sets = [(labelled.name, tasks_of_labelled(labelled)) for labelled in evaluate.labelled]
    sets += [(captioned.name, tasks_of_retrieval(captioned)) for captioned in evaluate.retrieval]
    sets += [(examples.name, {SUGAR_CREPE: ("mean",)}) for examples in evaluate.sugar_crepe]
    return [f"{task}/{name}/{metric}" for name, tasks in sets for task, metrics in tasks.items() for metric in metrics]


def flatten(results: Mapping[str, Any]) -> dict[str, float]:
    """The values of an evaluation's results, by `task/dataset/metric`."""
    return {
        f"{entry['task']}/{entry['dataset']}/{metric}": value
        for entry in results["results"]
        for metric, value in entry.items()
        if isinstance(value, float)
    }
