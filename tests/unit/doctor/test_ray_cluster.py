"""The checks of a cluster, on nodes as Ray describes them. `tests/integration/test_doctor.py` has a real one."""

from collections.abc import Sequence
from typing import Any

import pytest
import ray

from laclip_ray import cluster
from laclip_ray.cluster import Reservation, ResourceGroup
from laclip_ray.config import RayConfig, RewriteConfig
from laclip_ray.doctor import ray_cluster
from laclip_ray.doctor.machines import Machine, Space
from laclip_ray.doctor.ray_cluster import Cluster, NodeReport
from laclip_ray.doctor.results import Check, Result, run_check
from tests.unit.doctor.machines import GIB, MACHINE, machine

ENGINES = ResourceGroup("engines", 1, 1.0, gpus=1.0, label_selector={"pool": "engines"})
WORKERS = ResourceGroup("workers", 2, 1.0, gpus=0.0)
PLAN = [Reservation("run", (ENGINES,)), Reservation("run", (WORKERS,))]
REWRITE = RewriteConfig(model="some/model")


def node(number: int, gpus: float = 0.0, **labels: str) -> dict[str, Any]:
    """As `ray.nodes()` describes it."""
    resources = {"CPU": 8.0, "object_store_memory": 4.0 * GIB, **({"GPU": gpus} if gpus else {})}
    address = f"10.0.0.{number}"
    return {"NodeID": str(number) * 56, "NodeManagerAddress": address, "Resources": resources, "Labels": labels}


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a cluster that has been joined, of nodes that have answered."""

    def make(
        nodes: Sequence[dict[str, Any]], machines: Sequence[Machine] = (), knows_labels: bool = True, **settings: Any
    ) -> Cluster:
        total = {name: sum(each["Resources"].get(name, 0) for each in nodes) for name in ("CPU", "GPU")}
        monkeypatch.setattr(ray, "cluster_resources", lambda: total)
        monkeypatch.setattr(cluster, "autoscaler_knows_labels", lambda: knows_labels)
        found = Cluster(RayConfig(**settings), REWRITE, lambda: PLAN, reservations=PLAN, is_joined=True)
        found.nodes = list(nodes)
        seen = machines or [MACHINE] * len(nodes)
        found.reports = {ray_cluster._name_of(each): NodeReport(of, None) for each, of in zip(nodes, seen, strict=True)}
        return found

    return make


def result(run: Any) -> Result:
    return run_check(Check("check", run, "check the cluster", None))


def test_a_cluster_with_room_for_each_phase_passes(joined: Any) -> None:
    found = joined([node(1, gpus=1, pool="engines"), node(2)]).check_room()
    assert (found.outcome, found.detail) == ("passed", "1 engines; 2 workers: they fit into 16 CPUs and 1 GPUs")


def test_gpus_that_are_missing_fail_with_the_arithmetic(joined: Any) -> None:
    found = joined([node(1), node(2)]).check_room()
    assert found.outcome == "failed"
    assert "needs 1 GPUs at once: 1 engines x 1; the cluster has 0" in found.detail


def test_labels_that_no_node_has_fail(joined: Any) -> None:
    found = joined([node(1, gpus=4, pool="training")]).check_room()
    assert found.outcome == "failed"
    assert "the cluster has 0 nodes with label pool: engines (of 1)" in found.detail


def test_a_cluster_that_grows_passes_and_says_what_is_missing(joined: Any) -> None:
    found = joined([node(1)], autoscaling=True).check_room()
    assert found.outcome == "passed"
    assert found.detail.startswith("the cluster has to grow (ray.autoscaling: true): laclip run needs 1 GPUs")


def test_labels_that_will_not_join_fail(joined: Any) -> None:
    found = result(joined([node(1, gpus=1)], knows_labels=False, autoscaling=True).check_room)
    assert found.outcome == "failed"
    assert "autoscaler v1 or none, and v1 knows no labels" in found.detail


def test_nodes_with_other_versions_fail(joined: Any) -> None:
    of = joined([node(1), node(2)], [MACHINE, machine(packages={"ray": "2.60.0", "torch": "2.12.0"})])
    found = of.check_versions(MACHINE, ["ray", "torch"])
    assert (found.outcome, found.detail) == ("failed", "10.0.0.2 (22222222): torch 2.12.0 (here 2.13.0)")


def test_nodes_without_space_for_their_store_fail(joined: Any) -> None:
    small = machine(shared_memory=Space("/shm", GIB // 16, GIB // 16))
    found = joined([node(1), node(2)], [MACHINE, small]).check_space()
    assert found.outcome == "failed"
    assert "/shm of host: 0.1 GiB for an object store of 4.0 GiB" in found.detail
    assert joined([node(1)]).check_space().outcome == "passed"


def test_a_local_output_on_several_nodes_fails(joined: Any) -> None:
    outputs = {"output": "/data/out"}
    found = result(lambda: joined([node(1), node(2)]).check_outputs(outputs))
    assert found.outcome == "failed"
    assert "the cluster has 2 nodes that may not see it" in found.detail
    assert joined([node(1)]).check_outputs(outputs).outcome == "passed"
    assert joined([node(1), node(2)], shared_paths=["/data"]).check_outputs(outputs).outcome == "passed"


def test_a_local_input_on_several_nodes_fails(joined: Any) -> None:
    inputs = [("data.path", "/data/captions.parquet")]
    found = result(lambda: joined([node(1), node(2)]).check_inputs(inputs))
    assert found.outcome == "failed"
    assert "data.path: '/data/captions.parquet' is a local path" in found.detail
    assert joined([node(1)]).check_inputs(inputs).outcome == "passed"
    assert joined([node(1), node(2)], shared_paths=["/data"]).check_inputs(inputs).outcome == "passed"


def test_only_nodes_for_engines_need_the_model(joined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    nodes = [node(1, gpus=1, pool="engines"), node(2)]
    of = joined(nodes)
    assert [of._model_of(each) for each in nodes] == ["some/model", None]
    assert of.check_model().detail == "some/model can be loaded on 1 nodes"
    of.reports[ray_cluster._name_of(nodes[0])] = NodeReport(MACHINE, "the hub is out of reach")
    found = of.check_model()
    assert (found.outcome, found.detail) == ("failed", "10.0.0.1 (11111111): the hub is out of reach")
    assert joined([node(2)]).check_model().outcome == "skipped"


def test_a_cluster_that_cannot_be_joined_fails_once_and_the_rest_is_skipped() -> None:
    unjoined = Cluster(RayConfig(), REWRITE, lambda: PLAN)
    outcomes = {
        unjoined.check_answers().outcome,
        unjoined.check_versions(MACHINE, []).outcome,
        unjoined.check_room().outcome,
        unjoined.check_outputs({}).outcome,
        unjoined.check_inputs(()).outcome,
        unjoined.check_space().outcome,
        unjoined.check_model().outcome,
    }
    assert outcomes == {"skipped"}


def test_an_address_without_a_server_fails_before_ray_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setattr(ray_cluster, "ADDRESS_TIMEOUT_S", 0.1)
    monkeypatch.setattr(cluster, "join", lambda *_: pytest.fail("Ray was asked"))
    found = result(Cluster(RayConfig(), REWRITE, lambda: PLAN).check_join)
    assert found.outcome == "failed"
    assert found.detail.startswith("RAY_ADDRESS: no Ray answers at 127.0.0.1:9; given up after 0 s")


def test_a_reservation_that_a_local_ray_cannot_hold_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "join", lambda *_: pytest.fail("Ray was started"))
    found = result(Cluster(RayConfig(local_cpus=1), REWRITE, lambda: PLAN).check_join)
    assert found.outcome == "failed"
    assert "ray.local_cpus has 1" in found.detail


def test_a_connection_of_the_caller_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "join", lambda *_: False)
    monkeypatch.setattr(cluster, "alive_nodes", lambda: [node(1)])
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("the caller's connection was ended"))
    of = Cluster(RayConfig(), REWRITE, lambda: PLAN)
    assert of.check_join().outcome == "passed"
    of.leave()
    assert not of.is_joined


def test_a_connection_of_the_checks_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(cluster, "join", lambda *_: True)
    monkeypatch.setattr(cluster, "alive_nodes", lambda: [node(1)])
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    of = Cluster(RayConfig(), REWRITE, lambda: PLAN)
    of.check_join()
    of.leave()
    of.leave()
    assert ended == [True]
