"""The processes of both halves of a job: their reservations, and how they share a cluster too small for all of them."""

import logging
from dataclasses import replace
from typing import Any

from laclip_ray import cluster
from laclip_ray.config import RewriteConfig, StreamConfig, TrainConfig, with_overrides
from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.rewriting.running.pipeline import engine_group, engines_of, rewriting_groups, scorer_group
from laclip_ray.rewriting.scoring.meaning_pool import encoder_group
from laclip_ray.training.run import training_groups, worker_group

logger = logging.getLogger(__name__)

_STREAM_CPUS = 3
"""CPUs for the training stream beside rewriting. Ray Data gives each half one half of the unreserved CPUs."""
_REWRITING_CPUS = 1
"""CPUs that are left free for rewriting's own tasks. The tasks reserve none (`pipeline`)."""


def runs_beside(backlog: Backlog) -> bool:
    """Whether rewriting runs beside training. With an empty backlog there is only training."""
    return backlog.experiment.rewrite.delivery != "ahead" and bool(backlog.units)


def reservations(backlog: Backlog) -> list[cluster.Reservation]:
    """The reservations of the job's phases, the one with the most CPUs first."""
    rewriting = rewriting_groups(backlog) if backlog.units else ()
    training = training_groups(backlog.experiment.train, backlog.experiment.stream)
    return _phases(rewriting, training, runs_beside(backlog))


def planned_reservations(
    rewrite: RewriteConfig, train: TrainConfig, stream: StreamConfig, rewrites: bool
) -> list[cluster.Reservation]:
    """The reservations of a job's phases before any rewrite exists, the one with the most CPUs first.

    Args:
        rewrite: how captions are rewritten.
        train: how the model is trained.
        stream: how training reads.
        rewrites: whether the job rewrites. If not, there is only training.
    """
    training = training_groups(train, stream)
    if not rewrites:
        return [cluster.Reservation("train", training)]
    scorers = (scorer_group(rewrite.gate.picture), encoder_group(rewrite))
    rewriting = (engines_of(rewrite.engine, rewrite.engine.actors.min), *scorers)
    return _phases(rewriting, training, rewrite.delivery != "ahead")


def _phases(
    rewriting: tuple[cluster.ResourceGroup, ...], training: tuple[cluster.ResourceGroup, ...], beside: bool
) -> list[cluster.Reservation]:
    if beside:
        return [cluster.Reservation("run", (*rewriting, *training), data_cpus=_STREAM_CPUS + _REWRITING_CPUS)]
    phases = [cluster.Reservation("run", rewriting), cluster.Reservation("run", training)]
    return sorted(phases, key=lambda phase: -phase.cpus)


def rewriting_cpus(rewrite: RewriteConfig) -> float:
    """Logical CPUs that rewriting may use. The training stream needs the others."""
    engine, scorers = rewrite.engine, scorer_group(rewrite.gate.picture)
    return engine.actors.max * engine.cpus_per_actor + scorers.processes * scorers.cpus + _REWRITING_CPUS


def fit_to_cluster(backlog: Backlog) -> Backlog:
    """Limit engines and workers to the numbers that fit on the cluster together, unless it grows as needed.

    Workers come first: engines get the room that the most workers leave, but at least their minimum, and workers get
    the room that those engines leave. Ray alone would count the engines' GPUs as room for workers, and wait for them.
    """
    experiment = backlog.experiment
    if experiment.ray.autoscaling:
        return backlog
    import ray

    actors, picture = experiment.rewrite.engine.actors, experiment.rewrite.gate.picture
    engines, workers, scorers = engine_group(backlog), worker_group(experiment.train), scorer_group(picture)
    cpus = ray.cluster_resources().get("CPU", 0) - _STREAM_CPUS - _REWRITING_CPUS
    nodes = cluster.alive_nodes()
    for group in (scorers, encoder_group(experiment.rewrite)):
        cpus -= group.processes * group.cpus
        nodes = cluster.nodes_without(group, group.processes, nodes)

    def room_beside(group: cluster.ResourceGroup, most: int, other: cluster.ResourceGroup, others: int) -> int:
        """Processes of a group, at most `most`, that fit beside `others` of another. Tasks may use any node's CPUs."""
        others = cluster.count_fitting(other, nodes, others)
        by_cpus = cluster.count_fitting_in({"CPU": cpus - others * other.cpus}, replace(group, gpus=0.0), most)
        return cluster.count_fitting(group, cluster.nodes_without(other, others, nodes, group), by_cpus)

    most_engines = max(actors.min, room_beside(engines, actors.max, workers, workers.processes))
    if most_engines < actors.max:
        logger.info("at most %d engines, to leave room for the training workers", most_engines)
    engines_beside = most_engines if engines.processes else 0
    most_workers = max(workers.required_processes, room_beside(workers, workers.processes, engines, engines_beside))
    if most_workers < workers.processes:
        logger.info("at most %d workers, to leave room for the engines", most_workers)
    changes: dict[str, Any] = {"rewrite.engine.actors.max": most_engines}
    if workers.required_processes < workers.processes:
        changes["train.workers"] = {"min": workers.required_processes, "max": most_workers}
    if picture is not None and scorers.gpus:
        changes["rewrite.gate.picture.actors.max"] = scorers.processes
    return replace(backlog, experiment=with_overrides(experiment, changes))
