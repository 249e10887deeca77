"""The stored state of a sweep: its points, and the results of each run after each evaluation.

A rerun resumes from these files alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import HalvingConfig
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import Point


@dataclass(frozen=True)
class Stage:
    """The results of one run after an epoch."""

    point: str
    """The point's name."""
    values: Mapping[str, Any]
    """The point's values, by dotted config key."""
    seed: int
    epoch: int
    metrics: Mapping[str, float]
    """Values by `task/dataset/metric`."""
    p_effective: float
    """Share of rewrites among the texts trained on."""
    images: int
    """Images trained on since the run began."""
    gpu_hours: float
    """GPU-hours of the workers while they trained, since the run began. Start-up and evaluation do not count."""
    money: float | None
    """Price of these GPU-hours, at `train.price` or else `rewrite.price`. None without a price."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Stage":
        """Undo `vars`."""
        return cls(**content)


def begin_point(paths: SweepPaths, point: Point) -> None:
    """Record that a point is trained, for a search that resumes in another process."""
    storage.write_json(paths.values(point.name), dict(point.values))


def begun_points(paths: SweepPaths) -> list[Point]:
    """All points that ever began in this sweep."""
    urls = storage.list_files(paths.trials)
    remedy = "Remove it, and the search chooses a point anew."
    return [
        storage.read_state(url, "the values of this point", remedy, lambda values: Point(dict(values)))
        for url in sorted(urls)
        if paths.is_values(url)
    ]


def end_point(paths: SweepPaths, point: Point, epoch: int) -> None:
    """Record that the scheduler ended a point after an epoch."""
    storage.write_json(paths.ended_early(point.name), {"epoch": epoch})


def ended_epoch(paths: SweepPaths, point: Point, halving: HalvingConfig | None) -> int | None:
    """The epoch after which a point was ended early.

    None if it trains to the end, as every point does without `halving`.
    """
    url = paths.ended_early(point.name)
    if halving is None or not storage.exists(url):
        return None
    remedy = "Remove it, and the point continues."
    return storage.read_state(url, "the end of this point", remedy, lambda content: int(content["epoch"]))


def read_stage(url: str) -> Stage:
    """One stored stage.

    Raises:
        UserError: the file is damaged.
    """
    remedy = "Remove it, and the same command measures the run again."
    return storage.read_state(url, "the results of this stage", remedy, Stage.from_json)


def read_stages(paths: SweepPaths, point: str | None = None) -> list[Stage]:
    """All stored stages of a point, or of all points, ordered by point, seed and epoch."""
    urls = storage.list_files(paths.trials if point is None else paths.point(point))
    stages = [read_stage(url) for url in urls if paths.is_stage(url)]
    return sorted(stages, key=lambda stage: (stage.point, stage.seed, stage.epoch))


def last_stages(stages: Sequence[Stage]) -> dict[str, dict[int, Stage]]:
    """The last stage of each run, by point and seed; `stages` as `read_stages` orders them."""
    last: dict[str, dict[int, Stage]] = {}
    for stage in stages:
        last.setdefault(stage.point, {})[stage.seed] = stage
    return last


def reached_epochs(stages: Sequence[Stage], seeds: Sequence[int]) -> dict[str, int]:
    """The epoch up to which all seeds of a point are trained and evaluated, by the point's name."""
    return {
        point: min(runs[seed].epoch if seed in runs else 0 for seed in seeds)
        for point, runs in last_stages(stages).items()
    }


@dataclass(frozen=True, order=True)
class Cost:
    """What training has cost."""

    gpu_hours: float = 0.0
    money: float = 0.0
    """0 without a price."""


def costs(stages: Sequence[Stage]) -> dict[str, Cost]:
    """What each point has cost so far, by its name."""
    return {
        point: Cost(sum(stage.gpu_hours for stage in runs.values()), sum(stage.money or 0.0 for stage in runs.values()))
        for point, runs in last_stages(stages).items()
    }
