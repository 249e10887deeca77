"""Few-shot classification: episodes of a few classes, decided by the nearest class mean.

Source: Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning" (2019), with the
settings of LGSSL (see `lgssl.py`): features are centred by the mean of the episode's support, scaled to length 1, and
compared with the means of the classes' support by Euclidean distance. The means are not scaled again.

LGSSL takes the support from train and the queries from test. Without a support set both come from the test images, and
no image is both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laclip_ray.config.evaluation import FewShotConfig
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols.accuracies import classes_shown
from laclip_ray.evaluation.protocols.features import Features, check_features
from laclip_ray.evaluation.protocols.progress import Progress
from laclip_ray.intervals import mean_interval
from laclip_ray.randomness import generator, hash64

BLOCK_ELEMENTS = 2**22
"""Upper bound on the feature values of episodes computed at a time, unless one has more. Each takes about 40 bytes."""

_SHORTEST = 1e-12
"""Length below which a centred feature counts as this long: it equals the mean."""


@dataclass(frozen=True, eq=False)
class EpisodeResults:
    """The accuracies of few-shot episodes."""

    metrics: dict[str, Any]
    accuracies: np.ndarray
    """float64 [episodes]."""
    ids: list[str]
    """Of the episodes: `episode-000123-5d41402a`, the number and a digest of the images. Episodes of two checkpoints
    with the same id have the same images, so their accuracies are paired."""


@dataclass(frozen=True, eq=False)
class Episode:
    """The images of an episode, by class."""

    support: np.ndarray
    """int64 [ways, shots]: rows of the support set."""
    queries: np.ndarray
    """int64 [ways, queries]: rows of the test set."""


@dataclass(frozen=True, eq=False)
class Pools:
    """The images that episodes choose from."""

    support: Sequence[np.ndarray]
    """Rows of the support set, by class, in the order of their ids."""
    queries: Sequence[np.ndarray]
    """Rows of the test set, by class, in the order of their ids."""
    is_shared: bool
    """Whether both are the same images."""
    left_out: np.ndarray
    """int64: labels of the classes with too few images."""


def few_shot(
    test: Features,
    config: FewShotConfig,
    seed: int,
    support: Features | None = None,
    progress: Progress | None = None,
) -> EpisodeResults:
    """Measure the accuracy over episodes.

    Args:
        test: images to classify, and without `support` those of the support.
        config: the size of an episode, and how many there are.
        seed: with its number it decides an episode.
        support: images of the support, with the same labels. None: other images of `test`.
        progress: counts episodes.

    Returns:
        `top1` (the mean accuracy), `top1_interval` (95 % over the draw of episodes, not over other images; Student's),
        `episodes`, `ways`, `shots`, `queries`, `images`, `classes` (that episodes choose from), `classes_left_out`,
        `notes`. Also the accuracy of each episode.

    Raises:
        NoResultError: a split is empty, features are not numbers or all the same, or too few classes have enough
            images.
    """
    check_features(test, "test")
    if support is not None:
        check_features(support, "train")
    pools = pools_of(test, support, config)
    accuracies, ids = _by_episode(
        pools, test if support is None else support, test, config, seed, progress or Progress()
    )
    interval = mean_interval(accuracies.tolist())
    half = interval.half_width or 0.0
    metrics = {
        "top1": interval.mean,
        "top1_interval": [interval.mean - half, interval.mean + half] if config.episodes > 1 else None,
        "episodes": config.episodes,
        "ways": config.ways,
        "shots": config.shots,
        "queries": config.queries,
        "images": len(test),
        "classes": len(pools.queries),
        "classes_left_out": len(pools.left_out),
        "notes": _notes(pools, config, test.class_names),
    }
    return EpisodeResults(metrics, accuracies, ids)


def _by_episode(
    pools: Pools, support: Features, test: Features, config: FewShotConfig, seed: int, progress: Progress
) -> tuple[np.ndarray, list[str]]:
    """The accuracy of each episode, float64 [episodes], and its id."""
    progress.expect(config.episodes)
    size = config.ways * (config.shots + config.queries) * test.values.shape[1]
    block = max(1, BLOCK_ELEMENTS // size)
    hits, ids = [], []
    for first in range(0, config.episodes, block):
        numbers = range(first, min(first + block, config.episodes))
        episodes = [draw(pools, config, seed, number) for number in numbers]
        ids += [_id(number, support.ids, test.ids, episode) for number, episode in zip(numbers, episodes, strict=True)]
        rows = np.stack([episode.support for episode in episodes]), np.stack([episode.queries for episode in episodes])
        hits.append(_correct(support.values[rows[0]].astype(np.float64), test.values[rows[1]].astype(np.float64)))
        progress.add(f"episode {numbers.stop:,} of {config.episodes:,}", len(numbers))
    return np.concatenate(hits) / (config.ways * config.queries), ids


def _id(number: int, support: Sequence[str], queries: Sequence[str], episode: Episode) -> str:
    """The id of an episode, from its number and its images."""
    images = [*(support[row] for row in episode.support.flat), *(queries[row] for row in episode.queries.flat)]
    digest = hash64(*episode.support.shape, "\0".join(images)) >> 32
    return f"episode-{number:06d}-{digest:08x}"


def pools_of(test: Features, support: Features | None, config: FewShotConfig) -> Pools:
    """Group images by class, and leave out the classes with too few of them.

    Raises:
        NoResultError: fewer classes are left than an episode has.
    """
    of_test = _rows_by_label(test)
    of_support = of_test if support is None else _rows_by_label(support)
    labels = sorted(of_test.keys() | of_support.keys())
    enough = []
    for label in labels:
        for_queries, for_support = len(of_test.get(label, ())), len(of_support.get(label, ()))
        if support is None:
            is_enough = for_queries >= config.shots + config.queries
        else:
            is_enough = for_queries >= config.queries and for_support >= config.shots
        if is_enough:
            enough.append(label)
    if len(enough) < config.ways:
        raise NoResultError(
            f"{len(enough)} of {len(labels)} classes have {_need(config, support is None)}, and an episode has "
            f"{config.ways} classes; lower few_shot.ways, few_shot.shots or few_shot.queries"
        )
    return Pools(
        [of_support[label] for label in enough],
        [of_test[label] for label in enough],
        support is None,
        np.setdiff1d(labels, enough),
    )


def _need(config: FewShotConfig, is_shared: bool) -> str:
    if is_shared:
        return f"{config.shots + config.queries} images ({config.shots} shots and {config.queries} queries)"
    return f"{config.shots} training images and {config.queries} test images"


def _notes(pools: Pools, config: FewShotConfig, names: Sequence[str]) -> list[str]:
    if not len(pools.left_out):
        return []
    return [
        f"{len(pools.left_out)} of {len(pools.left_out) + len(pools.queries)} classes have fewer than "
        f"{_need(config, pools.is_shared)} and are left out: {classes_shown(pools.left_out, names)}."
    ]


def _rows_by_label(features: Features) -> dict[int, np.ndarray]:
    """Rows of each class, in the order of ids: episodes do not depend on the order of files."""
    order = np.array(sorted(range(len(features)), key=lambda row: features.ids[row]), np.int64)
    order = order[np.argsort(features.labels[order], kind="stable")]
    labels, starts = np.unique(features.labels[order], return_index=True)
    return dict(zip(labels.tolist(), np.split(order, starts[1:]), strict=True))


def draw(pools: Pools, config: FewShotConfig, seed: int, number: int) -> Episode:
    """Choose the classes and images of an episode: a function of (seed, number) and the pools."""
    random = generator(seed, "few_shot", number)
    support, queries = [], []
    for n in random.choice(len(pools.queries), config.ways, replace=False):
        of_support, of_test = pools.support[n], pools.queries[n]
        if pools.is_shared:
            chosen = of_test[random.choice(len(of_test), config.shots + config.queries, replace=False)]
            support.append(chosen[: config.shots])
            queries.append(chosen[config.shots :])
        else:
            support.append(of_support[random.choice(len(of_support), config.shots, replace=False)])
            queries.append(of_test[random.choice(len(of_test), config.queries, replace=False)])
    return Episode(np.stack(support), np.stack(queries))


def _correct(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Count the queries of B episodes whose nearest class mean is their own: int64 [B].

    Among equally near means the first decides.

    Args:
        support: float64 [B, ways, shots, D].
        queries: float64 [B, ways, queries, D].
    """
    episodes, ways, count, width = queries.shape
    centre = support.mean(axis=(1, 2), keepdims=True)
    support, queries = _scaled(support - centre), _scaled(queries - centre)
    means = support.mean(axis=2)  # [B, ways, D]
    products = queries.reshape(episodes, ways * count, width) @ means.transpose(0, 2, 1)  # [B, ways * queries, ways]
    # |q - m|^2 = |q|^2 - 2 q m + |m|^2, and |q|^2 is the same for all means.
    nearest = (products - (means**2).sum(axis=2)[:, None, :] / 2).argmax(axis=2)
    correct: np.ndarray = (nearest == np.repeat(np.arange(ways), count)).sum(axis=1)
    return correct


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values [..., D] of length 1."""
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    values /= np.maximum(lengths, _SHORTEST)
    return values
