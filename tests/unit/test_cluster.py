"""Plans that do not fit are refused with the arithmetic."""

from dataclasses import replace
from typing import Any

import pytest

from laclip_ray.cluster import (
    Reservation,
    ResourceGroup,
    _tasks_at_once,
    check_cpus,
    check_gpus,
    check_gpus_are_known,
    check_local,
    check_nodes,
    room,
    without,
)
from laclip_ray.config import parse_experiment
from laclip_ray.errors import UserError

ENGINES = ResourceGroup("engines", 2, 1.0, gpus=2.0)
WORKERS = ResourceGroup("workers", 8, 2.0, gpus=1.0, fewest=4)
PLAN = Reservation("run", (ENGINES, WORKERS), data_cpus=2)


def test_cpus_are_those_of_all_processes_and_of_the_tasks_beside_them() -> None:
    assert PLAN.cpus == 2 * 1 + 8 * 2 + 2
    check_cpus(PLAN, 20, "the cluster")
    with pytest.raises(UserError, match=r"needs 20 CPUs: 2 engines x 1 \+ 8 workers x 2 reserved, and 2 for .* has 19"):
        check_cpus(PLAN, 19, "the cluster")


def test_gpus_are_those_that_the_fewest_processes_need() -> None:
    check_gpus(PLAN, 8)
    with pytest.raises(UserError, match=r"needs 8 GPUs at once: 2 engines x 2 \+ 4 workers x 1; the cluster has 7"):
        check_gpus(PLAN, 7)


def test_a_cluster_whose_gpus_are_to_come_is_told_who_needs_them() -> None:
    check_gpus_are_known(PLAN, 0)
    undecided = Reservation(
        "run", (ResourceGroup("engines", 0, 1.0, gpus=None), ResourceGroup("workers", 1, 1.0, gpus=None))
    )
    check_gpus_are_known(undecided, 1)
    with pytest.raises(UserError, match=r"no GPU yet, so that workers would do without; set train.gpus_per_worker"):
        check_gpus_are_known(undecided, 0)


def test_processes_that_are_not_there_need_nothing() -> None:
    plan = Reservation("run", (ResourceGroup("engines", 0, 1.0, gpus=8.0), ResourceGroup("workers", 1, 1.0)))
    check_gpus(plan, 0)
    check_cpus(plan, 2, "the cluster")


def test_what_a_ray_started_here_cannot_hold_is_refused_by_the_configuration_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = {"name": "plan", "output": "out", "data": {"path": "data"}}
    small = parse_experiment({**content, "ray": {"local_cpus": 19}})
    with pytest.raises(UserError, match=r"ray\.local_cpus has 19"):
        check_local(small, PLAN)
    check_local(parse_experiment(content), PLAN)  # as many as the plan needs
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    check_local(small, PLAN)  # it is the cluster's to say


def node(cpus: float, gpus: float = 0.0, accelerator: str = "", **labels: str) -> dict[str, Any]:
    """As `ray.nodes()` describes it."""
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    if accelerator:
        resources[f"accelerator_type:{accelerator}"] = 1.0
    return {"Resources": resources, "Labels": labels}


def test_processes_are_not_spread_over_nodes() -> None:
    plan = Reservation("run", (ResourceGroup("engines", 1, 1.0, gpus=4.0),))
    check_nodes(plan, [node(8, 2), node(8, 4)])
    with pytest.raises(
        UserError, match=r"room for 1 engines, each with 1 CPUs and 4 GPUs of one node; .* 2 nodes \(of 2\), .* for 0"
    ):
        check_nodes(plan, [node(8, 2), node(8, 2)])


def test_processes_are_only_on_the_nodes_that_they_ask_for() -> None:
    engines = ResourceGroup("engines", 2, 1.0, gpus=1.0, accelerator_type="L4")
    workers = ResourceGroup("workers", 2, 1.0, gpus=1.0, label_selector={"pool": "training"})
    nodes = [node(4, 2, "L4"), node(4, 2, "H100", pool="training")]
    check_nodes(Reservation("run", (engines, workers)), nodes)
    for lacking in (engines, workers):
        with pytest.raises(UserError, match=rf"room for 3 {lacking.name}, .* has 1 nodes with .* with room for 2"):
            check_nodes(Reservation("run", (replace(lacking, processes=3),)), nodes)


def test_kinds_that_may_only_be_on_the_same_nodes_share_their_gpus() -> None:
    engines = ResourceGroup("engines", 1, 1.0, gpus=1.0, accelerator_type="L4")
    workers = ResourceGroup("workers", 2, 1.0, gpus=1.0, accelerator_type="L4")
    plan = Reservation("run", (engines, workers))
    check_nodes(plan, [node(8, 3, "L4"), node(8, 4, "H100")])
    nodes = [node(8, 2, "L4"), node(8, 4, "H100")]
    with pytest.raises(UserError, match=r"3 GPUs at once: 1 engines x 1 \+ 2 workers x 1; the 1 nodes \(of 2\) .* 2\."):
        check_nodes(plan, nodes)
    check_nodes(Reservation("run", (engines, replace(workers, accelerator_type=None))), nodes)


def test_what_a_kind_leaves_is_as_much_as_can_be_for_the_other() -> None:
    engines = ResourceGroup("engines", 1, 1.0, gpus=1.0, accelerator_type="L4")
    workers = ResourceGroup("workers", 3, 2.0, gpus=1.0)
    nodes = [node(8, 2, "L4"), node(8, 2, "H100")]
    assert room(engines, without(workers, 3, nodes, engines), 9) == 1
    assert room(workers, without(engines, 1, nodes, workers), 9) == 3
    assert [each["Resources"]["CPU"] for each in without(workers, 3, nodes, engines)] == [4, 6]


def test_processes_that_need_nothing_fit_wherever_they_may_be() -> None:
    group = ResourceGroup("engines", 9, 0.0, label_selector={"pool": "rewriting"})
    check_nodes(Reservation("run", (group,)), [node(1, pool="rewriting")])
    with pytest.raises(UserError, match="label pool: rewriting"):
        check_nodes(Reservation("run", (group,)), [node(1)])


def test_parts_of_a_gpu_are_parts_of_one() -> None:
    assert room(ResourceGroup("workers", 9, 1.0, gpus=0.6), [node(8, 2)], 9) == 2
    assert room(ResourceGroup("workers", 9, 1.0, gpus=0.5), [node(8, 2)], 9) == 4
    assert room(ResourceGroup("workers", 9, 3.0, gpus=0.5), [node(8, 2)], 9) == 2


@pytest.mark.parametrize(
    ("condition", "admitted"),
    [("a", {"a"}), ("!a", {"b", ""}), ("in(a, b)", {"a", "b"}), ("!in(a,b)", {""})],
)
def test_conditions_of_labels_are_ray_s(condition: str, admitted: set[str]) -> None:
    plan = Reservation("run", (ResourceGroup("workers", 1, 1.0, label_selector={"key": condition}),))
    for value in ("a", "b", ""):
        nodes = [{**node(1), "Labels": {"key": value} if value else {}}]
        if value in admitted:
            check_nodes(plan, nodes)
        else:
            with pytest.raises(UserError):
                check_nodes(plan, nodes)


@pytest.mark.parametrize(
    ("cpus", "cores", "tasks"),
    [([8], 2, 3), ([3], 2, 3), ([2], 2, None), ([4], 64, None), ([8, 8], 2, None), ([0], 2, None)],
)
def test_tasks_are_bounded_only_where_one_machine_has_more_cpus_than_cores(
    cpus: list[int], cores: int, tasks: int | None
) -> None:
    nodes = [{"NodeID": str(number), "Resources": {"CPU": each}} for number, each in enumerate(cpus)]
    assert _tasks_at_once(nodes, "0", cores) == tasks


def test_tasks_of_a_machine_elsewhere_are_not_bounded_by_the_cores_here() -> None:
    assert _tasks_at_once([{"NodeID": "there", "Resources": {"CPU": 8}}], "here", 2) is None
