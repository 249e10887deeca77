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

from tests.unit.cluster_files.openapi import check_object, load_definition

REPOSITORY = Path(__file__).parents[3]
CLUSTER = REPOSITORY / "cluster"
LAUNCHER = "aws.yaml"
"""The file for `ray up`."""
MANIFESTS = {
    "kuberay/raycluster.yaml": "ray.io_rayclusters.yaml",
    "kuberay/rayjob-run.yaml": "ray.io_rayjobs.yaml",
}
"""Each KubeRay manifest, and the file with the schema of its kind."""

_FREE_KEYS = re.compile(
    r"\.(labels|nodeSelector|limits|requests|available_node_types|(?<!containers\[0\]\.)resources)$"
)
"""Paths of mappings whose keys the user chooses: names of labels, of resources and of node types."""


def schemas() -> Path | None:
    """The directory of KubeRay's schemas, beside the test data; None if it is missing."""
    named = os.environ.get("LACLIP_TEST_DATA")
    data = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    directory = data.parent / "schemas"
    return directory if directory.is_dir() else None


def load(name: str) -> dict[str, Any]:
    """The content of a YAML file of `cluster/`."""
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
    """Check the content of a YAML file of `cluster/`, and return all problems.

    A manifest's check needs `schemas`, the launcher file's needs jsonschema, which Ray imports.
    """
    if name == LAUNCHER:
        return _launcher_problems(content)
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
    """What Ray refuses, and fields that Ray would hand on to AWS or ignore."""
    try:
        validate_config(prepare_config(copy.deepcopy(config)))
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - Ray and jsonschema raise what they like
        return [f"{type(error).__name__}: {error}"]
    found = [f"provider.{key}: unknown field" for key in config["provider"] if key not in _provider_fields()]
    for name, node_type in config["available_node_types"].items():
        request = {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}
        if report := ParamValidator().validate(request, _instance_request()).generate_report():
            found.append(f"available_node_types.{name}.node_config: {report}")
    return found


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


def misspelt(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Copies of a content, each with one field's name cut by its last letter, and the path of that field."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not _FREE_KEYS.search(path):
                yield f"{path}.{key}", {(name[:-1] if name == key else name): each for name, each in content.items()}
            for below, changed in misspelt(value, f"{path}.{key}"):
                yield below, {**content, key: changed}
    elif isinstance(content, list):
        for number, value in enumerate(content):
            for below, changed in misspelt(value, f"{path}[{number}]"):
                yield below, [*content[:number], changed, *content[number + 1 :]]
