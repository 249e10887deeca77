"""Versions are compared with the lock, and with the other nodes."""

from dataclasses import replace

from laclip_ray.doctor.versions import check_nodes, check_packages, check_python
from tests.unit.doctor.machines import LOCK, MACHINE, PACKAGES, machine


def test_an_environment_from_the_lock_passes() -> None:
    assert check_python(MACHINE, LOCK).outcome == "passed"
    assert check_packages(MACHINE, LOCK).detail == "2 packages have the versions of requirements/cpu.lock"


def test_another_python_fails() -> None:
    found = check_python(machine(python="3.13.1"), LOCK)
    assert found.outcome == "failed"
    assert found.detail == "3.13.1 is not supported (supported: >=3.11,<3.13)"


def test_another_version_is_named_with_both() -> None:
    found = check_packages(machine(packages={**PACKAGES, "torch": "2.13.0+cpu"}), LOCK)
    assert found.outcome == "failed"
    assert found.detail.startswith("other versions: torch 2.13.0+cpu instead of 2.13.0 (compared with requirements/")
    assert "uv pip install --no-deps -r requirements/gpu.lock" in found.remedy


def test_a_missing_package_fails_only_if_it_is_required() -> None:
    without_torch = machine(packages={"ray": "2.60.0"})
    assert check_packages(without_torch, LOCK).detail.startswith("missing: torch")
    assert check_packages(without_torch, replace(LOCK, required=frozenset({"ray"}))).outcome == "passed"


def test_further_packages_do_not_matter() -> None:
    assert check_packages(machine(packages={**PACKAGES, "other": "1"}), LOCK).outcome == "passed"


def test_equal_nodes_pass() -> None:
    assert check_nodes(MACHINE, {"10.0.0.1": MACHINE, "10.0.0.2": MACHINE}, ["ray", "torch"]).outcome == "passed"


def test_each_node_that_differs_is_named() -> None:
    nodes = {
        "10.0.0.1": MACHINE,
        "10.0.0.2": machine(python="3.12.1", packages={"ray": "2.60.0"}),
        "10.0.0.3": machine(packages={**PACKAGES, "torch": "2.12.0"}),
    }
    found = check_nodes(MACHINE, nodes, ["ray", "torch", "not here"])
    assert found.outcome == "failed"
    assert found.detail == (
        "10.0.0.2: Python 3.12.1 (here 3.11.9), torch missing (here 2.13.0); 10.0.0.3: torch 2.12.0 (here 2.13.0)"
    )
