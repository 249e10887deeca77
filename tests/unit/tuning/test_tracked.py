"""Trackers get a run for each point and seed of a sweep, in one group, and the sweep as a whole."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray.tracking import choice
from laclip_ray.tracking.tracker import Outcome
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.results import Sweep
from laclip_ray.tuning.space import Point
from laclip_ray.tuning.stages import read_stages
from laclip_ray.tuning.tracked import best_means, stages_table, track_stages, track_sweep
from laclip_ray.tuning.trial import run_experiment
from tests.unit.run_report.stored_runs import experiment, write_sweep
from tests.unit.tracking.recording import Recorder


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    of = experiment(tmp_path / "out", tmp_path / "data")
    write_sweep(of)
    return Sweep(of, tuple(read_stages(SweepPaths(of.tune_output))), rewrites=2)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(choice, "_build", lambda name: recorder)
    return recorder


def test_runs_of_a_sweep_have_names_of_their_own_in_one_group(sweep: Sweep) -> None:
    runs = [run_experiment(sweep.experiment, Point({"text.p": p}), seed).track for p in (0.0, 0.4) for seed in (0, 1)]
    assert [run.name for run in runs] == [f"stored-p{p}-seed{seed}" for p in ("0", "0.4") for seed in (0, 1)]
    assert {run.group for run in runs} == {"stored-tune"}


def test_names_and_groups_of_the_config_stay(tmp_path: Path) -> None:
    track: dict[str, Any] = {"name": "mine", "group": "ours"}
    of = experiment(tmp_path / "out", tmp_path / "data", track=track)
    run = run_experiment(of, Point({"text.p": 0.4}), 1).track
    assert (run.name, run.group) == ("mine-p0.4-seed1", "ours")


def test_the_evaluations_of_a_run_join_its_training(sweep: Sweep, recorder: Recorder) -> None:
    run = run_experiment(sweep.experiment, Point({"text.p": 0.4}), 1)
    track_stages(run, [stage for stage in sweep.stages if (stage.point, stage.seed) == ("p0.4", 1)])
    begun = recorder.calls[0][1]
    assert (begun.output, begun.after_step) == (run.train_output, None)
    assert recorder.names == ["begin", "table", "summary", "end"]
    assert recorder.calls[2][1]["zero-shot/world/top1"] == pytest.approx(0.51)


def test_the_sweep_is_a_run_with_a_row_for_each_stage(sweep: Sweep, recorder: Recorder) -> None:
    track_sweep(sweep)
    assert (recorder.calls[0][1].label, recorder.calls[0][1].group) == ("stored-tune", "stored-tune")
    table = recorder.calls[1][1]
    assert len(table.rows) == len(sweep.stages) == 6
    assert table.columns[-1] == "zero-shot/world/mean_per_class"
    assert recorder.calls[2] == ("summary", {f"best/{name}": value for name, value in best_means(sweep).items()})
    assert recorder.calls[-1] == ("end", Outcome.FINISHED)


def test_the_best_point_has_the_means_over_its_seeds(sweep: Sweep) -> None:
    assert best_means(sweep)["zero-shot/world/top1"] == pytest.approx(0.505)


def test_values_that_are_no_numbers_are_texts(sweep: Sweep) -> None:
    table = stages_table(sweep.stages)
    assert {row[table.columns.index("text.p")] for row in table.rows} == {0.0, 0.4, "uniform"}


def test_nothing_is_told_of_a_sweep_without_results(tmp_path: Path, recorder: Recorder) -> None:
    track_sweep(Sweep(experiment(tmp_path / "out", tmp_path / "data"), (), rewrites=0))
    assert recorder.calls == []
