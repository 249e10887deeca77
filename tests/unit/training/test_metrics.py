"""The console lines of a training run, and its log files, which never stop it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import parse_experiment
from laclip_ray.tracking.choice import begin_trackers
from laclip_ray.tracking.trackers import Trackers
from laclip_ray.training.metrics import MetricsLog, console_line, read_metrics
from laclip_ray.training.paths import RunPaths
from tests.cases import case

ROW: dict[str, Any] = {
    "step": 8,
    "epoch": 1.25,
    "loss": 2.5,
    "p": 0.8,
    "p_effective": 0.5,
    "fallbacks": {"no_accepted_rewrite": 0, "not_rewritten": 30, "rewrite_refused": 0},
    "unscored": 0,
    "images_per_s": 99.6,
    "waiting_share": 0.02,
    "shards_in_batch": 12,
}


def test_a_line_says_why_the_effective_p_is_lower_than_requested() -> None:
    assert console_line(ROW) == (
        "step 8  epoch 1.25  loss 2.5000  p 0.8 (effective 0.500, 30 not rewritten)  100 images/s  waiting 2%"
    )


def test_a_line_counts_refused_rewrites_and_missing_scores() -> None:
    fallbacks = {"no_accepted_rewrite": 0, "not_rewritten": 0, "rewrite_refused": 7}
    line = console_line(ROW | {"fallbacks": fallbacks, "unscored": 3})
    assert "(effective 0.500, 7 rewrite refused, 3 unscored)" in line


def test_a_line_of_skipped_batches_has_no_loss() -> None:
    assert "loss none" in console_line(ROW | {"loss": None})


def test_a_line_beside_rewriting_shows_its_progress_and_this_epochs_texts() -> None:
    beside = {
        "rewritten_shards": 6,
        "shards_to_rewrite": 24,
        "rewrites_per_s": 12.4,
        "lag_shards": 18,
        "p_effective_in_epoch": 0.6,
        "late_share_in_epoch": 0.25,
    }
    assert console_line(ROW | beside).endswith(
        "rewritten 6 of 24 shards, 12 rewrites/s, lag 18 shards; this epoch: effective p 0.600, 25% late"
    )


WHOLE: dict[str, Any] = {**ROW, "learning_rate": 0.1, "logit_scale": 14.0}


def trackers(paths: RunPaths, from_step: int) -> Trackers:
    """TensorBoard alone, as without a setting."""
    experiment = parse_experiment({"name": "test", "output": paths.output, "data": {"path": "data"}})
    return begin_trackers(experiment, "train", paths.output, {}, from_step)


def logged(paths: RunPaths, steps: range) -> None:
    log = MetricsLog(paths, steps.start - 1, trackers(paths, steps.start - 1))
    for step in steps:
        log.append({**WHOLE, "step": step})
    log.close()


def test_a_run_that_resumes_has_each_step_once(tmp_path: Path) -> None:
    paths = RunPaths(str(tmp_path))
    logged(paths, range(1, 5))
    logged(paths, range(3, 7))
    assert [row["step"] for row in read_metrics(paths.output)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("tail", [b'{"step": 3, "lo', b"\xff\xfe", b"[1]", b"7", b"{}", b"\x00" * 40])
@case("Identity", "a cut last line of `metrics.jsonl`", "left out with a warning; the run resumes")
def test_damaged_lines_are_left_out(tmp_path: Path, tail: bytes, caplog: pytest.LogCaptureFixture) -> None:
    paths = RunPaths(str(tmp_path))
    logged(paths, range(1, 3))
    with Path(paths.metrics).open("ab") as file:
        file.write(tail)
    assert [row["step"] for row in read_metrics(paths.output)] == [1, 2]
    assert "left out 1 damaged lines" in caplog.text
    logged(paths, range(3, 5))
    assert [row["step"] for row in read_metrics(paths.output)] == [1, 2, 3, 4]


def block_metrics(paths: RunPaths, patch: pytest.MonkeyPatch) -> None:
    Path(paths.metrics).mkdir(parents=True)


def block_tensorboard(paths: RunPaths, patch: pytest.MonkeyPatch) -> None:
    Path(paths.output).mkdir()
    Path(paths.tensorboard).write_text("a file in its place")


def block_writes(paths: RunPaths, patch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    patch.setattr(storage, "write_bytes", fail)


@pytest.mark.parametrize("block", [block_metrics, block_tensorboard, block_writes])
@case("Identity", "a log file of training that cannot be written", "a warning; training continues without it")
def test_a_log_that_cannot_be_written_does_not_stop_training(
    tmp_path: Path,
    block: Callable[[RunPaths, pytest.MonkeyPatch], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = RunPaths(str(tmp_path / "train"))
    block(paths, monkeypatch)
    log = MetricsLog(paths, 0, trackers(paths, 0))
    for step in (1, 2):
        log.append({**WHOLE, "step": step})
        log.flush()
    log.close()
    assert caplog.text.count("cannot be written, and") == caplog.text.count("continues without it") == 1
