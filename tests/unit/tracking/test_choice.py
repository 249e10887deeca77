"""Trackers are checked before a run, chosen by name, and given neither secrets nor another run's id."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.tracking import choice, to_trackio
from laclip_ray.tracking.choice import begin_trackers, check_trackers
from laclip_ray.tracking.identity import IDENTITY_FILE, run_id
from laclip_ray.tracking.tracker import Outcome, TrackedRun
from tests.cases import case
from tests.unit.tracking.recording import Recorder


def experiment(output: str, *names: str, **track: Any) -> Experiment:
    content = {"name": "test", "output": output, "data": {"path": "s3://key:seen-nowhere@bucket/data"}}
    return parse_experiment({**content, "track": {"report_to": [*names], **track}})


def check(output: str, *names: str) -> None:
    check_trackers(experiment(output, *names).track, output)


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
@case("Configs and secrets", "a tracker whose package is not installed", "refused, with the command to install it", 2)
def test_a_tracker_without_its_package_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"track.report_to: {name} .*pip install 'laclip-ray\[{name}\]'"):
        check(str(tmp_path), "tensorboard", name)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("name", "variable"), [("trackio", "TRACKIO_DIR"), ("mlflow", "MLFLOW_TRACKING_URI")])
@case("Configs and secrets", "a tracker with files of its own, and outputs at a URL", "refused; names the variable", 2)
def test_a_tracker_without_a_place_for_its_files_is_refused(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: importlib.util.find_spec("json"))
    for each in ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(each, raising=False)
    with pytest.raises(UserError, match=f"output is a URL; set {variable}"):
        check("s3://bucket/out", name)
    monkeypatch.setenv(variable, "/data/tracking")
    check("s3://bucket/out", name)


def stand_in(name: str, monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    """A package that this environment lacks."""
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**parts))
    monkeypatch.setattr(choice, "find_spec", lambda name: importlib.util.find_spec("json"))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("online", r"wandb has no credentials here; set WANDB_API_KEY or run `wandb login`, or set WANDB_MODE=offline"),
        ("offline", r"wandb is offline and keeps its runs in files, but output is a URL; set WANDB_DIR to a directory"),
    ],
)
def test_wandb_without_credentials_or_a_directory_is_refused(
    mode: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_DIR", raising=False)
    setup = SimpleNamespace(settings=SimpleNamespace(mode=mode))
    stand_in("wandb", monkeypatch, setup=lambda: setup, login=lambda **_: False)
    with pytest.raises(UserError, match=rf"^track\.report_to: {message}"):
        check("s3://bucket/out", "wandb")


def test_a_process_keeps_the_runs_of_trackio_in_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "second"))
    utils = SimpleNamespace(TRACKIO_DIR=tmp_path / "first")
    stand_in("trackio", monkeypatch, utils=utils, run=SimpleNamespace())
    message = rf"^track\.report_to: this process has runs of trackio in {tmp_path}/first already, so none can go to "
    with pytest.raises(UserError, match=message):
        to_trackio._load(None)


def test_without_a_choice_tensorboard_alone_is_told() -> None:
    assert parse_experiment({"name": "n", "output": "o", "data": {"path": "p"}}).track.report_to == ["tensorboard"]


def test_a_single_tracker_needs_no_list_and_a_repeated_one_counts_once() -> None:
    content: dict[str, Any] = {"name": "n", "output": "o", "data": {"path": "p"}}
    assert parse_experiment({**content, "track": {"report_to": "mlflow"}}).track.report_to == ["mlflow"]
    assert experiment("o", "mlflow", "wandb", "mlflow").track.report_to == ["mlflow", "wandb"]


def begun_run(given: Experiment, output: Path, monkeypatch: pytest.MonkeyPatch) -> TrackedRun:
    recorder = Recorder()
    monkeypatch.setattr(choice, "_build", lambda name: recorder)
    begin_trackers(given, "train", str(output), {"rewrite_sets": []}).end(Outcome.FINISHED)
    run = recorder.calls[0][1]
    assert isinstance(run, TrackedRun)
    return run


def test_all_starts_of_a_run_have_one_id_and_other_runs_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = experiment(str(tmp_path), "wandb", name="mine", tags=["a"])
    first = begun_run(given, tmp_path / "train", monkeypatch)
    again = begun_run(given, tmp_path / "train", monkeypatch)
    other = begun_run(given, tmp_path / "other", monkeypatch)
    assert first.id == again.id == run_id(str(tmp_path / "train"))
    assert first.id != other.id
    assert (first.label, first.group, first.tags, first.project) == ("mine-train", "test", ["a"], "laclip-ray")
    assert first.store == str(tmp_path / "tracking")


def test_tensorboard_needs_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun_run(experiment(str(tmp_path), "tensorboard"), tmp_path / "train", monkeypatch)
    assert not (tmp_path / "train" / IDENTITY_FILE).exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": "../../x"}', '{"id": 3}'])
@case("Identity", "a damaged `trackers.json`", "a warning; trackers get a new run, and training continues")
def test_a_damaged_id_gives_a_new_run(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / IDENTITY_FILE).write_text(content)
    run = begun_run(experiment(str(tmp_path), "wandb"), tmp_path / "train", monkeypatch)
    assert run.id.isalnum()
    assert "trackers get a new run" in caplog.text


def test_trackers_get_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://me:seen-nowhere@host"
    run = begun_run(experiment(str(tmp_path), "wandb", tags=[url], name=url), tmp_path / "train", monkeypatch)
    text = json.dumps([run.config, run.lineage, run.name, run.group, run.tags])
    assert "seen-nowhere" not in text
    assert "s3://***@bucket/data" in text
    assert run.lineage["versions"]["torch"]


def test_the_package_loads_no_tracker_nor_torch_nor_ray() -> None:
    modules = ("choice", "trackers", "to_tensorboard", "to_wandb", "to_trackio", "to_mlflow", "wandb_files", "markdown")
    program = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(f"laclip_ray.tracking.{{name}}")
print(*({{"ray", "torch", "wandb", "trackio", "mlflow", "tensorboard"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
