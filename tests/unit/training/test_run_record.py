"""A run is known again by its record."""

import json
from pathlib import Path

import pytest

from laclip_ray.config import Experiment, parse_experiment, with_absolute_paths
from laclip_ray.errors import UserError
from laclip_ray.models.specs import load_model_spec
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run_record import check_record, write_record
from tests.integration.conftest import MODEL


def in_package(directory: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **model: object) -> Experiment:
    """The experiment as a job's driver has it that runs in a package directory with a model's config."""
    directory.mkdir()
    monkeypatch.chdir(directory)
    Path("small.json").write_text(json.dumps(MODEL))
    content = {"name": "mine", "output": str(output), "data": {"path": "/data"}, "text": {"p": 0.0}}
    return with_absolute_paths(
        parse_experiment({**content, "model": {"name": "small.json", **model}}), outputs=False, in_package=True
    )


def test_a_job_resumes_a_run_whose_files_came_in_another_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = in_package(tmp_path / "_ray_pkg_1", tmp_path / "out", monkeypatch)
    spec = load_model_spec(first.model.name)
    write_record(RunPaths(first.train_output), first.as_written(), spec, {}, None)
    second = in_package(tmp_path / "_ray_pkg_2", tmp_path / "out", monkeypatch)
    assert second.model.name != first.model.name
    check_record(second, load_model_spec(second.model.name), [])
    other = parse_experiment({**second.model_dump(mode="json"), "model": {"name": "ViT-B-32"}})
    with pytest.raises(UserError, match=r"model\.name"):
        check_record(other, spec, [])
