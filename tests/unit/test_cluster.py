"""Reservations that do not fit on the cluster are refused with the arithmetic."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.cluster import (
    Reservation,
    ResourceGroup,
    _tasks_at_once,
    check_cpus,
    check_gpus,
    check_gpus_are_known,
    check_labels_can_join,
    check_local,
    check_nodes,
    check_seen_by_nodes,
    connect,
    count_fitting,
    nodes_without,
)
from laclip_ray.config import RayConfig
from laclip_ray.endings.job_log import JOB_VARIABLE
from laclip_ray.errors import UserError
from tests.cases import case

ENGINES = ResourceGroup("engines", 2, 1.0, gpus=2.0)
WORKERS = ResourceGroup("workers", 8, 2.0, gpus=1.0, min_processes=4)
RESERVATION = Reservation("run", (ENGINES, WORKERS), data_cpus=2)


def test_cpus_of_all_processes_and_of_tasks_add_up() -> None:
    assert RESERVATION.cpus == 2 * 1 + 8 * 2 + 2
    check_cpus(RESERVATION, 20, "the cluster")
    with pytest.raises(UserError, match=r"needs 20 CPUs: 2 engines x 1 \+ 8 workers x 2 reserved, and 2 for .* has 19"):
        check_cpus(RESERVATION, 19, "the cluster")


def test_only_the_required_processes_count_for_gpus() -> None:
    check_gpus(RESERVATION, 8)
    with pytest.raises(UserError, match=r"needs 8 GPUs at once: 2 engines x 2 \+ 4 workers x 1; the cluster has 7"):
        check_gpus(RESERVATION, 7)


def test_a_growing_cluster_without_gpus_needs_explicit_settings() -> None:
    check_gpus_are_known(RESERVATION, 0)
    undecided = Reservation(
        "run", (ResourceGroup("engines", 0, 1.0, gpus=None), ResourceGroup("workers", 1, 1.0, gpus=None))
    )
    check_gpus_are_known(undecided, 1)
    with pytest.raises(UserError, match=r"no GPU yet, so workers would do without; set train.gpus_per_worker"):
        check_gpus_are_known(undecided, 0)


def test_a_group_of_zero_processes_needs_no_resources() -> None:
    reservation = Reservation("run", (ResourceGroup("engines", 0, 1.0, gpus=8.0), ResourceGroup("workers", 1, 1.0)))
    check_gpus(reservation, 0)
    check_cpus(reservation, 2, "the cluster")


def test_the_config_alone_decides_what_a_local_ray_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    small = RayConfig(local_cpus=19)
    with pytest.raises(UserError, match=r"ray\.local_cpus has 19"):
        check_local(small, RESERVATION)
    check_local(RayConfig(), RESERVATION)  # by default a local Ray has the reservation's CPUs
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    check_local(small, RESERVATION)  # a cluster has CPUs of its own


def node(cpus: float, gpus: float = 0.0, accelerator: str = "", **labels: str) -> dict[str, Any]:
    """As `ray.nodes()` describes it."""
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    if accelerator:
        resources[f"accelerator_type:{accelerator}"] = 1.0
    return {"Resources": resources, "Labels": labels}


def test_one_process_must_fit_on_one_node() -> None:
    reservation = Reservation("run", (ResourceGroup("engines", 1, 1.0, gpus=4.0),))
    check_nodes(reservation, [node(8, 2), node(8, 4)])
    with pytest.raises(
        UserError, match=r"room for 1 engines, each with 1 CPUs and 4 GPUs of one node; .* 2 nodes \(of 2\), .* for 0"
    ):
        check_nodes(reservation, [node(8, 2), node(8, 2)])


def test_only_nodes_with_the_accelerator_and_labels_count() -> None:
    engines = ResourceGroup("engines", 2, 1.0, gpus=1.0, accelerator_type="L4")
    workers = ResourceGroup("workers", 2, 1.0, gpus=1.0, label_selector={"pool": "training"})
    nodes = [node(4, 2, "L4"), node(4, 2, "H100", pool="training")]
    check_nodes(Reservation("run", (engines, workers)), nodes)
    for group in (engines, workers):
        with pytest.raises(UserError, match=rf"room for 3 {group.name}, .* has 1 nodes with .* with room for 2"):
            check_nodes(Reservation("run", (replace(group, processes=3),)), nodes)


def test_groups_on_the_same_nodes_share_their_gpus() -> None:
    engines = ResourceGroup("engines", 1, 1.0, gpus=1.0, accelerator_type="L4")
    workers = ResourceGroup("workers", 2, 1.0, gpus=1.0, accelerator_type="L4")
    reservation = Reservation("run", (engines, workers))
    check_nodes(reservation, [node(8, 3, "L4"), node(8, 4, "H100")])
    nodes = [node(8, 2, "L4"), node(8, 4, "H100")]
    with pytest.raises(UserError, match=r"3 GPUs at once: 1 engines x 1 \+ 2 workers x 1; the 1 nodes \(of 2\) .* 2\."):
        check_nodes(reservation, nodes)
    check_nodes(Reservation("run", (engines, replace(workers, accelerator_type=None))), nodes)


def test_a_group_leaves_as_much_room_for_the_other_as_possible() -> None:
    engines = ResourceGroup("engines", 1, 1.0, gpus=1.0, accelerator_type="L4")
    workers = ResourceGroup("workers", 3, 2.0, gpus=1.0)
    nodes = [node(8, 2, "L4"), node(8, 2, "H100")]
    assert count_fitting(engines, nodes_without(workers, 3, nodes, engines), 9) == 1
    assert count_fitting(workers, nodes_without(engines, 1, nodes, workers), 9) == 3
    assert [node["Resources"]["CPU"] for node in nodes_without(workers, 3, nodes, engines)] == [4, 6]


def test_processes_without_resources_fit_on_any_node_with_their_labels() -> None:
    group = ResourceGroup("engines", 9, 0.0, label_selector={"pool": "rewriting"})
    check_nodes(Reservation("run", (group,)), [node(1, pool="rewriting")])
    with pytest.raises(UserError, match="label pool: rewriting"):
        check_nodes(Reservation("run", (group,)), [node(1)])


def test_a_fraction_of_a_gpu_comes_from_one_gpu() -> None:
    assert count_fitting(ResourceGroup("workers", 9, 1.0, gpus=0.6), [node(8, 2)], 9) == 2
    assert count_fitting(ResourceGroup("workers", 9, 1.0, gpus=0.5), [node(8, 2)], 9) == 4
    assert count_fitting(ResourceGroup("workers", 9, 3.0, gpus=0.5), [node(8, 2)], 9) == 2


@pytest.mark.parametrize(
    ("condition", "admitted"),
    [("a", {"a"}), ("!a", {"b", ""}), ("in(a, b)", {"a", "b"}), ("!in(a,b)", {""})],
)
def test_label_conditions_follow_ray(condition: str, admitted: set[str]) -> None:
    reservation = Reservation("run", (ResourceGroup("workers", 1, 1.0, label_selector={"key": condition}),))
    for value in ("a", "b", ""):
        nodes = [{**node(1), "Labels": {"key": value} if value else {}}]
        if value in admitted:
            check_nodes(reservation, nodes)
        else:
            with pytest.raises(UserError):
                check_nodes(reservation, nodes)


@case("How a run ends", "labels that Ray's autoscaler v1 cannot ask for", "refused with the reason", exit_code=2)
@pytest.mark.parametrize(
    ("selector", "nodes", "knows_labels", "is_refused"),
    [
        ({"pool": "spot"}, [], False, True),
        ({"pool": "spot"}, [{}], False, True),
        ({"pool": "spot"}, [{"pool": "spot"}], False, False),  # it is there
        ({"pool": "spot"}, [], True, False),  # it will join
        ({"pool": "!spot"}, [{"pool": "spot"}], False, False),  # a node without labels will do
        ({}, [], False, False),
    ],
)
def test_labels_are_refused_where_no_node_with_them_can_join(
    selector: dict[str, str],
    nodes: list[dict[str, str]],
    knows_labels: bool,
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("laclip_ray.cluster.autoscaler_knows_labels", lambda: knows_labels)
    reservation = Reservation("run", (ResourceGroup("engines", 1, 1.0, label_selector=selector),))
    described = [{**node(1), "Labels": labels} for labels in nodes]
    if not is_refused:
        check_labels_can_join(reservation, described)
        return
    with pytest.raises(UserError, match=r"1 engines on nodes with the label pool: spot; there is room for 0, .* v1"):
        check_labels_can_join(reservation, described)


@pytest.mark.parametrize("autoscaling", [False, True])
def test_local_inputs_must_be_on_every_node(autoscaling: bool) -> None:
    inputs = [("data.path", "s3://bucket/data"), ("evaluate.checkpoint", "local-dir:/models/clip")]
    nodes = 1 if autoscaling else 2
    with pytest.raises(UserError, match=r"evaluate\.checkpoint: 'local-dir:/models/clip' is a local path, and the cl"):
        check_seen_by_nodes(RayConfig(autoscaling=autoscaling), {}, inputs, nodes)
    check_seen_by_nodes(RayConfig(autoscaling=autoscaling, shared_paths=["/models"]), {}, inputs, nodes)
    check_seen_by_nodes(RayConfig(), {}, inputs, 1)


def test_inputs_in_a_jobs_package_are_on_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = [("data.path", str(tmp_path / "captions.tsv"))]
    for job in ("{}", '{"runtime_env": {}}'):
        monkeypatch.setenv(JOB_VARIABLE, job)
        with pytest.raises(UserError, match="2 nodes that may not see it"):
            check_seen_by_nodes(RayConfig(), {}, inputs, 2)
    monkeypatch.setenv(JOB_VARIABLE, '{"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}')
    check_seen_by_nodes(RayConfig(), {}, inputs, 2)


@pytest.mark.parametrize(
    ("cpus", "cores", "tasks"),
    [([8], 2, 3), ([3], 2, 3), ([2], 2, None), ([4], 64, None), ([8, 8], 2, None), ([0], 2, None)],
)
def test_tasks_are_bounded_only_on_one_machine_with_more_cpus_than_cores(
    cpus: list[int], cores: int, tasks: int | None
) -> None:
    nodes = [{"NodeID": str(number), "Resources": {"CPU": count}} for number, count in enumerate(cpus)]
    assert _tasks_at_once(nodes, "0", cores) == tasks


def test_cores_of_this_machine_do_not_bound_tasks_of_another() -> None:
    assert _tasks_at_once([{"NodeID": "other", "Resources": {"CPU": 8}}], "this", 2) is None


@pytest.mark.parametrize(
    ("verb", "setting", "starts"),
    [("rewrite", None, False), ("evaluate", None, False), ("train", None, True), ("run", None, True),
     ("tune", None, True), ("train", False, False), ("rewrite", True, True)],
)  # fmt: skip
def test_the_dashboard_starts_for_training_unless_the_config_decides(
    verb: str, setting: bool | None, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StartedError(Exception):
        pass

    def start(address: str | None, **options: object) -> None:
        assert address is None
        raise StartedError(options["include_dashboard"])

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("laclip_ray.cluster._is_connected", lambda: False)
    monkeypatch.setattr("laclip_ray.cluster.start_or_join", start)
    reservation = Reservation(verb, (ResourceGroup("workers", 1, 1.0),))
    with pytest.raises(StartedError, match=str(starts)):
        connect(RayConfig(dashboard=setting), reservation, {})
