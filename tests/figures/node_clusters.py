"""Clusters of several nodes on this machine that lose and get nodes: at random, by notice, or by Ray's autoscaler."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from tests.integration.procedures import REPOSITORY, child_environment, free_port, running_head

_STORE_BYTES = 150 * 2**20
"""Of a node's object store."""


class SpotCluster:
    """A head that stays, and alike nodes that come and go."""

    def __init__(self, head: Mapping[str, Any], node: Mapping[str, Any], nodes: int) -> None:
        """Start the cluster.

        Args:
            head: arguments of `Cluster.add_node` for the head.
            node: the same for each other node.
            nodes: number of the other nodes.
        """
        self._node = {**node, "object_store_memory": _STORE_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": _STORE_BYTES})
        self.nodes: list[Any] = []
        self.events: Counter[str] = Counter()
        """Nodes killed and added since the start."""
        for _ in range(nodes):
            self._add()
        self.cluster.wait_for_nodes()

    def _add(self) -> None:
        self.nodes.append(self.cluster.add_node(wait=False, **self._node))

    def add(self) -> None:
        """Add a node."""
        self._add()
        self.events["added"] += 1

    def kill(self, node: Any) -> None:
        """End a node and its processes without telling them."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.events["killed"] += 1

    def drain(self, node: Any, notice_s: int) -> None:
        """Tell Ray that a node will be taken away, as on the notice of a spot node."""
        subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", self.cluster.address),
                *("--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
                *("--deadline-remaining-seconds", str(notice_s)),
            ],
            check=True,
        )  # fmt: skip

    def start(self, log: Path, *program: str) -> subprocess.Popen[bytes]:
        """A driver: `python -m` a program on this cluster."""
        environment = {**os.environ, "RAY_ADDRESS": self.cluster.address}  # with tokens if the cluster has them
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", *program], stdout=file, stderr=file, env=environment, cwd=REPOSITORY
            )

    def disturb(self, is_over: Callable[[], bool], seed: int, pause_s: float, kills: int) -> None:
        """Kill and add nodes at random, between one and the present number, until so many were killed or `is_over`."""
        chance, most = random.Random(seed), len(self.nodes)
        while self.events["killed"] < kills:
            time.sleep(chance.uniform(0.5, 1.5) * pause_s)
            if is_over():
                return
            may_kill, may_add = len(self.nodes) > 1, len(self.nodes) < most
            if may_kill and (not may_add or chance.random() < 0.5):
                self.kill(chance.choice(self.nodes))
            else:
                self.add()
            print(f"  {len(self.nodes)} nodes and the head", flush=True)


@contextmanager
def spot_cluster(head: Mapping[str, Any], node: Mapping[str, Any], nodes: int) -> Iterator[SpotCluster]:
    """A `SpotCluster` that ends with the context."""
    made = SpotCluster(head, node, nodes)
    try:
        yield made
    finally:
        made.cluster.shutdown()


@contextmanager
def autoscaling_head(directory: Path, cpus: int, node: Mapping[str, float], most: int, idle_s: float) -> Iterator[str]:
    """A head with Ray's autoscaler v1 and its fake provider, which starts nodes on this machine; gives the address.

    Args:
        directory: for the config and the log.
        cpus: of the head.
        node: resources of each node that may join.
        most: how many may join.
        idle_s: how long an idle node stays.
    """
    address = f"{ray.util.get_node_ip_address()}:{free_port()}"
    config, log = directory / "autoscaler.json", directory / "head.log"
    config.write_text(json.dumps(_autoscaler_config(address, cpus, node, most, idle_s)))
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--num-cpus={cpus}"),
        *(f"--port={address.rpartition(':')[2]}", f"--autoscaling-config={config}", "--include-dashboard=false"),
        *(f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"),
    ]
    environment = {**child_environment(), "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with running_head(command, log, environment):
        yield address


def _autoscaler_config(address: str, cpus: int, node: Mapping[str, float], most: int, idle_s: float) -> dict[str, Any]:
    lists = (
        "initialization_commands setup_commands head_setup_commands worker_setup_commands head_start_ray_commands "
        "worker_start_ray_commands cluster_synced_files rsync_exclude rsync_filter"
    )
    return {
        **{name: [] for name in lists.split()},
        "cluster_name": "fake",
        "max_workers": most,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": cpus}, "node_config": {}, "max_workers": 0},
            "engines": {
                "resources": {**node, "object_store_memory": _STORE_BYTES},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }


class NodeCounter(threading.Thread):
    """Counts the alive nodes of the cluster that this process is connected to."""

    def __init__(self, pause_s: float = 0.5) -> None:
        super().__init__(daemon=True)
        self._pause_s = pause_s
        self.counts: list[tuple[float, int]] = []
        """Unix time in seconds and alive nodes, at the start and at each change."""

    def run(self) -> None:
        while True:
            if ray.is_initialized():
                nodes = sum(node["Alive"] for node in ray.nodes())
                if not self.counts or self.counts[-1][1] != nodes:
                    self.counts.append((time.time(), nodes))
                    print(f"  {nodes} nodes", flush=True)
            time.sleep(self._pause_s)


def set_pace(step_s: float) -> None:
    """The pace of a noting training worker (`training_chaos`) on nodes that start from now on."""
    os.environ["LACLIP_CHAOS_PACE_S"] = str(step_s)
