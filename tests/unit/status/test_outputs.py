"""An output is recognised as a whole experiment or as one of its parts."""

import json
import uuid
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.status.outputs import Locations, OutputStatus, find_locations, look_at
from tests.unit.status.runs import experiment, good_output, leave_lease, write_progress


def status_of(output: str | Path) -> OutputStatus:
    return look_at(find_locations(str(output)))


def test_an_experiment_shows_all_of_its_parts(tmp_path: Path) -> None:
    status = status_of(good_output(tmp_path / "out"))
    assert status.rewriting is not None
    assert status.training is not None
    assert status.sweep is not None
    assert (status.rewriting.state, status.training.state, status.sweep.state) == (
        "finished",
        "finished",
        "interrupted",
    )
    assert status.problems == ()


def test_a_config_names_the_parts(tmp_path: Path) -> None:
    of = experiment(good_output(tmp_path / "out"))
    assert look_at(Locations.of(of)) == status_of(tmp_path / "out")


@pytest.mark.parametrize(("directory", "part"), [("rewrites", "rewriting"), ("train", "training"), ("tune", "sweep")])
def test_a_part_may_be_given_alone(tmp_path: Path, directory: str, part: str) -> None:
    output = good_output(tmp_path / "out")
    whole, alone = status_of(output), status_of(output / directory)
    assert getattr(alone, part) == getattr(whole, part)
    assert [name for name in ("rewriting", "training", "sweep") if getattr(alone, name) is not None] == [part]


@pytest.mark.parametrize(("verb", "part"), [("rewrite", "rewriting"), ("train", "training"), ("tune", "sweep")])
def test_a_part_that_only_holds_its_lease_is_recognised(tmp_path: Path, verb: str, part: str) -> None:
    leave_lease(tmp_path / "own", verb=verb)
    assert getattr(status_of(tmp_path / "own"), part).state == "running"


def test_rewriting_that_has_only_begun_is_recognised(tmp_path: Path) -> None:
    write_progress(str(tmp_path / "own"), 0)
    status = status_of(tmp_path / "own")
    assert status.rewriting is not None
    assert status.rewriting.state == "interrupted"


def test_an_output_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "none", tmp_path / "file", f"memory://{uuid.uuid4().hex}/out"):
        with pytest.raises(UserError, match=r"there is no such output\. Give the directory or URL"):
            find_locations(str(output))


def test_other_files_are_no_output(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds files, but no output of laclip"):
        find_locations(str(tmp_path))


def test_an_empty_output_was_never_started(tmp_path: Path) -> None:
    status = status_of(tmp_path)
    assert status.rewriting is not None
    assert status.training is not None
    assert (status.rewriting.state, status.training.state, status.sweep) == ("never started", "never started", None)


def test_a_url_is_looked_at_like_a_directory(tmp_path: Path) -> None:
    local, url = good_output(tmp_path / "out"), f"memory://{uuid.uuid4().hex}/out"
    for path in local.rglob("*"):
        if path.is_file():
            storage.write_bytes(storage.join(url, path.relative_to(local).as_posix()), path.read_bytes())
    status = status_of(url)
    assert status.rewriting is not None
    assert status.training is not None
    assert status.sweep is not None
    assert (status.rewriting.state, status.rewriting.units_done) == ("finished", 10)
    assert (status.training.state, status.training.step) == ("finished", 40)
    assert (status.sweep.points_done, status.sweep.points) == (1, 3)


def test_looking_writes_nothing(tmp_path: Path) -> None:
    output = good_output(tmp_path / "out")
    leave_lease(output / "train")
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    status_of(output)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


def test_the_json_object_has_every_number(tmp_path: Path) -> None:
    output = good_output(tmp_path / "out")
    leave_lease(output / "train")
    content = json.loads(json.dumps(status_of(output).to_json()))
    assert content["rewriting"]["sets"][0]["accepted_share"] == 0.9
    assert (content["rewriting"]["units_done"], content["rewriting"]["units"]) == (10, 10)
    assert (content["training"]["step"], content["training"]["state"]) == (40, "running")
    assert content["training"]["owner"]["seems_alive"] is True
    assert content["training"]["owner"]["name"].startswith("laclip run, process 41 on gpu-7")
    assert (content["sweep"]["points_done"], content["sweep"]["points"]) == (1, 3)
    assert content["problems"] == []
