"""The files of `cluster/` are valid, fit the configs, and name the Ray version of the lock."""

import copy
import re
import shlex
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from laclip_ray.cluster import ResourceGroup, count_fitting
from laclip_ray.config import load_experiment
from tests.unit.cluster_files.checks import (
    CLUSTER,
    LAUNCHER,
    MANIFESTS,
    REPOSITORY,
    cluster_spec,
    load,
    locked_version,
    misspelt,
    problems,
    schemas,
)

FILES = (LAUNCHER, *MANIFESTS)
GROUPS = {"engines", "training", "decoding"}


def require_checker(name: str) -> None:
    """Skip a test of a file that cannot be checked here."""
    if name == LAUNCHER:
        pytest.importorskip("jsonschema", reason="Ray checks launcher files with jsonschema")
    elif schemas() is None:
        pytest.skip("KubeRay's schemas are not beside the test data (LACLIP_TEST_DATA)")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_valid(name: str) -> None:
    require_checker(name)
    assert problems(name, load(name)) == []


@pytest.mark.parametrize("name", FILES)
def test_every_misspelt_field_is_caught(name: str) -> None:
    require_checker(name)
    copies = list(misspelt(load(name)))
    assert len(copies) > 50
    assert [path for path, content in copies if not problems(name, content)] == []


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("kuberay/raycluster.yaml", ".spec.headGroupSpec.rayStartParams"),
        ("kuberay/raycluster.yaml", ".spec.headGroupSpec.rayStartParams.num-cpus"),
        ("kuberay/raycluster.yaml", ".spec.workerGroupSpecs"),
        ("kuberay/raycluster.yaml", ".spec.workerGroupSpecs[0].minReplicas"),
        ("kuberay/raycluster.yaml", ".spec.workerGroupSpecs[0].template.spec.containers[0].resources.limits"),
        ("kuberay/rayjob-run.yaml", ".spec.rayClusterSpec.workerGroupSpecs[1].template.spec.tolerations[0].effect"),
        ("kuberay/rayjob-run.yaml", ".spec.runtimeEnvYAML"),
        (LAUNCHER, ".available_node_types.engines.node_config.InstanceMarketOptions.MarketType"),
        (LAUNCHER, ".available_node_types.engines.min_workers"),
        (LAUNCHER, ".provider.cache_stopped_nodes"),
        (LAUNCHER, ".max_workers"),
    ],
)
def test_fields_of_every_level_are_among_the_misspelt_ones(name: str, field: str) -> None:
    assert field in dict(misspelt(load(name)))


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_the_ray_version_of_the_lock(name: str) -> None:
    version = locked_version("ray")
    text = (CLUSTER / name).read_text()
    images = re.findall(r"laclip-ray:(\S+)", text)
    assert images
    assert set(images) == {f"ray-{version}"}
    if name in MANIFESTS:
        assert cluster_spec(load(name))["rayVersion"] == version


def test_the_launcher_installs_boto3_for_the_lock_s_botocore() -> None:
    assert load(LAUNCHER)["head_setup_commands"] == [f"pip install --user boto3=={locked_version('botocore')}"]


def test_the_image_is_built_from_the_lock_for_a_user_that_is_not_root() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    instructions = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert re.findall(r"^FROM (\S+)", instructions, re.MULTILINE) == ["python:3.11-slim-bookworm"]
    assert f"ARG RAY_VERSION={locked_version('ray')}\n" in instructions
    assert f"--tag REGISTRY/laclip-ray:ray-{locked_version('ray')} " in text
    installs = re.findall(r"uv pip install [^&\n]*", instructions)
    assert "--requirement requirements/gpu.lock" in installs[0]
    assert all("--no-deps" in install for install in installs)
    assert instructions.strip().endswith("\nUSER ray")
    for copied in re.findall(r"^COPY (.*) \S+$", instructions, re.MULTILINE):
        assert all((REPOSITORY / path).exists() for path in copied.split())


@pytest.mark.parametrize("name", ["Dockerfile", *FILES])
def test_no_file_names_a_package_index(name: str) -> None:
    assert not re.search(r"index-url|pypi|--index|find-links", (CLUSTER / name).read_text())


def test_the_job_has_the_cluster_of_the_cluster_manifest() -> None:
    assert cluster_spec(load("kuberay/rayjob-run.yaml")) == cluster_spec(load("kuberay/raycluster.yaml"))


def test_engines_alone_are_on_spot_nodes() -> None:
    launcher = load(LAUNCHER)
    markets = {
        name: node_type["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on-demand")
        for name, node_type in launcher["available_node_types"].items()
    }
    assert markets == {"head": "on-demand", "engines": "spot", "training": "on-demand", "decoding": "on-demand"}
    for group in cluster_spec(load("kuberay/raycluster.yaml"))["workerGroupSpecs"]:
        name = group["groupName"]
        selected = group["template"]["spec"]["nodeSelector"]["karpenter.sh/capacity-type"]
        assert group["labels"] == {"ray.io/market-type": selected} == launcher["available_node_types"][name]["labels"]
        assert selected == markets[name]


def node_types(name: str) -> dict[str, Any]:
    """The node types of a manifest, as Ray's autoscaler reads them."""
    manifest = {"metadata": {"namespace": "default", "name": "laclip"}, "spec": cluster_spec(load(name))}
    types: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(manifest)["available_node_types"]
    return types


def test_ray_s_autoscaler_reads_the_groups() -> None:
    pytest.importorskip("jsonschema", reason="Ray checks the manifest with jsonschema")
    types = node_types("kuberay/raycluster.yaml")
    assert types.keys() == {"headgroup", *GROUPS}
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["engines"]["resources"].items() >= {"GPU": 1, "accelerator_type:L4": 1}.items()
    assert types["training"]["resources"].items() >= {"GPU": 8, "accelerator_type:H100": 1}.items()
    assert "GPU" not in types["decoding"]["resources"]


def test_the_job_s_command_fits_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jsonschema", reason="Ray checks the manifest with jsonschema")
    spec = load("kuberay/rayjob-run.yaml")["spec"]
    for key, value in yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"].items():
        monkeypatch.setenv(key, value)
    python, script, config, *overrides = shlex.split(spec["entrypoint"])
    assert (python, script) == ("python", "jobs/run.py")
    experiment = load_experiment(str(REPOSITORY / config), overrides)
    engine, train = experiment.rewrite.engine, experiment.train
    assert experiment.ray.autoscaling
    groups = {
        "engines": ResourceGroup(
            "engines",
            engine.actors.max,
            engine.cpus_per_actor,
            engine.gpus_per_actor,
            accelerator_type=engine.accelerator_type,
            label_selector=engine.label_selector,
        ),
        "training": ResourceGroup(
            "workers",
            train.worker_range.max,
            train.cpus_per_worker,
            train.gpus_per_worker,
            accelerator_type=train.accelerator_type,
            label_selector=train.label_selector,
        ),
    }
    nodes: dict[str, list[dict[str, Any]]] = {
        name: [{"Resources": each["resources"], "Labels": each["labels"]}] * each["max_workers"]
        for name, each in node_types("kuberay/rayjob-run.yaml").items()
    }
    for name, group in groups.items():
        rooms = {other: count_fitting(group, nodes[other], group.processes) for other in nodes}
        assert rooms == {**dict.fromkeys(nodes, 0), name: group.processes}


def test_the_launcher_s_limit_is_the_sum_of_its_types() -> None:
    launcher = copy.deepcopy(load(LAUNCHER))
    assert launcher["available_node_types"].keys() == {"head", *GROUPS}
    assert launcher["max_workers"] == sum(launcher["available_node_types"][name]["max_workers"] for name in GROUPS)
