"""How many runs of a sweep train at the same time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from laclip_ray import cluster
from laclip_ray.config import RayConfig, TrainConfig, TuneConfig
from laclip_ray.errors import UserError
from laclip_ray.training.run import worker_group


@dataclass(frozen=True)
class Capacity:
    """The points in training at the same time, and the runs of each."""

    points: int
    seeds_per_point: int


def reserve(train: TrainConfig, runs: int) -> cluster.Reservation:
    """The reservation of `runs` concurrent runs: each has its workers, a CPU for its point and one for Ray Data."""
    workers = worker_group(train)
    groups = (
        cluster.ResourceGroup("points", runs, 1.0),
        replace(workers, processes=runs * workers.processes, min_processes=None),
    )
    return cluster.Reservation("tune", groups, data_cpus=runs)


def find_capacity(tune: TuneConfig, train: TrainConfig, ray_config: RayConfig, points: int) -> Capacity:
    """As many concurrent runs as fit in the cluster and as `tune.max_concurrent_runs` allows.

    A cluster that grows counts at its largest size, so every run gets its resources in the end. With more runs, some
    would hold resources forever and wait for others.

    Raises:
        UserError: the cluster cannot hold one run, or grows to an unknown size.
    """
    seeds = len(tune.seeds)
    runs = tune.max_concurrent_runs or points * seeds
    resources = _largest_resources(ray_config, tune.max_concurrent_runs)
    if resources is not None:
        one = reserve(train, 1)
        cluster.check_cpus(one, resources.get("CPU", 0), "the cluster, at its largest,")
        runs = min(runs, int(resources.get("CPU", 0) // one.cpus))
        gpus = sum(group.processes * cluster.gpus_per_process(group.gpus) for group in one.groups)
        if gpus:
            cluster.check_gpus(one, resources.get("GPU", 0))
            runs = min(runs, int(resources.get("GPU", 0) // gpus))
    if not ray_config.autoscaling:
        workers = worker_group(train)
        room = cluster.count_fitting(workers, cluster.alive_nodes(), runs * workers.processes)
        runs = min(runs, room // workers.processes)
    seeds_per_point = min(seeds, max(1, runs // points))
    return Capacity(points=max(1, runs // seeds_per_point), seeds_per_point=seeds_per_point)


def _largest_resources(ray_config: RayConfig, max_concurrent_runs: int | None) -> Mapping[str, float] | None:
    """The cluster's resources, at its largest size if it grows.

    None if the cluster does not report that size and `tune.max_concurrent_runs` decides.
    """
    import ray
    from ray._private.state import state

    if not ray_config.autoscaling:
        return dict(ray.cluster_resources())
    largest: Mapping[str, float] | None = state.get_max_resources_from_cluster_config()
    if not largest and max_concurrent_runs is None:
        raise UserError(
            "ray.autoscaling: true, and this cluster does not say how far it grows; set tune.max_concurrent_runs to "
            "the runs that it holds at its largest: with more they would wait for one another"
        )
    return largest or None
