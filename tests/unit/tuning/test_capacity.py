"""As many runs train at the same time as the cluster holds."""

from typing import Any

import pytest

from laclip_ray import cluster
from laclip_ray.config import RayConfig, TrainConfig, TuneConfig
from laclip_ray.errors import UserError
from laclip_ray.tuning import capacity
from laclip_ray.tuning.capacity import Capacity, _largest_resources, find_capacity

ONE_RUN_CPUS = 4  # two workers, the point and Ray Data


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a cluster of nodes with these CPUs."""

    def make(*cpus: int) -> None:
        nodes = [{"NodeID": str(number), "Resources": {"CPU": float(count)}} for number, count in enumerate(cpus)]
        monkeypatch.setattr(capacity, "_largest_resources", lambda *_: {"CPU": float(sum(cpus))})
        monkeypatch.setattr(cluster, "alive_nodes", lambda: nodes)
        monkeypatch.setattr(cluster, "gpus_per_process", lambda configured: configured or 0.0)

    return make


def capacity_of(seeds: int, points: int, max_concurrent_runs: int | None = None) -> Capacity:
    tune = TuneConfig(seeds=list(range(seeds)), max_concurrent_runs=max_concurrent_runs)
    return find_capacity(tune, TrainConfig(workers=2), RayConfig(), points)


def test_one_run_trains_where_there_is_room_for_one(machine: Any) -> None:
    machine(ONE_RUN_CPUS)
    assert capacity_of(seeds=3, points=2) == Capacity(points=1, seeds_per_point=1)


def test_points_come_before_seeds(machine: Any) -> None:
    machine(2 * ONE_RUN_CPUS)
    assert capacity_of(seeds=2, points=2) == Capacity(points=2, seeds_per_point=1)


def test_seeds_train_together_where_all_runs_fit(machine: Any) -> None:
    machine(4 * ONE_RUN_CPUS)
    assert capacity_of(seeds=2, points=2) == Capacity(points=2, seeds_per_point=2)


def test_the_setting_bounds_the_runs(machine: Any) -> None:
    machine(8 * ONE_RUN_CPUS)
    assert capacity_of(seeds=2, points=4, max_concurrent_runs=2) == Capacity(points=2, seeds_per_point=1)


def test_workers_need_room_on_nodes_not_only_in_the_sum(machine: Any) -> None:
    machine(*[1] * 16)
    assert capacity_of(seeds=1, points=8).points == 4
    machine(*[2] * 4)
    assert capacity_of(seeds=1, points=8).points == 2


def test_a_cluster_too_small_for_one_run_is_refused(machine: Any) -> None:
    machine(ONE_RUN_CPUS - 1)
    with pytest.raises(UserError, match="at its largest"):
        capacity_of(seeds=1, points=1)


def test_a_cluster_that_grows_without_saying_how_far_needs_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.state import state

    growing = RayConfig(autoscaling=True)
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: None)
    assert _largest_resources(growing, max_concurrent_runs=3) is None
    message = r"^ray\.autoscaling: true, and this cluster does not say how far it grows; set tune\.max_concurrent_runs"
    with pytest.raises(UserError, match=message):
        _largest_resources(growing, max_concurrent_runs=None)
