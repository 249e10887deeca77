"""Connect to Ray, and refuse reservations that would hang on the cluster.

Checks compare logical CPUs, GPUs and nodes as Ray counts them. They do not know what other jobs hold.
"""

import itertools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from laclip_ray import progress, storage
from laclip_ray.config import Inputs, RayConfig
from laclip_ray.endings import signals
from laclip_ray.endings.job_log import JOB_VARIABLE
from laclip_ray.endings.job_log import in_ray_job as in_ray_job
from laclip_ray.errors import UserError
from laclip_ray.local_outputs import check_writable
from laclip_ray.node_labels import admits_labels, autoscaler_knows_labels, needed_labels
from laclip_ray.progress.messages import WorkBegan
from laclip_ray.ray_start import start_or_join

logger = logging.getLogger(__name__)

_IDLE_PROCESS_MS = 60_000
"""How long Ray keeps an idle worker process, in ms. With Ray's default (1 s), workers restart constantly while reading
and rewriting alternate, and each restart imports torch again."""

_TRAINING_VERBS = frozenset({"train", "run", "tune"})

_ROUNDING = 1e-9
"""Tolerance for sums of fractional CPUs and GPUs."""

_PREEMPTION_LOOK_S = 1
"""How often Ray Train asks Ray whether nodes of its workers will be taken away. Its default of 5 s is half of a short
notice."""

_ENVIRONMENT = {
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": str(_PREEMPTION_LOOK_S),
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS_ALLOW_REGEX": progress.MARK,  # each engine's progress counts, however alike the lines are
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # the patch prints each line of a worker twice
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Ray's settings, most of which silence messages without use to a user. They take effect before Ray is imported."""


@dataclass(frozen=True)
class ResourceGroup:
    """Processes of one kind, such as engines or training workers."""

    name: str
    """Plural, for messages: `engines`."""
    processes: int
    """Number of processes."""
    cpus: float
    """Logical CPUs reserved for each process."""
    gpus: float | None = 0.0
    """GPUs reserved for each process. None: one if the cluster has GPUs, else none."""
    min_processes: int | None = None
    """Number of processes that work can start with. None: all."""
    accelerator_type: str | None = None
    """Place processes only on nodes with this accelerator."""
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Place processes only on nodes with these labels."""

    @property
    def required_processes(self) -> int:
        """Number of processes without which work cannot start."""
        return self.processes if self.min_processes is None else self.min_processes


@dataclass(frozen=True)
class Reservation:
    """Resources that a verb holds on the cluster at the same time."""

    verb: str
    groups: tuple[ResourceGroup, ...]
    data_cpus: int = 1
    """Logical CPUs for Ray Data's tasks, on top of the groups."""

    @property
    def trains(self) -> bool:
        """Whether Ray Train runs, now or later on the same Ray."""
        return self.verb in _TRAINING_VERBS

    @property
    def cpus(self) -> float:
        """Logical CPUs in total."""
        return sum(group.processes * group.cpus for group in self.groups) + self.data_cpus


def connect(settings: RayConfig, reservation: Reservation, outputs: Mapping[str, str], inputs: Inputs = ()) -> None:
    """Connect to the cluster at `RAY_ADDRESS`, or start a local Ray, after checking reservation, outputs and inputs.

    Args:
        settings: the section `ray` of the config.
        reservation: resources that the verb will hold.
        outputs: every output directory or URL, by config key.
        inputs: every path or URL that tasks and actors read.

    Raises:
        UserError: the reservation does not fit, an output would be lost, or nodes may not see an input.
        SurroundingsError: an output cannot be written, or Ray cannot be started or joined.
    """
    for setting, url in outputs.items():
        storage.check_output(url, setting, in_ray_job(), 1, settings.shared_paths)
    check_local(settings, reservation)
    check_writable(outputs)
    if join(settings, reservation):
        _interrupt_on_sigterm()
    import ray

    nodes = alive_nodes()
    check_seen_by_nodes(settings, outputs, inputs, len(nodes))
    _check_cluster(reservation, ray.cluster_resources(), nodes, settings.autoscaling)
    progress.tell(WorkBegan())


def check_seen_by_nodes(settings: RayConfig, outputs: Mapping[str, str], inputs: Inputs, nodes: int) -> None:
    """Refuse local outputs and inputs that other nodes of the cluster may not see.

    A submitted job's package is on every node, so inputs in it pass.

    Args:
        settings: the section `ray` of the config.
        outputs: directories or URLs, by config key.
        inputs: paths and URLs, each after its config key.
        nodes: nodes of the cluster now.

    Raises:
        UserError: with the config key and the path.
    """
    node_count = None if settings.autoscaling else nodes
    for setting, url in outputs.items():
        storage.check_output(url, setting, in_ray_job(), node_count, settings.shared_paths)
    for setting, url in inputs:
        storage.check_seen(url, setting, node_count, [*settings.shared_paths, *_package_directories()])


def _package_directories() -> list[str]:
    """The directory of a submitted job's package (`ray job submit --working-dir`), which Ray unpacks on every node."""
    environment = json.loads(os.environ.get(JOB_VARIABLE) or "{}").get("runtime_env") or {}
    return [str(Path.cwd())] if environment.get("working_dir") else []


def join(settings: RayConfig, reservation: Reservation) -> bool:
    """Join the cluster at `RAY_ADDRESS`, or start a local Ray that holds the reservation's CPUs. Checks nothing.

    Returns:
        False if this process is connected already.

    Raises:
        SurroundingsError: Ray cannot be started or joined.
    """
    if _is_connected():
        return False
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if address := os.environ.get("RAY_ADDRESS"):
        with progress.phase(f"joining the Ray cluster at {address}"):
            start_or_join(address)
        return True
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(_IDLE_PROCESS_MS))
    cpus = _local_cpus(settings, reservation)
    dashboard = reservation.trains if settings.dashboard is None else settings.dashboard
    with progress.phase("starting Ray on this machine"):
        start_or_join(None, num_cpus=cpus, include_dashboard=dashboard)
    return True


def _check_cluster(
    reservation: Reservation, resources: Mapping[str, float], nodes: Sequence[Mapping[str, Any]], autoscaling: bool
) -> None:
    """Refuse a reservation that the cluster cannot hold. If it autoscales, only warn."""
    if autoscaling:
        check_gpus_are_known(reservation, resources.get("GPU", 0))
    try:
        check_fits(reservation, resources, nodes)
    except UserError as error:
        if not autoscaling:
            raise
        check_labels_can_join(reservation, nodes)
        logger.warning("waiting for the cluster to grow: %s", error)


def check_labels_can_join(reservation: Reservation, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse groups that wait for nodes with labels where Ray's autoscaler asks for nodes without regard to labels.

    Args:
        reservation: resources that a verb will hold.
        nodes: as `ray.nodes()` describes them.

    Raises:
        UserError: with the group, its labels and the reason.
    """
    for group in reservation.groups:
        labels = needed_labels(group.label_selector)
        required = group.required_processes
        fitting = count_fitting(group, nodes, required)
        if not labels or fitting >= required or autoscaler_knows_labels():
            continue
        conditions = " and ".join(f"{key}: {value}" for key, value in labels.items())
        raise UserError(
            f"laclip {reservation.verb} needs {required} {group.name} on nodes with the label {conditions}; there is "
            f"room for {fitting}, and no such node will join: this cluster runs Ray's autoscaler v1 or none, and v1 "
            "knows no labels. Start its head with RAY_enable_autoscaler_v2=1 (KubeRay: autoscalerOptions.version: v2), "
            "start such nodes first, or choose nodes by accelerator_type instead of label_selector"
        )


def check_fits(reservation: Reservation, resources: Mapping[str, float], nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a reservation that the cluster, as it is now, cannot hold.

    Args:
        reservation: resources that a verb will hold.
        resources: of the whole cluster, as `ray.cluster_resources()` gives them.
        nodes: as `ray.nodes()` describes them.

    Raises:
        UserError: with the arithmetic.
    """
    check_cpus(reservation, resources.get("CPU", 0), "the cluster")
    check_gpus(reservation, resources.get("GPU", 0))
    check_nodes(reservation, nodes)


def check_local(settings: RayConfig, reservation: Reservation) -> None:
    """Refuse a reservation that a Ray started by this process cannot hold. Needs only the config.

    Raises:
        UserError: with the arithmetic.
    """
    if not os.environ.get("RAY_ADDRESS"):
        check_cpus(reservation, _local_cpus(settings, reservation), "ray.local_cpus")


def _local_cpus(settings: RayConfig, reservation: Reservation) -> int:
    """Logical CPUs of a Ray that this process starts."""
    return settings.local_cpus or max(os.cpu_count() or 1, int(reservation.cpus + 1))


def _is_connected() -> bool:
    """Whether this process is connected to a Ray. Does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _interrupt_on_sigterm() -> None:
    """Handle SIGTERM like Ctrl-C in programs without a watch on signals: work in flight is dropped.

    `ray.init` has set a handler that exits with the signal's number.
    """
    if not signals.is_watched() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def check_cpus(reservation: Reservation, available: float, location: str) -> None:
    """Refuse a reservation of more logical CPUs than there are.

    Args:
        reservation: resources that a verb will hold.
        available: logical CPUs.
        location: whose CPUs they are, for the message.

    Raises:
        UserError: with the arithmetic.
    """
    if reservation.cpus > available:
        terms = [f"{group.processes} {group.name} x {group.cpus:g}" for group in reservation.groups if group.processes]
        raise UserError(
            f"laclip {reservation.verb} needs {reservation.cpus:g} CPUs: {' + '.join(terms)} reserved, and "
            f"{reservation.data_cpus} for Ray Data's tasks, without which the run would hang; {location} has "
            f"{available:g}. Use fewer processes or give more CPUs (they are logical: several may share a core)"
        )


def check_gpus(reservation: Reservation, available: float) -> None:
    """Refuse a reservation of more GPUs at once than the cluster has.

    Raises:
        UserError: with the arithmetic.
    """
    required, terms = _gpus_at_once(reservation.groups)
    if required > available:
        raise UserError(
            f"laclip {reservation.verb} needs {required:g} GPUs at once: {terms}; the cluster has {available:g}. Use "
            "fewer processes, or set ray.autoscaling=true if the cluster grows on demand"
        )


def _gpus_at_once(groups: Sequence[ResourceGroup]) -> tuple[float, str]:
    """The GPUs without which groups cannot start, and the sum written out."""
    required = [(group.name, group.required_processes, gpus_per_process(group.gpus)) for group in groups]
    terms = [f"{processes} {name} x {gpus:g}" for name, processes, gpus in required if processes * gpus]
    return sum(processes * gpus for _, processes, gpus in required), " + ".join(terms)


def check_gpus_are_known(reservation: Reservation, available: float) -> None:
    """Refuse to decide by the present cluster whether to use GPUs, if no GPU has joined yet and it grows on demand.

    Raises:
        UserError: with the groups whose GPUs are not configured.
    """
    unknown = [group.name for group in reservation.groups if group.processes and group.gpus is None]
    if unknown and not available:
        raise UserError(
            f"ray.autoscaling: true, and the cluster has no GPU yet, so {' and '.join(unknown)} would do without; "
            "set train.gpus_per_worker and rewrite.engine.gpus_per_actor: 1 if nodes with GPUs will join, else 0"
        )


def check_nodes(reservation: Reservation, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse groups that do not fit on the nodes that admit them, each alone or in its GPUs together with others.

    Args:
        reservation: resources that a verb will hold.
        nodes: as `ray.nodes()` describes them.

    Raises:
        UserError: with the arithmetic.
    """
    for group in reservation.groups:
        _check_group(reservation.verb, group, nodes)
    with_gpus = [group for group in reservation.groups if _gpus_at_once([group])[0]]
    for size in range(2, len(with_gpus) + 1):
        for groups in itertools.combinations(with_gpus, size):
            _check_shared_gpus(reservation.verb, groups, nodes)


def _check_group(verb: str, group: ResourceGroup, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a group that would not fit even if it had the cluster for itself."""
    fitting = count_fitting(group, nodes, group.required_processes)
    if fitting >= group.required_processes:
        return
    conditions = [f"accelerator_type {group.accelerator_type}"] if group.accelerator_type else []
    conditions += [f"label {key}: {value}" for key, value in group.label_selector.items()]
    kind = f"nodes with {' and '.join(conditions)}" if conditions else "nodes"
    admitting = sum(admits(node, group) for node in nodes)
    raise UserError(
        f"laclip {verb} needs room for {group.required_processes} {group.name}, each with {group.cpus:g} CPUs and "
        f"{gpus_per_process(group.gpus):g} GPUs of one node; the cluster has {admitting} {kind} (of {len(nodes)}), "
        f"with room for {fitting}. Use smaller or fewer ones, or set ray.autoscaling=true if such nodes join on demand"
    )


def _check_shared_gpus(verb: str, groups: Sequence[ResourceGroup], nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse groups that need more GPUs together than the nodes that admit any of them have."""
    required, terms = _gpus_at_once(groups)
    shared = [node for node in nodes if any(admits(node, group) for group in groups)]
    available = sum(node["Resources"].get("GPU", 0.0) for node in shared)
    if required > available:
        raise UserError(
            f"laclip {verb} needs {required:g} GPUs at once: {terms}; the {len(shared)} nodes (of {len(nodes)}) that "
            f"admit them have {available:g}. Use fewer processes, or other nodes (accelerator_type, label_selector), "
            "or set ray.autoscaling=true if such nodes join on demand"
        )


def alive_nodes() -> list[Mapping[str, Any]]:
    """The alive nodes of the cluster, as `ray.nodes()` describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def count_fitting(group: ResourceGroup, nodes: Sequence[Mapping[str, Any]], most: int) -> int:
    """How many processes of a group, up to `most`, fit on the nodes if they are otherwise empty."""
    group = replace(group, gpus=gpus_per_process(group.gpus))  # asks the cluster once instead of for each node
    return min(most, sum(count_fitting_in(node["Resources"], group, most) for node in nodes if admits(node, group)))


def count_fitting_in(resources: Mapping[str, float], group: ResourceGroup, most: int) -> int:
    """How many processes of a group, up to `most`, fit in the CPUs and GPUs of `resources`."""
    gpus = gpus_per_process(group.gpus)
    bounds = [most]
    if group.cpus:
        bounds.append(int(resources.get("CPU", 0.0) / group.cpus + _ROUNDING))
    if gpus:
        # Ray takes a fraction of a GPU from one GPU.
        per_gpu = int(1 / gpus + _ROUNDING) if gpus < 1 else 1 / gpus
        bounds.append(int(resources.get("GPU", 0.0) * per_gpu + _ROUNDING))
    return min(bounds)


def nodes_without(
    group: ResourceGroup, processes: int, nodes: Sequence[Mapping[str, Any]], other: ResourceGroup | None = None
) -> list[Mapping[str, Any]]:
    """The nodes, less the CPUs and GPUs that this many processes of a group take.

    Nodes that do not admit `other` are filled first, so the most room remains for it.
    """
    group = replace(group, gpus=gpus_per_process(group.gpus))
    remaining: list[Mapping[str, Any]] = []
    for node in sorted(nodes, key=lambda node: other is not None and admits(node, other)):
        resources = dict(node["Resources"])
        if admits(node, group):
            placed = count_fitting_in(resources, group, processes)
            processes -= placed
            for name, per_process in (("CPU", group.cpus), ("GPU", group.gpus or 0.0)):
                resources[name] = resources.get(name, 0.0) - placed * per_process
        remaining.append({**node, "Resources": resources})
    return remaining


def admits(node: Mapping[str, Any], group: ResourceGroup) -> bool:
    """Whether a node has the group's accelerator and labels."""
    if group.accelerator_type and f"accelerator_type:{group.accelerator_type}" not in node["Resources"]:
        return False
    return admits_labels(node.get("Labels") or {}, group.label_selector)


def tasks_at_once() -> int | None:
    """Upper bound on useful parallel CPU-bound tasks; None: only Ray's own bound.

    CPUs are logical, and a local Ray often has more of them than the machine has cores, which lets everything fit.
    More tasks than cores slow each other down, and each takes a process that imports torch.
    """
    import ray

    return _tasks_at_once(alive_nodes(), ray.get_runtime_context().get_node_id(), os.cpu_count() or 1)


def _tasks_at_once(nodes: Sequence[Mapping[str, Any]], node_id: str, cores: int) -> int | None:
    if len(nodes) == 1 and nodes[0]["NodeID"] == node_id and nodes[0]["Resources"].get("CPU", 0) > cores:
        return cores + 1  # one more keeps the cores busy between two tasks
    return None


def gpus_per_process(configured: float | None) -> float:
    """GPUs for an engine or a training worker: as configured, else one if the cluster has any."""
    if configured is not None:
        return configured
    import ray

    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
