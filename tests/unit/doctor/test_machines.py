"""What this machine has."""

import pickle
import platform
from pathlib import Path

import pytest

from laclip_ray.doctor.machines import installed_packages, this_machine


def test_this_machine_has_its_versions_and_its_room() -> None:
    machine = this_machine()
    assert machine.python == platform.python_version()
    assert machine.packages["pytest"] == pytest.__version__
    assert 0 < machine.temporary.free_bytes <= machine.temporary.total_bytes
    assert machine.memory_bytes > 2**28


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_the_disk_is_that_of_rays_directory(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "not" / "yet"))
    assert this_machine().temporary.path == str(tmp_path / "not" / "yet")


def test_a_damaged_installation_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert "pytest" in installed_packages()


def test_a_machine_travels_from_a_node() -> None:
    machine = this_machine()
    assert pickle.loads(pickle.dumps(machine)) == machine  # noqa: S301
