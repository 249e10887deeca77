"""The files of `cluster/`, a check of each, and copies with one misspelt field."""

import copy
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ray.autoscaler
import yaml
from botocore.model import Shape
from botocore.session import get_session
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.unit.cluster_files import documented
from tests.unit.cluster_files.openapi import Schema, check_object, check_value, load_definition

REPOSITORY = Path(__file__).parents[3]
CLUSTER = REPOSITORY / "cluster"
LAUNCHER = "aws.yaml"
"""The file for `ray up` on AWS."""
LAUNCHERS = (LAUNCHER, "gcp.yaml")
"""The files for `ray up`."""
JOBS = {verb: f"kuberay/rayjob-{verb}.yaml" for verb in ("rewrite", "train", "run", "tune")}
"""The manifest of each verb's job on a cluster that grows."""
CLUSTER_MANIFEST = "kuberay/raycluster.yaml"
QUEUED_JOB = "kuberay/rayjob-run-kueue.yaml"
"""The manifest of a job with a cluster of a fixed size."""
MANIFESTS = {
    CLUSTER_MANIFEST: "ray.io_rayclusters.yaml",
    **dict.fromkeys((*JOBS.values(), QUEUED_JOB), "ray.io_rayjobs.yaml"),
}
"""Each KubeRay manifest, and the file with the schema of its kind."""
SKYPILOT, PROMETHEUS, DASHBOARD = "skypilot.yaml", "prometheus.yaml", "grafana.json"
_DOCUMENTED: Mapping[str, Schema] = {
    SKYPILOT: documented.SKYPILOT_TASK,
    PROMETHEUS: documented.PROMETHEUS,
    DASHBOARD: documented.DASHBOARD,
}
"""Files that a schema written from their documentation checks."""
FILES = (*LAUNCHERS, *MANIFESTS, *_DOCUMENTED)
"""Every file of `cluster/` but the Dockerfile."""

_FREE_KEYS = re.compile(
    r"\.(labels|annotations|nodeSelector|limits|requests|file_mounts|available_node_types"
    r"|(?<!containers\[0\]\.)resources)$"
)
"""Paths of mappings whose keys the user chooses: names of labels, of resources and of node types."""
_FREE_KEYS_OF_TASKS = re.compile(r"\.(envs|secrets|accelerators)$")
"""The same in a task of SkyPilot."""


def schemas() -> Path | None:
    """The directory of KubeRay's schemas, beside the test data; None if it is missing."""
    named = os.environ.get("LACLIP_TEST_DATA")
    data = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    directory = data.parent / "schemas"
    return directory if directory.is_dir() else None


def load(name: str) -> dict[str, Any]:
    """The content of a YAML or JSON file of `cluster/`. JSON is YAML."""
    content: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return content


def cluster_spec(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The RayCluster spec of a RayCluster or a RayJob."""
    spec: dict[str, Any] = manifest["spec"]
    return spec["rayClusterSpec"] if manifest["kind"] == "RayJob" else spec


def locked_version(package: str) -> str:
    """The version of a package in requirements/gpu.lock."""
    line = re.search(rf"^{package}==(\S+)$", (REPOSITORY / "requirements" / "gpu.lock").read_text(), re.MULTILINE)
    assert line is not None
    return line[1]


def problems(name: str, content: dict[str, Any]) -> list[str]:
    """Check the content of a file of `cluster/`, and return all problems.

    A manifest's check needs `schemas`, a launcher file's needs jsonschema, which Ray imports.
    """
    if name in LAUNCHERS:
        return _launcher_problems(content)
    if name in _DOCUMENTED:
        return list(check_value(content, _DOCUMENTED[name], ""))
    directory = schemas()
    assert directory is not None
    definition = load_definition(directory / MANIFESTS[name])
    return check_object(content, definition) or _start_parameter_problems(content)


def _start_parameter_problems(manifest: Mapping[str, Any]) -> list[str]:
    """Parameters that `ray start` does not have. The schema takes any."""
    spec = cluster_spec(manifest)
    parameters = [
        key for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]) for key in group["rayStartParams"]
    ]
    return [f"rayStartParams.{key}: unknown field" for key in parameters if key not in _start_options()]


def _launcher_problems(config: dict[str, Any]) -> list[str]:
    """What Ray refuses, and fields that Ray would hand on to the cloud or ignore."""
    try:
        validate_config(prepare_config(copy.deepcopy(config)))
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - Ray and jsonschema raise what they like
        return [f"{type(error).__name__}: {error}"]
    found = [f"provider.{key}: unknown field" for key in config["provider"] if key not in _provider_fields()]
    for name, node_type in config["available_node_types"].items():
        path = f"available_node_types.{name}.node_config"
        if config["provider"]["type"] == "gcp":
            found += check_value(node_type["node_config"], documented.INSTANCE, path)
        elif report := _aws_report(node_type["node_config"]):
            found.append(f"{path}: {report}")
    return found


def _aws_report(node_config: Mapping[str, Any]) -> str:
    """What botocore refuses in the request that starts an instance; empty if nothing."""
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    return str(ParamValidator().validate(request, _instance_request()).generate_report())


@cache
def _start_options() -> frozenset[str]:
    """The options of `ray start`, without their dashes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's, which Ray's command line imports
        from ray.scripts.scripts import start

    return frozenset(option.lstrip("-") for parameter in start.params for option in parameter.opts)


@cache
def _provider_fields() -> frozenset[str]:
    """The fields of `provider` that Ray's schema lists. It takes any others too."""
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    return frozenset(schema["properties"]["provider"]["properties"])


@cache
def _instance_request() -> Shape:
    """The shape of the request that starts EC2 instances. `node_config` is a part of it."""
    return get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def misspelt(content: Any, free: re.Pattern[str] = _FREE_KEYS, path: str = "") -> Iterator[tuple[str, Any]]:
    """Copies of a content, each with one field's name cut by its last letter, and the path of that field.

    Args:
        content: parsed YAML.
        free: paths of mappings whose keys are no field names.
        path: of the content.
    """
    if isinstance(content, dict):
        for key, value in content.items():
            if not free.search(path):
                yield f"{path}.{key}", {(name[:-1] if name == key else name): each for name, each in content.items()}
            for below, changed in misspelt(value, free, f"{path}.{key}"):
                yield below, {**content, key: changed}
    elif isinstance(content, list):
        for number, value in enumerate(content):
            for below, changed in misspelt(value, free, f"{path}[{number}]"):
                yield below, [*content[:number], changed, *content[number + 1 :]]


def misspelt_copies(name: str) -> list[tuple[str, Any]]:
    """Copies of a file of `cluster/`, each with one misspelt field, and the path of that field."""
    return list(misspelt(load(name), _FREE_KEYS_OF_TASKS if name == SKYPILOT else _FREE_KEYS))


def without(content: Any, path: str) -> Any:
    """A copy of a content without the field at `path`, such as `.spec.groups[0].name`."""
    steps = [int(number) if number else key for key, number in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path)]
    copied = copy.deepcopy(content)
    holder = copied
    for step in steps[:-1]:
        holder = holder[step]
    del holder[steps[-1]]
    return copied
