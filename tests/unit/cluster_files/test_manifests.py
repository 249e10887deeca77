"""The manifests for KubeRay: groups, commands, memory, grace periods and tokens fit together."""

import re
import shlex
from typing import Any

import pytest
import yaml
from ray._private import ray_constants
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from laclip_ray.cluster import Reservation, ResourceGroup, check_nodes, count_fitting
from laclip_ray.config import Experiment, load_experiment
from laclip_ray.training.run import worker_group
from tests.unit.cluster_files.checks import (
    CLUSTER_MANIFEST,
    JOBS,
    MANIFESTS,
    QUEUED_JOB,
    REPOSITORY,
    cluster_spec,
    load,
)

GROUPS = {"engines", "train", "decode"}
HALVES = {"rewrite": {"engines"}, "train": {"train"}, "run": {"engines", "train"}, "tune": {"train"}}
"""By verb, the groups with GPUs that its processes take."""
GIB = 1 << 30


def pods(name: str) -> dict[str, dict[str, Any]]:
    """The pod of each group of a manifest."""
    spec = cluster_spec(load(name))
    groups = {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}
    return {group: content["template"]["spec"] for group, content in groups.items()}


def memory_gib(quantity: str) -> int:
    """A quantity such as `26Gi`, in GiB."""
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


def node_types(name: str) -> dict[str, Any]:
    """The node types of a manifest, as Ray's autoscaler reads them."""
    pytest.importorskip("jsonschema", reason="Ray checks the manifest with jsonschema")
    manifest = {"metadata": {"namespace": "default", "name": "laclip"}, "spec": cluster_spec(load(name))}
    types: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(manifest)["available_node_types"]
    return types


def nodes(name: str) -> dict[str, list[dict[str, Any]]]:
    """The nodes of each group at its largest, as `ray.nodes()` would describe them."""
    return {
        group: [{"Resources": each["resources"], "Labels": each["labels"]}] * each["max_workers"]
        for group, each in node_types(name).items()
    }


def command(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Experiment]:
    """The script of a job, and its experiment."""
    spec = load(name)["spec"]
    for key, value in yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"].items():
        monkeypatch.setenv(key, value)
    python, script, config, *overrides = shlex.split(spec["entrypoint"])
    assert python == "python"
    assert (REPOSITORY / script).is_file()
    return script, load_experiment(str(REPOSITORY / config), overrides)


def processes(experiment: Experiment) -> dict[str, ResourceGroup]:
    """The most engines and workers of an experiment, by the group of nodes that they belong to."""
    engine = experiment.rewrite.engine
    engines = ResourceGroup(
        "engines",
        engine.actors.max,
        engine.cpus_per_actor,
        engine.gpus_per_actor,
        accelerator_type=engine.accelerator_type,
        label_selector=engine.label_selector,
    )
    return {"engines": engines, "train": worker_group(experiment.train)}


@pytest.mark.parametrize(("verb", "name"), JOBS.items())
def test_a_job_has_groups_of_the_cluster_manifest_that_it_needs(verb: str, name: str) -> None:
    job, cluster = cluster_spec(load(name)), cluster_spec(load(CLUSTER_MANIFEST))
    assert {group["groupName"] for group in job["workerGroupSpecs"]} == {*HALVES[verb], "decode"}
    kept = [group for group in cluster["workerGroupSpecs"] if group["groupName"] in {*HALVES[verb], "decode"}]
    assert job == {**cluster, "workerGroupSpecs": kept}


@pytest.mark.parametrize(("verb", "name"), JOBS.items())
def test_a_job_s_processes_fit_its_groups_and_no_others(verb: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, experiment = command(name, monkeypatch)
    assert script == f"jobs/{verb}.py"
    assert experiment.ray.autoscaling
    groups = processes(experiment)
    for kind in HALVES[verb]:
        group = groups[kind]
        rooms = {other: count_fitting(group, each, group.processes) for other, each in nodes(name).items()}
        assert rooms == {**dict.fromkeys(rooms, 0), kind: group.processes}


def test_a_sweep_trains_as_many_runs_at_a_time_as_its_group_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    _, experiment = command(JOBS["tune"], monkeypatch)
    workers, train_nodes = worker_group(experiment.train), nodes(JOBS["tune"])["train"]
    assert experiment.tune.max_concurrent_runs == count_fitting(workers, train_nodes, 100) // workers.processes


def test_a_sweep_has_something_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    _, experiment = command(JOBS["tune"], monkeypatch)
    assert experiment.evaluate.labelled


@pytest.mark.parametrize("name", [*JOBS.values(), QUEUED_JOB])
def test_a_failed_job_is_repeated_on_a_new_cluster_into_the_same_output(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load(name)["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]
    _, experiment = command(name, monkeypatch)
    assert experiment.output.startswith("s3://")


def test_a_queued_job_has_a_queue_and_a_fixed_size() -> None:
    manifest = load(QUEUED_JOB)
    assert manifest["metadata"]["labels"].keys() == {"kueue.x-k8s.io/queue-name"}
    spec = cluster_spec(manifest)
    assert "enableInTreeAutoscaling" not in spec
    for group in spec["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] > 0


def test_a_queued_job_s_groups_differ_from_the_cluster_manifest_s_in_size_only() -> None:
    cluster = {group["groupName"]: group for group in cluster_spec(load(CLUSTER_MANIFEST))["workerGroupSpecs"]}
    sizes = ("replicas", "minReplicas", "maxReplicas")
    for group in cluster_spec(load(QUEUED_JOB))["workerGroupSpecs"]:
        listed = cluster[group["groupName"]]
        assert {key: value for key, value in group.items() if key not in sizes} == {
            key: value for key, value in listed.items() if key not in sizes
        }


def test_a_queued_job_s_halves_fit_its_gpus_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    script, experiment = command(QUEUED_JOB, monkeypatch)
    assert script == "jobs/run.py"
    assert experiment.rewrite.delivery == "ahead"
    assert not experiment.ray.autoscaling
    every = [node for group in nodes(QUEUED_JOB).values() for node in group]
    gpus = sum(node["Resources"].get("GPU", 0) for node in every)
    for group in processes(experiment).values():
        check_nodes(Reservation("run", (group,)), every)
        assert group.processes * (group.gpus or 0) == gpus


def test_engines_alone_are_on_spot_nodes() -> None:
    selected = {
        group: pod["nodeSelector"]["karpenter.sh/capacity-type"] for group, pod in pods(CLUSTER_MANIFEST).items()
    }
    assert selected == {"head": "on-demand", "engines": "spot", "train": "on-demand", "decode": "on-demand"}
    for group in cluster_spec(load(CLUSTER_MANIFEST))["workerGroupSpecs"]:
        assert group["labels"] == {"ray.io/market-type": selected[group["groupName"]]}


def test_ray_s_autoscaler_reads_the_groups() -> None:
    types = node_types(CLUSTER_MANIFEST)
    assert types.keys() == {"headgroup", *GROUPS}
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["engines"]["resources"].items() >= {"GPU": 1, "accelerator_type:L4": 1}.items()
    assert types["train"]["resources"].items() >= {"GPU": 8, "accelerator_type:H100": 1}.items()
    assert "GPU" not in types["decode"]["resources"]


@pytest.mark.parametrize("name", [CLUSTER_MANIFEST, *JOBS.values()])
def test_a_growing_cluster_has_the_autoscaler_that_knows_labels(name: str) -> None:
    spec = cluster_spec(load(name))
    assert spec["enableInTreeAutoscaling"]
    assert spec["autoscalerOptions"]["version"] == "v2"


@pytest.mark.parametrize("name", MANIFESTS)
def test_ray_s_object_store_fits_in_the_memory_of_each_pod(name: str) -> None:
    for pod in pods(name).values():
        (container,), (volume,) = pod["containers"], pod["volumes"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]  # noqa: S108
        assert volume["emptyDir"]["medium"] == "Memory"
        shared = memory_gib(volume["emptyDir"]["sizeLimit"]) * GIB
        memory = memory_gib(container["resources"]["limits"]["memory"]) * GIB
        wanted = min(
            memory * ray_constants.DEFAULT_OBJECT_STORE_MEMORY_PROPORTION,
            ray_constants.DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES,
        )
        assert wanted < 0.95 * shared < memory / 2  # Ray leaves 5 % of /dev/shm free


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_pod_ends_after_ray_has_drained_its_node(name: str) -> None:
    for group, pod in pods(name).items():
        variables = {each["name"]: each["value"] for each in pod["containers"][0].get("env", [])}
        drain_s = float(
            variables.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", ray_constants.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S)
        )
        assert ("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" in variables) == (group != "head")
        assert pod["terminationGracePeriodSeconds"] >= drain_s + 30


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_run_as_a_user_that_is_not_root_and_get_secrets_by_reference(name: str) -> None:
    for pod in pods(name).values():
        (container,) = pod["containers"]
        assert pod["securityContext"] == {"runAsNonRoot": True}
        assert container["envFrom"] == [{"secretRef": {"name": "laclip-credentials", "optional": True}}]


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_cluster_asks_for_tokens(name: str) -> None:
    assert cluster_spec(load(name))["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_accepts_the_name(name: str) -> None:
    # A DNS label of at most 53 letters, and 47 for a job, whose clusters' names are longer (KubeRay 1.7).
    metadata = load(name)["metadata"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", metadata["name"])
    assert len(metadata["name"]) <= 47
