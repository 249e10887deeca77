"""Connecting to Ray, and refusing plans that would hang on it."""

import itertools
import logging
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.errors import UserError

logger = logging.getLogger(__name__)

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a submitted job."""


@dataclass(frozen=True)
class ResourceGroup:
    """Processes of one kind."""

    name: str
    """As in a message: `engines`."""
    processes: int
    cpus: float
    """Logical CPUs reserved for each."""
    gpus: float | None = 0.0
    """GPUs of each; None: one where the cluster has any."""
    fewest: int | None = None
    """Processes that it can begin with, as their GPUs are there. None: all."""
    accelerator_type: str | None = None
    """Only on nodes with this accelerator."""
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Only on nodes with these labels."""

    @property
    def least(self) -> int:
        """Processes without which it cannot begin."""
        return self.processes if self.fewest is None else self.fewest


@dataclass(frozen=True)
class Reservation:
    """What a verb reserves on the cluster at once."""

    verb: str
    groups: tuple[ResourceGroup, ...]
    data_cpus: int = 1
    """CPUs that Ray Data's tasks need beside them."""

    @property
    def cpus(self) -> float:
        """Logical CPUs in all."""
        return sum(group.processes * group.cpus for group in self.groups) + self.data_cpus


def in_ray_job() -> bool:
    """Whether this process is the driver of a job submitted with `ray job submit`."""
    return JOB_VARIABLE in os.environ


def connect(experiment: Experiment, plan: Reservation, outputs: dict[str, str]) -> None:
    """Connect to the cluster at `RAY_ADDRESS`, or start a local Ray; check plan and outputs first.

    Args:
        experiment: the experiment that is run.
        plan: what will be reserved.
        outputs: config key to directory, for each place that is written to.

    Raises:
        UserError: the plan leaves Ray Data no CPU, or an output would be lost.
    """
    address = os.environ.get("RAY_ADDRESS")
    shared = experiment.ray.shared_paths
    for setting, url in outputs.items():
        storage.check_output(url, setting, in_ray_job(), 1, shared)
    check_local(experiment, plan)
    _quiet()
    import ray

    if not ray.is_initialized():
        if address:
            ray.init(address=address, log_to_driver=True)
        else:
            os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(_IDLE_PROCESS_MS))
            ray.init(address="local", num_cpus=_local_cpus(experiment, plan), log_to_driver=True)
        _interrupt_on_sigterm()
    nodes = alive_nodes()
    for setting, url in outputs.items():
        storage.check_output(url, setting, in_ray_job(), len(nodes), shared)
    resources = ray.cluster_resources()
    if experiment.ray.autoscaling:
        check_gpus_are_known(plan, resources.get("GPU", 0))
    try:
        check_cpus(plan, resources.get("CPU", 0), "the cluster")
        check_gpus(plan, resources.get("GPU", 0))
        check_nodes(plan, nodes)
    except UserError as error:
        if not experiment.ray.autoscaling:
            raise
        logger.warning("waiting for the cluster to grow: %s", error)


_IDLE_PROCESS_MS = 60_000
"""For how long Ray keeps a process without a task. After its default of one second, reading and rewriting beside each
other pay again and again for processes that start, each of which loads torch."""


def check_local(experiment: Experiment, plan: Reservation) -> None:
    """Refuse a plan that the Ray which would be started here cannot hold; at once, from the configuration alone.

    Raises:
        UserError: with the arithmetic.
    """
    if not os.environ.get("RAY_ADDRESS"):
        check_cpus(plan, _local_cpus(experiment, plan), "ray.local_cpus")


def _local_cpus(experiment: Experiment, plan: Reservation) -> int:
    """Logical CPUs of a Ray that is started here."""
    return experiment.ray.local_cpus or max(os.cpu_count() or 1, int(plan.cpus + 1))


def _interrupt_on_sigterm() -> None:
    """Have SIGTERM do what Ctrl-C does: what is in hand is dropped, and the run ends as incomplete.

    Ray's own handler drains the node first, which takes longer than a spot machine has.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def check_cpus(plan: Reservation, available: float, where: str) -> None:
    """Refuse a plan that needs more than the logical CPUs `available` at `where`.

    Raises:
        UserError: with the arithmetic.
    """
    if plan.cpus > available:
        needs = [f"{group.processes} {group.name} x {group.cpus:g}" for group in plan.groups if group.processes]
        raise UserError(
            f"laclip {plan.verb} needs {plan.cpus:g} CPUs: {' + '.join(needs)} reserved, and {plan.data_cpus} for Ray "
            f"Data's tasks, without which the run would hang; {where} has {available:g}. "
            "Use fewer processes or give more CPUs (they are logical: several may share a core)"
        )


def check_gpus(plan: Reservation, available: float) -> None:
    """Refuse a plan that needs more than the cluster's GPUs at once.

    Raises:
        UserError: with the arithmetic.
    """
    needed, terms = _gpus_at_once(plan.groups)
    if needed > available:
        raise UserError(
            f"laclip {plan.verb} needs {needed:g} GPUs at once: {terms}; the cluster has {available:g}. Use "
            "fewer processes, or set ray.autoscaling=true where the cluster grows as needed"
        )


def _gpus_at_once(groups: Sequence[ResourceGroup]) -> tuple[float, str]:
    """The GPUs without which groups cannot begin, and how they add up."""
    needed = [(group.name, group.least, gpus_each(group.gpus)) for group in groups]
    terms = [f"{processes} {name} x {gpus:g}" for name, processes, gpus in needed if processes * gpus]
    return sum(processes * gpus for _, processes, gpus in needed), " + ".join(terms)


def check_gpus_are_known(plan: Reservation, available: float) -> None:
    """Refuse a plan for a cluster that grows, which has no GPU yet and leaves it to the cluster whether one is used.

    Raises:
        UserError: with the groups.
    """
    unknown = [group.name for group in plan.groups if group.processes and group.gpus is None]
    if unknown and not available:
        raise UserError(
            f"ray.autoscaling: true, and the cluster has no GPU yet, so that {' and '.join(unknown)} would do without; "
            "set train.gpus_per_worker and rewrite.engine.gpus_per_actor: 1 where nodes with GPUs come, else 0"
        )


def check_nodes(plan: Reservation, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a plan with processes that would not all find a node, were each kind alone on the cluster; or that need
    more GPUs together than there are on the nodes on which any of them may be.

    Args:
        plan: what will be reserved.
        nodes: as `ray.nodes()` describes them.

    Raises:
        UserError: with the arithmetic.
    """
    for group in plan.groups:
        found = room(group, nodes, group.least)
        if found < group.least:
            gpus, allowed = gpus_each(group.gpus), [node for node in nodes if _admits(node, group)]
            where = [f"accelerator_type {group.accelerator_type}"] if group.accelerator_type else []
            where += [f"label {key}: {value}" for key, value in group.label_selector.items()]
            which = f"nodes with {' and '.join(where)}" if where else "nodes"
            raise UserError(
                f"laclip {plan.verb} needs room for {group.least} {group.name}, each with {group.cpus:g} CPUs and "
                f"{gpus:g} GPUs of one node; the cluster has {len(allowed)} {which} (of {len(nodes)}), with room for "
                f"{found}. Use smaller or fewer ones, or set ray.autoscaling=true where such nodes come as needed"
            )
    on_gpus = [group for group in plan.groups if _gpus_at_once([group])[0]]
    for size in range(2, len(on_gpus) + 1):
        for some in itertools.combinations(on_gpus, size):
            needed, terms = _gpus_at_once(some)
            shared = [node for node in nodes if any(_admits(node, group) for group in some)]
            available = sum(node["Resources"].get("GPU", 0.0) for node in shared)
            if needed > available:
                raise UserError(
                    f"laclip {plan.verb} needs {needed:g} GPUs at once: {terms}; the {len(shared)} nodes "
                    f"(of {len(nodes)}) that these may be on have {available:g}. Use fewer processes, or other nodes "
                    "(accelerator_type, label_selector), or set ray.autoscaling=true where such nodes come as needed"
                )


def alive_nodes() -> list[Mapping[str, Any]]:
    """The nodes of the cluster that this process is connected to, as `ray.nodes()` describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def room(group: ResourceGroup, nodes: Sequence[Mapping[str, Any]], most: int) -> int:
    """How many processes of a group, up to `most`, the nodes hold that it may be on, if nothing else is on them."""
    group = replace(group, gpus=gpus_each(group.gpus))  # asks the cluster, so not for each node
    return min(most, sum(room_in(node["Resources"], group, most) for node in nodes if _admits(node, group)))


def room_in(resources: Mapping[str, float], group: ResourceGroup, most: int) -> int:
    """How many processes of a group, up to `most`, so many CPUs and GPUs hold."""
    gpus = gpus_each(group.gpus)
    holds = [most]
    if group.cpus:
        holds.append(int(resources.get("CPU", 0.0) / group.cpus + _ROUNDING))
    if gpus:
        # Ray takes parts of a GPU from one.
        each = int(1 / gpus + _ROUNDING) if gpus < 1 else 1 / gpus
        holds.append(int(resources.get("GPU", 0.0) * each + _ROUNDING))
    return min(holds)


_ROUNDING = 1e-9


def without(
    group: ResourceGroup, processes: int, nodes: Sequence[Mapping[str, Any]], other: ResourceGroup | None = None
) -> list[Mapping[str, Any]]:
    """The nodes with what so many processes of a group leave of their CPUs and GPUs.

    They are put first where `other` may not be, and so leave it as much as can be.
    """
    group = replace(group, gpus=gpus_each(group.gpus))
    left: list[Mapping[str, Any]] = []
    for node in sorted(nodes, key=lambda node: other is not None and _admits(node, other)):
        resources = dict(node["Resources"])
        if _admits(node, group):
            placed = room_in(resources, group, processes)
            processes -= placed
            for name, each in (("CPU", group.cpus), ("GPU", group.gpus or 0.0)):
                resources[name] = resources.get(name, 0.0) - placed * each
        left.append({**node, "Resources": resources})
    return left


def _admits(node: Mapping[str, Any], group: ResourceGroup) -> bool:
    """Whether a group may be on a node."""
    labels: Mapping[str, str] = node.get("Labels") or {}
    if group.accelerator_type and f"accelerator_type:{group.accelerator_type}" not in node["Resources"]:
        return False
    return all(_selects(condition, labels.get(key)) for key, condition in group.label_selector.items())


def _selects(condition: str, value: str | None) -> bool:
    """Whether a node's label is as Ray's condition wants it: `a`, `!a`, `in(a, b)` or `!in(a, b)`."""
    wanted = condition.removeprefix("!")
    among = wanted[len("in(") : -1].split(",") if wanted.startswith("in(") else [wanted]
    return (value in [each.strip() for each in among]) != condition.startswith("!")


def tasks_at_once() -> int | None:
    """How many tasks that keep a core busy are worth running at once; None: as many as Ray has room for.

    CPUs are logical, and a Ray on one machine is often told of more than there are cores, so that everything has a
    place on it. Tasks beyond those cores only slow one another, and each takes a process that loads torch.
    """
    import ray

    return _tasks_at_once(alive_nodes(), ray.get_runtime_context().get_node_id(), os.cpu_count() or 1)


def _tasks_at_once(nodes: Sequence[Mapping[str, Any]], here: str, cores: int) -> int | None:
    if len(nodes) == 1 and nodes[0]["NodeID"] == here and nodes[0]["Resources"].get("CPU", 0) > cores:
        return cores + 1  # for the time between two tasks
    return None


def gpus_each(configured: float | None) -> float:
    """GPUs of an engine or a training worker: as configured, else one if the cluster has any."""
    if configured is not None:
        return configured
    import ray

    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def _quiet() -> None:
    """Fewer lines that tell a user nothing; set before Ray is imported."""
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # it shows each line of a worker twice
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
