"""The cluster of a run: can it be joined, are its nodes alike, and does the plan fit? Imports Ray late.

If no Ray could be joined, the other checks are skipped. A local Ray is started as a run
would start it, and ended by `leave`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laclip_ray import cluster
from laclip_ray.cluster import Reservation
from laclip_ray.config import DEMO_REWRITER, Inputs, RayConfig, RewriteConfig
from laclip_ray.doctor import space, versions
from laclip_ray.doctor.machines import Machine, this_machine
from laclip_ray.doctor.models import model_problem
from laclip_ray.doctor.results import Finding, failed, failed_by, passed, skipped
from laclip_ray.endings.causes import describe
from laclip_ray.errors import UserError
from laclip_ray.ray_start import check_address
from laclip_ray.tally import first_names

ADDRESS_TIMEOUT_S = 5.0
"""How long a cluster may take to accept a connection. A run waits longer, for a head that starts."""
NODE_TIMEOUT_S = 90.0
"""How long a node may take to start a worker process and run a tiny task."""
_NOT_JOINED = "no Ray could be joined"
_NODE_REMEDY = "Look at that node's logs (/tmp/ray/session_latest/logs); every node needs this package and its lock"
_FIT_REMEDY = "Use fewer or smaller processes, or other nodes; ray.autoscaling: true if the cluster grows on demand"


@dataclass(frozen=True)
class NodeReport:
    """The report of the task on a node."""

    machine: Machine
    model_problem: str | None
    """Why the language model cannot be loaded there; None also if it was not looked for."""


@dataclass
class Cluster:
    """The cluster, and the checks of it."""

    settings: RayConfig
    rewrite: RewriteConfig
    plan: Callable[[], Sequence[Reservation]]
    """The reservations of the phases of a run, the one with the most CPUs first."""
    reservations: Sequence[Reservation] = ()
    """From `plan`, once Ray is joined."""
    is_joined: bool = False
    nodes: list[Mapping[str, Any]] = field(default_factory=list)
    """As `ray.nodes()` describes them."""
    reports: dict[str, NodeReport] = field(default_factory=dict)
    """By node: its address and the start of its id."""
    _must_leave: bool = False
    """Whether a check has connected this process."""

    def check_join(self) -> Finding:
        """Whether Ray can be joined, or started here."""
        address = os.environ.get("RAY_ADDRESS")
        if address:
            check_address(address, ADDRESS_TIMEOUT_S)
        self.reservations = self.plan()
        for reservation in self.reservations:
            cluster.check_local(self.settings, reservation)
        self._must_leave = cluster.join(self.settings, self.reservations[0])
        import ray

        self.is_joined = True
        self.nodes = cluster.alive_nodes()
        where = f"the cluster at {address}" if address else "a local Ray starts"
        return passed(f"{where}: {len(self.nodes)} nodes, Ray {ray.__version__}")

    def check_answers(self) -> Finding:
        """Whether a tiny task runs on every node."""
        if not self.is_joined:
            return skipped(_NOT_JOINED)
        problems = self._ask_nodes()
        if problems:
            return failed(
                first_names((f"{node}: {text}" for node, text in problems.items()), separator="; "), _NODE_REMEDY
            )
        return passed(f"a task ran on each of {len(self.nodes)} nodes")

    def _ask_nodes(self) -> dict[str, str]:
        """Run the task on every node; the problems by node."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = ray.remote(num_cpus=0, max_retries=0)(_report)
        asked = {}
        for node in self.nodes:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            model = self._model_of(node)
            asked[_name_of(node)] = task.options(scheduling_strategy=strategy).remote(model, self.rewrite.revision)
        done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=NODE_TIMEOUT_S)
        problems: dict[str, str] = {}
        for name, reference in asked.items():
            if reference not in done:
                problems[name] = f"no answer within {NODE_TIMEOUT_S:.0f} s"
                continue
            try:
                self.reports[name] = ray.get(reference)
            except Exception as error:  # noqa: BLE001 - a node without this package raises any type
                problems[name] = describe(error)
        return problems

    def _model_of(self, node: Mapping[str, Any]) -> str | None:
        """The language model to look for on a node; None if no engine would start there, or it is the package's."""
        engines = [
            group for reservation in self.reservations for group in reservation.groups if group.name == "engines"
        ]
        if self.rewrite.model == DEMO_REWRITER:
            return None
        needs = bool(os.environ.get("RAY_ADDRESS")) and any(cluster.admits(node, group) for group in engines)
        return self.rewrite.model if needs else None

    def check_versions(self, here: Machine, names: Sequence[str]) -> Finding:
        """Whether every node has the versions of this process; arguments as in `versions.check_nodes`."""
        if not self.reports:
            return skipped("no node has answered" if self.is_joined else _NOT_JOINED)
        machines = {node: report.machine for node, report in self.reports.items()}
        return versions.check_nodes(here, machines, names)

    def check_room(self) -> Finding:
        """Whether the CPUs, GPUs, accelerators and labels of the cluster hold each phase of a run."""
        if not self.is_joined:
            return skipped(_NOT_JOINED)
        import ray

        resources = ray.cluster_resources()
        have = f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
        for reservation in self.reservations:
            if self.settings.autoscaling:
                cluster.check_gpus_are_known(reservation, resources.get("GPU", 0))
            try:
                cluster.check_fits(reservation, resources, self.nodes)
            except UserError as error:
                if not self.settings.autoscaling:
                    return failed_by(error, _FIT_REMEDY)
                cluster.check_labels_can_join(reservation, self.nodes)
                return passed(f"the cluster has to grow (ray.autoscaling: true): {error}")
        return passed(f"{'; '.join(map(_processes, self.reservations))}: they fit into {have}")

    def check_outputs(self, outputs: Mapping[str, str]) -> Finding:
        """Whether all nodes see the outputs.

        Args:
            outputs: directories or URLs by config key.
        """
        if not self.is_joined:
            return skipped(_NOT_JOINED)
        cluster.check_seen_by_nodes(self.settings, outputs, (), len(self.nodes))
        return passed(f"{len(self.nodes)} nodes: they see {', '.join(outputs.values())}")

    def check_inputs(self, inputs: Inputs) -> Finding:
        """Whether all nodes see the inputs.

        Args:
            inputs: paths and URLs, each after its config key.
        """
        if not self.is_joined:
            return skipped(_NOT_JOINED)
        cluster.check_seen_by_nodes(self.settings, {}, inputs, len(self.nodes))
        return passed(f"{len(self.nodes)} nodes: they see {first_names(url for _, url in inputs)}")

    def check_space(self) -> Finding:
        """Whether disk and shared memory of every node fit its object store."""
        if not self.reports:
            return skipped("no node has answered" if self.is_joined else _NOT_JOINED)
        stores = {_name_of(node): int(node["Resources"].get("object_store_memory", 0)) for node in self.nodes}
        findings = [
            found
            for node, report in self.reports.items()
            for found in (
                space.check_shared_memory(report.machine, stores[node], is_running=True),
                space.check_disk(report.machine, stores[node]),
            )
        ]
        bad = [found for found in findings if found.outcome == "failed"]
        if bad:
            return failed(first_names((found.detail for found in bad), separator="; "), bad[0].remedy)
        return passed(f"disk and shared memory of {len(self.reports)} nodes are large enough")

    def check_model(self) -> Finding:
        """Whether the nodes for engines have the language model, or reach the hub."""
        if not self.reports:
            return skipped("no node has answered" if self.is_joined else _NOT_JOINED)
        looked = [_name_of(node) for node in self.nodes if self._model_of(node) is not None]
        if not looked:
            return skipped("no node here needs it")
        problems = {node: report.model_problem for node, report in self.reports.items() if report.model_problem}
        if problems:
            remedy = "Connect these nodes to the hub, or give a directory that all nodes see"
            return failed(first_names((f"{node}: {text}" for node, text in problems.items()), separator="; "), remedy)
        return passed(f"{self.rewrite.model} can be loaded on {len(looked)} nodes")

    def leave(self) -> None:
        """End the connection, and with it a Ray started for the checks."""
        if self._must_leave:
            import ray

            ray.shutdown()
        self.is_joined = self._must_leave = False


def _processes(reservation: Reservation) -> str:
    return " and ".join(f"{group.processes} {group.name}" for group in reservation.groups if group.processes)


def _name_of(node: Mapping[str, Any]) -> str:
    return f"{node.get('NodeManagerAddress', 'node')} ({node['NodeID'][:8]})"


def _report(model: str | None, revision: str | None) -> NodeReport:
    """Runs on a node."""
    return NodeReport(this_machine(), None if model is None else model_problem(model, revision))
