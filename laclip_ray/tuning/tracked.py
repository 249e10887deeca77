"""What trackers learn of a sweep: a run for each point and seed, grouped, and one for the whole sweep."""

import statistics
from collections.abc import Sequence
from typing import Any

from laclip_ray.config import Experiment, TrackConfig, with_overrides
from laclip_ray.tracking.choice import begin_trackers
from laclip_ray.tracking.tracker import Cell, Outcome, Table
from laclip_ray.tuning.comparison import best_point
from laclip_ray.tuning.results import Sweep
from laclip_ray.tuning.stages import Stage

_FIXED = ("point", "seed", "epoch", "p_effective", "images", "gpu_hours")


def names_of_run(track: TrackConfig, experiment: str, point: str, seed: int) -> dict[str, Any]:
    """Settings that name a run of a sweep in trackers, and group it with the others.

    Args:
        track: of the sweep.
        experiment: its name.
        point: the point's name.
        seed: of the run.
    """
    name = track.name or experiment
    return {"track.name": f"{name}-{point}-seed{seed}", "track.group": group_of_sweep(track, experiment)}


def group_of_sweep(track: TrackConfig, experiment: str) -> str:
    """The group of a sweep's runs in trackers."""
    return track.group or f"{track.name or experiment}-tune"


def track_stages(experiment: Experiment, stages: Sequence[Stage]) -> None:
    """Add the evaluations of a run of the sweep to what its training has told trackers.

    Args:
        experiment: of the run.
        stages: those evaluated so far, in order.
    """
    if not experiment.track.report_to or not stages:
        return
    trackers = begin_trackers(experiment, "train", experiment.train_output, {}, after_step=None)
    trackers.table(lambda: stages_table(stages))
    last = stages[-1]
    trackers.summary({"p_effective": last.p_effective, "gpu_hours": last.gpu_hours, **last.metrics})
    trackers.end(Outcome.FINISHED)


def track_sweep(sweep: Sweep) -> None:
    """Tell trackers all runs of a sweep so far, and its best point."""
    if not sweep.experiment.track.report_to or not sweep.stages:
        return
    experiment = with_overrides(
        sweep.experiment, {"track.group": group_of_sweep(sweep.experiment.track, sweep.experiment.name)}
    )
    trackers = begin_trackers(experiment, "tune", experiment.tune_output, {"rewrites": sweep.rewrites})
    trackers.table(lambda: stages_table(sweep.stages))
    trackers.summary({f"best/{metric}": value for metric, value in best_means(sweep).items()})
    trackers.end(Outcome.FINISHED)


def best_means(sweep: Sweep) -> dict[str, float]:
    """The metrics of the best complete point, each the mean over its seeds; empty without one."""
    values = sweep.values(sweep.metric) if sweep.metrics else {}
    if not values:
        return {}
    best = best_point(values)
    return {metric: statistics.fmean(sweep.values(metric)[best].values()) for metric in sweep.shown_metrics}


def stages_table(stages: Sequence[Stage]) -> Table:
    """A row for each run and evaluation: the point's values, and every metric."""
    keys = list(dict.fromkeys(key for stage in stages for key in stage.values))
    metrics = list(dict.fromkeys(metric for stage in stages for metric in stage.metrics))
    rows: list[list[Cell]] = [
        [
            *(getattr(stage, name) for name in _FIXED),
            *(_cell(stage.values.get(key)) for key in keys),
            *(stage.metrics.get(metric) for metric in metrics),
        ]
        for stage in stages
    ]
    return Table("stages", (*_FIXED, *keys, *metrics), rows)


def _cell(value: Any) -> Cell:
    return value if value is None or isinstance(value, str | int | float) else str(value)
