"""All checks of a config, in order, and how they run."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial

from laclip_ray.cluster import Reservation, in_ray_job
from laclip_ray.config import Experiment, Inputs, RewriteConfig, StreamConfig, TrackConfig, TrainConfig, inputs_on_nodes
from laclip_ray.doctor import models, ports, space, stores, versions
from laclip_ray.doctor.engines import check_engine_arguments
from laclip_ray.doctor.locks import Lock, read_lock
from laclip_ray.doctor.machines import Machine, this_machine
from laclip_ray.doctor.ray_cluster import Cluster
from laclip_ray.doctor.results import Check, Finding, Result, passed, run_checks
from laclip_ray.ray_start import check_temporary_directory
from laclip_ray.tracking.choice import check_trackers
from laclip_ray.versions import package_versions

_IMPORT_S, _STORE_S = 300.0, 120.0
"""vLLM's first import takes minutes on a slow disk; a store with many files takes its time."""


def examine(experiment: Experiment, with_cluster: bool, begun: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Run every check.

    Args:
        experiment: the configuration.
        with_cluster: whether to join a cluster, or to start a local Ray.
        begun: called with the name of each check that begins.
    """
    here = Here()
    trackers = tracker_check(experiment.track, experiment.output)
    checks = [*version_checks(here), trackers, *store_checks(experiment), *model_checks(experiment)]
    if not os.environ.get("RAY_ADDRESS"):
        checks += local_checks(bool(experiment.ray.dashboard), here)
    if not with_cluster:
        return run_checks(checks, begun)
    rewrite, text, train = experiment.rewrite, experiment.text, experiment.train
    rewrites = rewrite.model is not None and (text.rewrites is None or not text.reads_rewrites)
    joined = Cluster(experiment.ray, rewrite, partial(_plan, rewrite, train, experiment.stream, rewrites))
    try:
        # Ray first: it reads its environment when it is imported, and vLLM imports it.
        inputs = inputs_on_nodes(experiment, "data", "model", *(["rewrite"] if rewrites else ["text"]))
        of_cluster = run_checks(cluster_checks(joined, here, outputs_of(experiment), inputs), begun)
        return [*run_checks(checks, begun), *of_cluster]
    finally:
        joined.leave()


def _plan(rewrite: RewriteConfig, train: TrainConfig, stream: StreamConfig, rewrites: bool) -> Sequence[Reservation]:
    from laclip_ray.onejob.resources import planned_reservations

    return planned_reservations(rewrite, train, stream, rewrites)


class Here:
    """This machine and its lock, looked at by the first check that needs them."""

    @cached_property
    def machine(self) -> Machine:
        """This machine."""
        return this_machine()

    @cached_property
    def lock(self) -> Lock:
        """The versions that it should have."""
        return read_lock(has_gpu_build="vllm" in self.machine.packages)


def version_checks(here: Here) -> list[Check]:
    """Python and packages against the lock."""
    remedy = "Install the lock in a new environment"
    return [
        Check("Python", lambda: versions.check_python(here.machine, here.lock), remedy),
        Check("packages", lambda: versions.check_packages(here.machine, here.lock), remedy),
    ]


def tracker_check(track: TrackConfig, output: str) -> Check:
    """The packages, credentials and directories of trackers on this machine."""

    def check() -> Finding:
        check_trackers(track, output)
        return passed(", ".join(track.report_to) or "none")

    return Check("trackers", check, "Correct track.report_to", _IMPORT_S)


def outputs_of(experiment: Experiment) -> dict[str, str]:
    """The outputs of all verbs that lie apart, by config key."""
    return stores.separate_outputs(
        {
            "output": experiment.output,
            "rewrite.output": experiment.rewrite_output,
            "train.output": experiment.train_output,
            "evaluate.output": experiment.evaluate_output,
            "tune.output": experiment.tune_output,
        }
    )


def store_checks(experiment: Experiment) -> list[Check]:
    """The data can be read; outputs can be written."""
    data = experiment.data
    checks = [Check("data", partial(stores.check_data, data), "Correct data.path, or give access to it", _STORE_S)]
    shared = experiment.ray.shared_paths
    for setting, url in outputs_of(experiment).items():
        remedy = f"Correct {setting}, or give access to it"
        output = stores.Output(setting, url, in_ray_job(), shared)
        for name, run in (
            ("place", output.check_place),
            ("write, read, list, delete", output.check_writes),
            ("conditional put", output.check_conditional_put),
            ("clock", output.check_clock),
        ):
            checks.append(Check(f"{setting}: {name}", run, remedy, _STORE_S))
    return checks


def model_checks(experiment: Experiment) -> list[Check]:
    """The models of the config, and the engine's arguments."""
    rewrite = experiment.rewrite
    encoder = partial(models.check_sentence_encoder, rewrite.gate.meaning, rewrite.model is not None)
    arguments = partial(check_engine_arguments, rewrite)
    return [
        Check("language model", partial(models.check_language_model, rewrite), "Correct rewrite.model", _STORE_S),
        Check("sentence encoder", encoder, "Correct rewrite.gate.meaning.model, or set it to null", _STORE_S),
        Check("CLIP model", partial(models.check_clip, experiment.model.name), "Correct model.name", _IMPORT_S),
        Check("engine arguments", arguments, "Correct rewrite.engine.args", _IMPORT_S),
    ]


def local_checks(dashboard: bool, here: Here) -> list[Check]:
    """Whether a Ray could work on this machine."""

    def store_bytes() -> int:
        return space.expected_store_bytes(here.machine)

    disk = "Give this user access to Ray's temporary directory"
    return [
        Check("Ray's directory", _check_temporary_directory, disk),
        Check("free disk", lambda: space.check_disk(here.machine, store_bytes()), disk),
        Check("shared memory", lambda: space.check_shared_memory(here.machine, store_bytes()), disk),
        Check("ports", partial(ports.check_ports, dashboard), "Let this user open ports"),
    ]


def _check_temporary_directory() -> Finding:
    check_temporary_directory()
    return passed("Ray can write there, and its sockets fit")


def cluster_checks(joined: Cluster, here: Here, outputs: Mapping[str, str], inputs: Inputs) -> list[Check]:
    """The cluster at `RAY_ADDRESS`, or a local Ray.

    Args:
        joined: not joined yet.
        here: this machine.
        outputs: directories or URLs by config key.
        inputs: paths and URLs that nodes read, each after its config key.
    """

    def check_versions() -> Finding:
        return joined.check_versions(here.machine, sorted(here.lock.versions) or sorted(package_versions()))

    checks: dict[str, Callable[[], Finding]] = {
        "Ray": joined.check_join,
        "nodes": joined.check_answers,
        "versions on nodes": check_versions,
        "room": joined.check_room,
        "outputs on nodes": partial(joined.check_outputs, outputs),
        "inputs on nodes": partial(joined.check_inputs, inputs),
    }
    if os.environ.get("RAY_ADDRESS"):
        checks |= {"space on nodes": joined.check_space, "language model on nodes": joined.check_model}
    # Without a time limit: they have their own, and Ray wants the main thread.
    return [Check(name, run, "Check RAY_ADDRESS and the cluster", None) for name, run in checks.items()]
