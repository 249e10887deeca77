"""The files for `ray up`: groups, spot nodes, tokens, and what the head installs."""

import re
from typing import Any

import pytest

from laclip_ray.cluster import ResourceGroup, count_fitting
from tests.unit.cluster_files.checks import CLUSTER_MANIFEST, LAUNCHER, LAUNCHERS, cluster_spec, load, locked_version

GROUPS = {"engines", "train", "decode"}
CLIENTS = {LAUNCHER: "boto3", "gcp.yaml": "google-api-python-client"}
"""The package with which the head starts nodes. The image lacks it."""


def is_spot(node_config: dict[str, Any]) -> bool:
    """Whether the cloud may take an instance away."""
    market: str = node_config.get("InstanceMarketOptions", {}).get("MarketType", "")
    model: str = node_config.get("scheduling", {}).get("provisioningModel", "")
    return market == "spot" or model == "SPOT"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_engines_alone_are_on_spot_nodes(name: str) -> None:
    types = load(name)["available_node_types"]
    assert [group for group, node_type in types.items() if is_spot(node_type["node_config"])] == ["engines"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_groups_have_the_labels_of_the_cluster_manifest(name: str) -> None:
    types = load(name)["available_node_types"]
    groups = cluster_spec(load(CLUSTER_MANIFEST))["workerGroupSpecs"]
    assert types.keys() == {"head", *GROUPS}
    assert {group["groupName"]: group["labels"] for group in groups} == {
        group: types[group]["labels"] for group in GROUPS
    }


@pytest.mark.parametrize("name", LAUNCHERS)
def test_groups_have_the_sizes_of_the_cluster_manifest(name: str) -> None:
    types = load(name)["available_node_types"]
    for group in cluster_spec(load(CLUSTER_MANIFEST))["workerGroupSpecs"]:
        node_type = types[group["groupName"]]
        assert (node_type["min_workers"], node_type["max_workers"]) == (group["minReplicas"], group["maxReplicas"])


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_limit_is_the_sum_of_the_groups(name: str) -> None:
    launcher = load(name)
    assert launcher["max_workers"] == sum(launcher["available_node_types"][group]["max_workers"] for group in GROUPS)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_head_takes_no_work_and_is_not_taken_away(name: str) -> None:
    launcher = load(name)
    head = launcher["available_node_types"][launcher["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert not is_spot(head["node_config"])


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_node_asks_for_the_token_that_the_user_s_machine_has(name: str) -> None:
    launcher = load(name)
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
    assert launcher["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"  # noqa: S105 - a path


@pytest.mark.parametrize("name", LAUNCHERS)
def test_idle_nodes_are_removed_with_their_disks(name: str) -> None:
    launcher = load(name)
    assert launcher["idle_timeout_minutes"] <= 10
    assert not launcher["provider"]["cache_stopped_nodes"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_head_installs_the_cloud_s_client_beside_the_lock(name: str) -> None:
    (command,) = load(name)["head_setup_commands"]
    installed = re.fullmatch(
        r"pip install --user --constraint /opt/laclip_ray/requirements/gpu\.lock (\S+)==([0-9.]+)", command
    )
    assert installed is not None
    assert installed[1] == CLIENTS[name]
    assert name != LAUNCHER or installed[2] == locked_version("botocore")  # boto3 needs botocore of its own version


def test_google_s_nodes_declare_what_their_machine_types_have() -> None:
    # Ray reads AWS's instance types itself.
    for group, node_type in load("gcp.yaml")["available_node_types"].items():
        machine, resources = node_type["node_config"]["machineType"], node_type["resources"]
        if group != "head" and (cpus := re.search(r"-standard-(\d+)$", machine)):
            assert resources["CPU"] == int(cpus[1])
        if gpus := re.search(r"-highgpu-(\d+)g$", machine):
            assert resources["GPU"] == int(gpus[1])
        assert ("GPU" in resources) == any(key.startswith("accelerator_type:") for key in resources)


def test_google_s_nodes_hold_the_engines_and_workers_of_the_documented_settings() -> None:
    nodes = {
        group: [{"Resources": node_type["resources"], "Labels": node_type.get("labels", {})}]
        * node_type.get("max_workers", 1)
        for group, node_type in load("gcp.yaml")["available_node_types"].items()
    }
    engines = ResourceGroup("engines", 16, 1.0, 1.0, label_selector={"ray.io/market-type": "spot"})
    workers = ResourceGroup("workers", 8, 2.0, 1.0, accelerator_type="H100")
    for kind, group in {"engines": engines, "train": workers}.items():
        rooms = {other: count_fitting(group, each, group.processes) for other, each in nodes.items()}
        assert rooms == {**dict.fromkeys(nodes, 0), kind: group.processes}


def test_google_s_machines_with_gpus_end_for_maintenance() -> None:
    for node_type in load("gcp.yaml")["available_node_types"].values():
        ends = node_type["node_config"].get("scheduling", {}).get("onHostMaintenance") == "TERMINATE"
        assert ends == ("GPU" in node_type["resources"])
