"""Linear probes on k training images of each class.

The protocol is `standard` of `linear_probe.py`, with as many validation images as Zhou et al., "Learning to
Prompt for Vision-Language Models" (IJCV 2022), take for their few-shot probes: min(k, 4) of each class. They choose C,
and the probe is not fitted to them: it is one of k images. They come from the validation split, or from the remaining
training images.
"""

from collections.abc import Sequence

import numpy as np

from laclip_ray.config.evaluation import KShotConfig
from laclip_ray.evaluation.protocols.accuracies import Measured, Metric, classes_shown
from laclip_ray.evaluation.protocols.features import Features, check_features, ranks_in_class
from laclip_ray.evaluation.protocols.linear_probe import Probe, choose_c, standardised, values_searched
from laclip_ray.evaluation.protocols.progress import Progress
from laclip_ray.intervals import mean_interval

MOST_VALIDATION = 4
"""Validation images of each class, at most."""
DEFAULT_C = 1.0
"""The C without validation images: scikit-learn's default."""


def k_shot(
    train: Features,
    val: Features | None,
    test: Features,
    config: KShotConfig,
    seed: int,
    metric: Metric = "top1",
    unreadable: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[int, Measured]:
    """Measure linear probes on a few training images of each class.

    Args:
        train: images to draw from.
        val: images that choose C. None: training images that were not drawn.
        test: test images.
        config: the numbers of images a class, and the number of draws.
        seed: with k, the number of the draw and the ids it decides which images are drawn.
        metric: the validation metric that chooses C.
        unreadable: labels of test images that could not be decoded, int64 [M]. Each counts as wrong, and their hits
            follow those of `test`.
        progress: counts values of C of all probes.

    Returns:
        For each k, means over the draws: the accuracies of `accuracies`. Also `top1_of_draws` and `top1_interval` (95 %
        over the draws; None for a single draw), `c_of_draws`, `shots`, `draws`, `images` (tested), `counted_wrong`
        (those that could not be decoded), `classes`, `train_images` and `val_images` (of a draw), `notes`. The hits are
        shares of the draws.

    Raises:
        NoResultError: a split is empty, features are not numbers or all the same, or train has a single class.
    """
    for split, features in (("train", train), ("validation", val), ("test", test)):
        if features is not None:
            check_features(features, split)
    progress = progress or Progress()
    progress.expect(len(config.shots) * config.draws * values_searched("standard"))
    results = {}
    for shots in config.shots:
        draws = [draw(train, val, shots, seed, number) for number in range(config.draws)]
        measured = _mean_over(draws, test, metric, unreadable, shots, progress)
        notes = [*_notes_on_shots(train, shots), *measured.metrics["notes"]]
        results[shots] = Measured({**measured.metrics, "shots": shots, "notes": notes}, measured.hits)
    return results


def _mean_over(
    draws: Sequence[tuple[Features, Features]],
    test: Features,
    metric: Metric,
    unreadable: np.ndarray | None,
    shots: int,
    progress: Progress,
) -> Measured:
    """The mean result of training and validation images."""
    results: list[Measured] = []
    hits: list[np.ndarray] = []
    choices: list[float] = []
    notes: list[str] = []
    for number, (drawn, validation) in enumerate(draws, 1):
        progress.part = f"{shots} shots, draw {number} of {len(draws)}, "
        scale = standardised(drawn.values)
        c = DEFAULT_C
        if len(validation):
            choice = choose_c(drawn, validation, scale, metric=metric, progress=progress)
            c = choice.c
            notes += choice.notes()
        else:
            notes.append(f"No images are left to choose C, so it is {DEFAULT_C:g}; give val_split.")
            progress.add(f"C = {DEFAULT_C:g}", values_searched("standard"))
        probe = Probe.fitted(drawn, scale, c)
        notes += probe.notes()
        choices.append(c)
        results.append(probe.measured(test, unreadable))
        assert results[-1].hits is not None, "an image has one label"
        hits.append(results[-1].hits)
    top1 = [result.metrics["top1"] for result in results]
    interval = mean_interval(top1)
    half = interval.half_width
    first = results[0].metrics
    metrics = {
        **{name: float(np.mean([result.metrics[name] for result in results])) for name in _accuracies_in(first)},
        "top1_of_draws": top1,
        "top1_interval": None if half is None else [interval.mean - half, interval.mean + half],
        "c_of_draws": choices,
        "draws": len(draws),
        "images": first["images"],
        "counted_wrong": first["counted_wrong"],
        "classes": first["classes"],
        "train_images": len(draws[0][0]),
        "val_images": len(draws[0][1]),
        "notes": [*first["notes"], *dict.fromkeys(notes)],
    }
    return Measured(metrics, np.mean(hits, axis=0))


def _accuracies_in(metrics: dict[str, object]) -> list[str]:
    return [name for name in ("top1", "top5", "mean_per_class") if name in metrics]


def draw(train: Features, val: Features | None, shots: int, seed: int, number: int) -> tuple[Features, Features]:
    """Draw training and validation images of each class.

    The draw of fewer images is part of the draw of more, with the same seed and number.

    Args:
        train: images to draw from. A class with fewer than `shots` gives all that it has.
        val: images to draw validation images from. None: the remaining images of `train`.
        shots: training images of each class.
        seed: decides the images, with `number` and their ids.
        number: of the draw.
    """
    ranks, counts = ranks_in_class(train.labels, train.ids, seed, "k_shot", number)
    drawn = train.take(np.flatnonzero(ranks < shots))
    wanted = min(shots, MOST_VALIDATION)
    if val is None:
        # From the end of the order: the draws of most k leave the same validation images.
        rows = np.flatnonzero((ranks >= shots) & (ranks >= counts - wanted))
        return drawn, train.take(rows)
    of_val, _ = ranks_in_class(val.labels, val.ids, seed, "k_shot", number)
    return drawn, val.take(np.flatnonzero(of_val < wanted))


def _notes_on_shots(train: Features, shots: int) -> list[str]:
    classes, counts = np.unique(train.labels, return_counts=True)
    few: Sequence[int] = classes[counts < shots].tolist()
    if not few:
        return []
    return [
        f"{len(few)} of {len(classes)} classes have fewer than {shots} training images, and all that they have are "
        f"used: {classes_shown(few, train.class_names)}."
    ]
