"""The state of a sweep is told from the names of its stages and the configuration that its runs recorded."""

from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.status.damage import Damage
from laclip_ray.status.sweep import SweepStatus, sweep_status
from laclip_ray.training.paths import RunPaths
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import Point
from laclip_ray.tuning.stages import end_point
from tests.unit.status.runs import EPOCHS, aged, begin_sweep, experiment, leave_lease, train_point


def status_of(paths: SweepPaths) -> SweepStatus:
    """The status, of an output without damage."""
    damage = Damage()
    status = sweep_status(paths.location, damage)
    assert damage.found == []
    return status


def test_nothing_there_was_never_started(tmp_path: Path) -> None:
    assert status_of(SweepPaths(str(tmp_path / "tune"))).state == "never started"


def test_a_point_is_done_with_every_seed(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    train_point(of, "p0", 2)
    train_point(of, "p0.5", 1)
    status = status_of(paths)
    assert (status.state, status.points, status.points_begun, status.points_done) == ("interrupted", 3, 2, 1)
    assert (status.runs_done, status.runs) == (3, 6)


def test_a_sweep_with_every_point_is_finished(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    for point in ("p0", "p0.5", "p1"):
        train_point(of, point, 2)
    assert status_of(paths).state == "finished"


def test_points_that_the_scheduler_ended_are_done(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    train_point(of, "p0", 2)
    for p in (0.5, 1.0):
        point = Point({"text.p": p})
        train_point(of, point.name, 0)
        end_point(paths, point, 1)
    status = status_of(paths)
    assert (status.state, status.points_done, status.points_ended_early) == ("finished", 3, 2)


def test_a_running_sweep_has_the_time_left(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    for number, point in enumerate(("p0", "p0.5")):
        train_point(of, point, 2)
        for seed in range(2):
            aged(Path(paths.stage(point, seed, EPOCHS)), 60 * (3 - 2 * number - seed))
    leave_lease(paths.location, since="2001-01-01 00:00:00 UTC")
    status = status_of(paths)
    assert status.state == "running"
    assert status.left_s == pytest.approx(2 * 60, rel=0.1)


def test_the_number_of_points_is_unknown_before_a_run_has_recorded_it(tmp_path: Path) -> None:
    paths = begin_sweep(experiment(tmp_path))
    status = status_of(paths)
    assert (status.state, status.points, status.runs) == ("interrupted", None, None)


def test_a_config_tells_the_number_of_points(tmp_path: Path) -> None:
    of = experiment(tmp_path, search="optuna", points=7)
    paths = begin_sweep(of)
    assert sweep_status(paths.location, Damage(), of.tune).points == 7


def test_results_that_are_damaged_do_not_matter(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    train_point(of, "p0", 2)
    Path(paths.stage("p0", 0, EPOCHS)).write_text("{")
    assert status_of(paths).points_done == 1


def test_a_damaged_record_is_named_and_points_still_count(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    train_point(of, "p0", 2)
    record = RunPaths(storage.join(paths.run("p0", 0), "train")).experiment
    for url in (paths.record, record):
        Path(url).write_text('{"half": ')
    damage = Damage()
    status = sweep_status(paths.location, damage)
    assert (status.points_done, status.points) == (1, None)
    assert [sentence.partition(": ")[0] for sentence in damage.found] == [paths.record, record]


def test_a_record_of_another_version_leaves_the_number_of_points_unknown(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    paths = begin_sweep(of)
    train_point(of, "p0", 2)
    record = RunPaths(storage.join(paths.run("p0", 0), "train")).experiment
    storage.write_json(record, {"tune": {"a_key_of_the_future": 1}})
    assert status_of(paths).points is None
