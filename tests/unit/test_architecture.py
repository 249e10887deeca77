"""Imports point one way, modules are small, and pure modules stay pure."""

import subprocess
import sys

import pytest

from tests import structure


@pytest.mark.parametrize("package", structure.LAYERS)
def test_every_part_of_a_package_has_a_layer(package: str) -> None:
    assert structure.parts_of(package) == frozenset().union(*structure.LAYERS[package])


@pytest.mark.parametrize("package", structure.LAYERS)
def test_no_part_imports_from_its_own_layer_or_above(package: str) -> None:
    assert structure.upward_imports(package) == []


def test_no_modules_import_one_another() -> None:
    assert structure.import_cycles() == []


def first_to_load(packages: set[str], names: tuple[str, ...]) -> str:
    """The first of some modules, imported in turn by one new process, with which a package is loaded; or nothing."""
    program = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(f"laclip_ray.{{name}}")
    if loaded := {packages} & {{*sys.modules}}:
        print(name, "loads", *loaded)
        break
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_pure_modules_load_neither_ray_nor_vllm_nor_torch() -> None:
    assert not first_to_load({"ray", "vllm", "torch"}, structure.PURE)


def test_what_verbs_call_loads_no_ray_before_its_environment_is_set() -> None:
    assert not first_to_load({"ray", "vllm"}, structure.VERBS)


def test_no_module_is_longer_than_450_lines() -> None:
    assert structure.long_files(450) == {}


def test_few_functions_take_a_whole_experiment() -> None:
    assert len(structure.functions_of_experiments()) <= 60
