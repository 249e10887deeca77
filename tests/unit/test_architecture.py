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


def loaded_by(name: str) -> set[str]:
    """Of Ray, vLLM and torch, those that a module loads."""
    program = f"import sys, laclip_ray.{name}; print(*{{'ray', 'vllm', 'torch'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", structure.PURE)
def test_a_pure_module_loads_neither_ray_nor_vllm_nor_torch(name: str) -> None:
    assert loaded_by(name) == set()


@pytest.mark.parametrize("name", structure.VERBS)
def test_what_a_verb_calls_loads_no_ray_before_its_environment_is_set(name: str) -> None:
    assert not {"ray", "vllm"} & loaded_by(name)


def test_no_module_is_longer_than_450_lines() -> None:
    assert structure.long_files(450) == {}


def test_few_functions_take_a_whole_experiment() -> None:
    assert len(structure.functions_of_experiments()) <= 60
