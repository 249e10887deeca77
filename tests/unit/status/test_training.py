"""The state of training is told from the end of its metrics and its records."""

import json
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import parse_experiment
from laclip_ray.status.damage import Damage
from laclip_ray.status.training import TrainingStatus, training_status
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import REGISTER_FILE
from laclip_ray.training.run import RunLength
from tests.unit.status.runs import (
    BATCH,
    EPOCHS,
    SAMPLES,
    begin_training,
    experiment,
    finish_training,
    leave_lease,
    metrics_line,
    write_metrics,
)


def status_of(paths: RunPaths) -> TrainingStatus:
    """The status, of an output without damage."""
    damage = Damage()
    status = training_status(paths.output, damage)
    assert damage.found == []
    return status


def test_nothing_there_was_never_started(tmp_path: Path) -> None:
    assert status_of(RunPaths(str(tmp_path / "train"))).state == "never started"


def test_a_finished_run_names_its_model(tmp_path: Path) -> None:
    paths = finish_training(tmp_path)
    status = status_of(paths)
    assert (status.state, status.export) == ("finished", paths.export)
    assert (status.epoch, status.epochs, status.step, status.steps) == (EPOCHS, EPOCHS, 40, 40)


def test_a_running_run_has_its_step_its_loss_and_the_time_left(tmp_path: Path) -> None:
    paths = begin_training(tmp_path, 15)
    leave_lease(paths.output)
    status = status_of(paths)
    assert status.state == "running"
    assert (status.epoch, status.epochs, status.step, status.loss) == (1.5, EPOCHS, 15, 3.25)
    assert status.images_per_s == 50
    assert status.left_s == pytest.approx((EPOCHS * SAMPLES - 15 * BATCH) / 50)
    assert status.metrics_age_s is not None


def test_the_number_of_steps_is_that_of_the_run(tmp_path: Path) -> None:
    expected = RunLength(SAMPLES, EPOCHS, BATCH).total_steps
    assert status_of(begin_training(tmp_path, 7)).steps == expected


def test_an_interrupted_run_names_its_newest_checkpoint(tmp_path: Path) -> None:
    status = status_of(begin_training(tmp_path, 15))
    assert (status.state, status.left_s) == ("interrupted", None)
    assert status.checkpoint == "checkpoint-00000015-7"


def test_a_run_before_its_first_line_is_running_without_a_step(tmp_path: Path) -> None:
    paths = RunPaths(experiment(tmp_path).train_output)
    leave_lease(paths.output)
    status = status_of(paths)
    assert (status.state, status.step, status.steps, status.checkpoint) == ("running", None, None, None)


def test_a_pause_does_not_change_the_rate(tmp_path: Path) -> None:
    paths = begin_training(tmp_path, 1)
    lines = [metrics_line(step, images_per_s=0.5 if step == 28 else 50.0) for step in range(1, 31)]
    storage.write_bytes(paths.metrics, "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert status_of(paths).images_per_s == 50


def test_only_the_end_of_long_metrics_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = begin_training(tmp_path, 1)
    write_metrics(paths, 5_000)
    size = Path(paths.metrics).stat().st_size
    fs, _ = storage.filesystem(paths.metrics)
    read: list[int] = []
    whole = type(fs).cat_file

    def count(self: object, path: str, start: int | None = None, end: int | None = None) -> bytes:
        content: bytes = whole(self, path, start, end)
        if path.endswith("metrics.jsonl"):
            read.append(len(content))
        return content

    monkeypatch.setattr(type(fs), "cat_file", count)
    assert status_of(paths).step == 5_000
    assert sum(read) == 1 << 16
    assert size > 5 * sum(read)


def test_a_batch_that_was_skipped_has_no_loss(tmp_path: Path) -> None:
    paths = begin_training(tmp_path, 1)
    storage.write_bytes(paths.metrics, (json.dumps(metrics_line(3, loss=None)) + "\n").encode())
    status = status_of(paths)
    assert (status.step, status.loss) == (3, None)


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    paths = begin_training(tmp_path, 15)
    storage.write_json(paths.non_finite, {"step": 16, "ids": ["a"]})
    assert status_of(paths).stopped_at_step == 16


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    paths = begin_training(tmp_path, 3)
    with Path(paths.metrics).open("a") as file:
        file.write('{"step": 4, "lo\n[1]\n{"step": "5"}\n')
    damage = Damage()
    status = training_status(paths.output, damage)
    assert status.step == 3
    assert damage.found[0].startswith(f"{paths.metrics}: 3 of its last 6 lines are damaged and left out")


@pytest.mark.parametrize("name", ["experiment.json", f"ray/{REGISTER_FILE}", "summary.json", "non_finite_loss.json"])
def test_a_damaged_record_is_named_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    paths = finish_training(tmp_path)
    Path(paths.output, name).write_text('{"half": ')
    damage = Damage()
    status = training_status(paths.output, damage)
    assert (status.state, status.step) == ("finished", 40)
    assert damage.found[0].startswith(f"{paths.output}/{name}: ")


def test_the_record_has_the_keys_that_are_read(tmp_path: Path) -> None:
    written = parse_experiment({"name": "a", "output": str(tmp_path), "data": {"path": "x"}}).as_written()
    assert isinstance(written["train"]["epochs"], int)
