"""Figures of the protocols on frozen features, on 20 classes x 60 images of 256 dimensions from a seeded mixture.

The linear probe is held against scikit-learn at the same C, its search against a full grid, and few-shot episodes
against a loop that takes one image after another. LGSSL's search has no bar: by halving it may miss the best value.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from laclip_ray.config.evaluation import FewShotConfig, LinearProbeConfig
from laclip_ray.evaluation.protocols import lgssl
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.protocols.few_shot import Episode, draw, few_shot, pools_of
from laclip_ray.evaluation.protocols.linear_probe import (
    C_VALUES,
    Probe,
    Scale,
    choose_c,
    linear_probe,
    penalty_of,
    standardised,
)
from tests.figures.figure import Figure
from tests.unit.evaluation.protocols.mixtures import mixture

SEED = 0
NOISE = 4.0
"""Standard deviation around a class's centre; those of the centres are 1."""
NUISANCES = 64
"""Directions of large noise: a probe has to learn which they are, so neither end of the values of C is best."""
DECADES = C_VALUES[::4]
SETTINGS: dict[str, dict[str, Any]] = {
    "scikit-learn at its minimum": {"solver": "newton-cg", "tol": 1e-12, "max_iter": 10_000},
    "scikit-learn as by default (tolerance 1e-4)": {"max_iter": 1_000},
}
"""Of the peer. Only the first has a bar: its result is that of the loss, and not of the tolerance."""


def probes(show: int) -> Iterator[Figure]:
    """The probe against scikit-learn, its search against a full grid, few-shot against a loop over episodes."""
    train, val, test = (mixture(split, 20, 60, 256, NOISE, SEED, NUISANCES) for split in ("train", "val", "test"))
    yield from _against_scikit_learn(show, train, val, test)
    for protocol in ("standard", "lgssl"):
        yield from _against_full_grid(show, protocol, train, val, test)
    yield from _against_loop(show)


def _against_scikit_learn(show: int, train: Features, val: Features, test: Features) -> Iterator[Figure]:
    started_s = time.monotonic()
    measured = linear_probe(train, val, test, LinearProbeConfig(), SEED)
    yield Figure(show, "probe: search and test", time.monotonic() - started_s, "s")
    chosen = measured.metrics["c"]
    yield Figure(show, "probe: top-1 at the chosen C", 100 * measured.metrics["top1"], "%")
    yield Figure(show, "probe: the chosen C", chosen, "")
    scaler, both = StandardScaler().fit(_double(train)), train.joined(val)
    scale = standardised(train.values)
    ours = {c: Probe.fitted(both, scale, c).measured(test) for c in (chosen, *DECADES)}
    for setting, options in SETTINGS.items():
        bar = 0.1 if setting == "scikit-learn at its minimum" else None
        apart = {}
        for c in ours:
            peer = LogisticRegression(C=c, **options).fit(scaler.transform(_double(both)), both.labels)
            theirs = peer.predict(scaler.transform(_double(test))) == test.labels
            apart[c] = 100 * abs(ours[c].metrics["top1"] - float(theirs.mean()))
            print(
                f"C = {c:.3g}: {apart[c]:.3g} points, {int((ours[c].hits != theirs).sum())} images differ", flush=True
            )
        name = f"probe against {setting}, top-1"
        yield Figure(show, f"{name} at the chosen C", apart[chosen], "points", at_most=bar)
        yield Figure(show, f"{name}, largest of C = 1e-5, 1e-4, ... 1e6", max(apart.values()), "points", at_most=bar)


def _against_full_grid(show: int, protocol: str, train: Features, val: Features, test: Features) -> Iterator[Figure]:
    scale: Scale = standardised(train.values) if protocol == "standard" else _as_float64
    choice = choose_c(train, val, scale, protocol)
    values = C_VALUES
    if protocol == "lgssl":
        values = (*lgssl.COARSE, *(c for best in lgssl.COARSE for c in lgssl.fine_values(best)))
    grid = {}
    for c in sorted(set(values)):
        grid[c] = Probe.fitted(train, scale, c, penalty_of(protocol)).measured(val).metrics["top1"]
    best = max(grid, key=grid.__getitem__)
    name = f"{protocol} search against a grid of {len(grid)} probes from zero"
    is_equal = 0.0 if protocol == "standard" else None
    yield Figure(show, f"{name}: top-1 of val lost", 100 * (grid[best] - choice.score), "points", is_equal, is_equal)
    yield Figure(
        show,
        f"{name}: decades between the values of C",
        abs(round(float(np.log10(choice.c / best)), 9)),
        "",
        at_most=is_equal,
    )
    both = train.joined(val)
    tops = [Probe.fitted(both, scale, c, penalty_of(protocol)).measured(test).metrics["top1"] for c in (choice.c, best)]
    yield Figure(show, f"{name}: difference in top-1 of test", 100 * abs(tops[0] - tops[1]), "points", at_most=is_equal)


def _double(features: Features) -> np.ndarray:
    """float64 [N, D]: scikit-learn would fit in float32 otherwise."""
    return features.values.astype(np.float64)


def _as_float64(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).double()


def _against_loop(show: int) -> Iterator[Figure]:
    config, test = FewShotConfig(), mixture("test", 20, 60, 256, NOISE, SEED)
    results = few_shot(test, config, SEED)
    pools = pools_of(test, None, config)
    loop = [_accuracy(draw(pools, config, SEED, number), test) for number in range(config.episodes)]
    low, high = results.metrics["top1_interval"]
    yield Figure(show, "few-shot: top-1", 100 * results.metrics["top1"], "%")
    yield Figure(show, "few-shot: half of the 95 % interval", 50 * (high - low), "points")
    differ = int((results.accuracies != np.array(loop)).sum())
    yield Figure(show, f"few-shot: of {config.episodes} episodes, unlike a loop's", differ, "episodes", 0, 0)
    wide = mixture("wide", 20, 60, 512, NOISE, SEED)
    started_s = time.monotonic()
    few_shot(wide, config, SEED)
    yield Figure(show, "few-shot: 5,000 episodes of 512 dimensions", time.monotonic() - started_s, "s", at_most=10)


def _accuracy(episode: Episode, test: Features) -> float:
    """The share of queries nearest to their own class mean, one query after another."""
    support = test.values[episode.support].astype(np.float64)
    centre = support.reshape(-1, support.shape[-1]).mean(axis=0)
    means = []
    for images in support:
        moved = [image - centre for image in images]
        means.append(np.mean([image / np.linalg.norm(image) for image in moved], axis=0))
    right = 0
    for number, rows in enumerate(episode.queries):
        for row in rows:
            query = test.values[row].astype(np.float64) - centre
            query /= np.linalg.norm(query)
            right += int(np.argmin([np.linalg.norm(query - mean) for mean in means])) == number
    return right / episode.queries.size
