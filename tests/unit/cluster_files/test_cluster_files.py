"""Every file of `cluster/` is valid, names the Ray version of the lock, and no misspelt or missing field passes."""

import re
from typing import Any

import pytest

from tests.unit.cluster_files.checks import (
    CLUSTER,
    CLUSTER_MANIFEST,
    DASHBOARD,
    FILES,
    JOBS,
    LAUNCHER,
    LAUNCHERS,
    MANIFESTS,
    PROMETHEUS,
    REPOSITORY,
    SKYPILOT,
    cluster_spec,
    load,
    locked_version,
    misspelt_copies,
    problems,
    schemas,
    without,
)

WITH_IMAGE = (*LAUNCHERS, *MANIFESTS, SKYPILOT)
"""Files that name the image."""


def require_checker(name: str) -> None:
    """Skip a test of a file that cannot be checked here."""
    if name in LAUNCHERS:
        pytest.importorskip("jsonschema", reason="Ray checks launcher files with jsonschema")
    elif name in MANIFESTS and schemas() is None:
        pytest.skip("KubeRay's schemas are not beside the test data (LACLIP_TEST_DATA)")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_valid(name: str) -> None:
    require_checker(name)
    assert problems(name, load(name)) == []


@pytest.mark.parametrize("name", FILES)
def test_every_misspelt_field_is_caught(name: str) -> None:
    require_checker(name)
    copies = misspelt_copies(name)
    assert len(copies) >= 12
    assert [path for path, content in copies if not problems(name, content)] == []


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (CLUSTER_MANIFEST, ".spec.headGroupSpec.rayStartParams"),
        (CLUSTER_MANIFEST, ".spec.headGroupSpec.rayStartParams.num-cpus"),
        (CLUSTER_MANIFEST, ".spec.authOptions.mode"),
        (CLUSTER_MANIFEST, ".spec.workerGroupSpecs"),
        (CLUSTER_MANIFEST, ".spec.workerGroupSpecs[0].minReplicas"),
        (CLUSTER_MANIFEST, ".spec.workerGroupSpecs[0].template.spec.containers[0].resources.limits"),
        (CLUSTER_MANIFEST, ".spec.workerGroupSpecs[2].template.spec.volumes[0].emptyDir.sizeLimit"),
        (JOBS["run"], ".spec.rayClusterSpec.workerGroupSpecs[1].template.spec.tolerations[0].effect"),
        (JOBS["run"], ".spec.runtimeEnvYAML"),
        (LAUNCHER, ".available_node_types.engines.node_config.InstanceMarketOptions.MarketType"),
        (LAUNCHER, ".available_node_types.engines.min_workers"),
        (LAUNCHER, ".provider.cache_stopped_nodes"),
        (LAUNCHER, ".file_mounts"),
        (LAUNCHER, ".max_workers"),
        ("gcp.yaml", ".available_node_types.engines.node_config.scheduling.provisioningModel"),
        ("gcp.yaml", ".available_node_types.head.node_config.disks[0].initializeParams.sourceImage"),
        ("gcp.yaml", ".provider.project_id"),
        (SKYPILOT, ".resources.job_recovery.max_restarts_on_errors"),
        (PROMETHEUS, ".scrape_configs[1].http_sd_configs[0].authorization.credentials_file"),
        (PROMETHEUS, ".scrape_configs[0].relabel_configs[0].action"),
        (DASHBOARD, ".panels[7].targets[1].expr"),
    ],
)
def test_fields_of_every_level_are_among_the_misspelt_ones(name: str, field: str) -> None:
    assert field in dict(misspelt_copies(name))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (CLUSTER_MANIFEST, ".metadata.name"),
        (CLUSTER_MANIFEST, ".spec.headGroupSpec"),
        (CLUSTER_MANIFEST, ".spec.workerGroupSpecs[1].template"),
        *((name, ".spec.rayClusterSpec.workerGroupSpecs[0].groupName") for name in JOBS.values()),
        *((name, ".available_node_types.engines.resources") for name in LAUNCHERS),
        *((name, ".available_node_types.decode.node_config") for name in LAUNCHERS),
        ("gcp.yaml", ".available_node_types.decode.node_config.machineType"),
        (SKYPILOT, ".run"),
        (SKYPILOT, ".resources.job_recovery"),
        (PROMETHEUS, ".scrape_configs[0].job_name"),
        (DASHBOARD, ".panels[0].targets[0].expr"),
    ],
)
def test_a_missing_field_is_caught(name: str, field: str) -> None:
    require_checker(name)
    assert problems(name, without(load(name), field)) != []


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (CLUSTER_MANIFEST, "idleTimeoutSeconds", "300"),
        (LAUNCHER, "max_workers", "21"),
        ("gcp.yaml", "provisioningModel", "spot"),
        (SKYPILOT, "use_spot", "yes"),
        (PROMETHEUS, "action", "Keep"),
        (DASHBOARD, "graphTooltip", 3),
    ],
)
def test_a_wrong_value_is_caught(name: str, field: str, value: Any) -> None:
    require_checker(name)
    content = load(name)
    assert replaced(content, field, value) != content
    assert problems(name, replaced(content, field, value)) != []


def replaced(content: Any, field: str, value: Any) -> Any:
    """A copy with another value for every field of this name."""
    if isinstance(content, dict):
        return {key: value if key == field else replaced(each, field, value) for key, each in content.items()}
    return [replaced(each, field, value) for each in content] if isinstance(content, list) else content


@pytest.mark.parametrize("name", WITH_IMAGE)
def test_a_file_names_the_ray_version_of_the_lock(name: str) -> None:
    version = locked_version("ray")
    images = re.findall(r"laclip-ray:(\S+)", (CLUSTER / name).read_text())
    assert images
    assert set(images) == {f"ray-{version}"}
    if name in MANIFESTS:
        assert cluster_spec(load(name))["rayVersion"] == version


@pytest.mark.parametrize("name", ["Dockerfile", *FILES])
def test_no_file_names_a_package_index(name: str) -> None:
    assert not re.search(r"index-url|pypi|--index|find-links", (CLUSTER / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_a_secret(name: str) -> None:
    text = (CLUSTER / name).read_text()
    values = re.findall(r"(?:AWS_SECRET_ACCESS_KEY|AWS_ACCESS_KEY_ID|HF_TOKEN|RAY_AUTH_TOKEN)\s*[:=]\s*(\S+)", text)
    assert {value for value in values if not value.startswith(("...", "null", "$("))} == set()


def test_every_file_of_the_directory_is_checked() -> None:
    files = {path.relative_to(CLUSTER).as_posix() for path in CLUSTER.rglob("*") if path.is_file()}
    assert files == {*FILES, "Dockerfile", "Dockerfile.dockerignore"}


PAGE = REPOSITORY / "docs" / "clusters.md"


def test_the_page_names_every_file() -> None:
    text = PAGE.read_text()
    groups = {name.rpartition("/")[2].removesuffix(".yaml").replace("rayjob", "") for name in JOBS.values()}
    short = {f"`{group}`" for group in groups - {"-rewrite"}}
    named = {f"`{name}`" for name in (*FILES, "Dockerfile")} - {f"`{name}`" for name in JOBS.values()}
    assert {name for name in named | short | {f"`{JOBS['rewrite']}`"} if name not in text} == set()


def test_the_page_names_the_versions_of_the_files() -> None:
    text = PAGE.read_text()
    assert set(re.findall(r"laclip-ray:ray-([0-9.]+[0-9])", text)) == {locked_version("ray")}
    installed = {command.split()[-1] for name in LAUNCHERS for command in load(name)["head_setup_commands"]}
    assert set(re.findall(r"pip install (\S+==\S+)", text)) == installed
    assert f"fsspec {locked_version('fsspec')}" in text
