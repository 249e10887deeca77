"""The real W&B (offline), Trackio and MLflow (local stores), and TensorBoard: one run across a kill, each step once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.tracked_process import HOSTILE, SECRET
from tests.tracked_stores import StoredRun, mlflow_runs, tensorboard_run, trackio_runs, wandb_runs
from tests.tracker_packages import DIRECTORY, is_installed, with_trackers

needs_packages = pytest.mark.skipif(not is_installed(), reason="no packages of trackers here; `make trackers`")


def told(output: Path, from_step: int, last_step: int, end: str) -> int:
    command = [
        sys.executable,
        "-m",
        "tests.integration.tracked_process",
        str(output),
        str(from_step),
        str(last_step),
        end,
    ]
    environment = with_trackers() | {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, check=False, timeout=300).returncode


def only(runs: dict[str, StoredRun]) -> StoredRun:
    (run,) = runs.values()
    return run


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that was killed, and that its next start ended."""
    directory = tmp_path_factory.mktemp("tracked")
    assert told(directory, 0, 8, "kill") == -9
    assert told(directory, 5, 12, "end") == 0
    return directory


@needs_packages
def test_every_tracker_has_one_run_with_each_step_once_its_config_and_its_table_across_a_kill(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DIRECTORY))
    store = output / "tracking"
    runs = {
        "wandb": only(wandb_runs(store)),
        "trackio": only(trackio_runs(store / "trackio", "laclip-ray")),
        "mlflow": only(mlflow_runs(store)),
        "tensorboard": tensorboard_run(output / "train"),
    }
    for name, run in runs.items():
        assert run.steps == [*range(1, 13)], name
        assert "f00d" in str(run.lineage), name
        assert [row["score"] for row in run.tables["samples"]] in ([0.5, None], ["0.5", ""]), name
        assert SECRET not in str(run), name
    for name in ("wandb", "trackio", "mlflow"):
        run = runs[name]
        assert run.name.startswith("real-train"), name
        assert (run.kind, run.group, run.pictures) == ("train", "real", 1), name
        assert run.config["train"]["epochs"] == 35, name
        assert run.tables["samples"][0]["caption"] == HOSTILE, name
        assert run.summary["top1"] == 0.25, name
    assert runs["mlflow"].outcome == runs["wandb"].outcome == runs["tensorboard"].outcome == "finished"


@needs_packages
def test_no_file_of_a_tracker_holds_a_secret(output: Path) -> None:
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@needs_packages
def test_wandb_without_credentials_is_refused_before_the_run(tmp_path: Path) -> None:
    program = (
        "from laclip_ray.config import TrackConfig; from laclip_ray.tracking.choice import check_trackers; "
        "check_trackers(TrackConfig(report_to=['wandb']), 'out')"
    )
    hidden = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE")
    environment = {name: value for name, value in with_trackers().items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")},
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert "UserError: track.report_to: wandb has no credentials here; set WANDB_API_KEY" in done.stderr
