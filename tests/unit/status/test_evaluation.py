"""The state of an evaluation, by its results and its lease."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.evaluation.results import RESULTS_FILE
from laclip_ray.status.damage import Damage
from laclip_ray.status.evaluation import evaluation_status
from laclip_ray.status.outputs import Locations, find_locations, look_at
from laclip_ray.status.printing import evaluation_lines
from tests.unit.status.runs import aged, experiment, leave_lease

DONE = {"task": "retrieval", "dataset": "coco", "image_to_text_r1": 0.5}
FAILED = {"task": "zero-shot", "dataset": "flowers", "no_result": "no sample could be used"}


def write_results(location: Path, *entries: dict[str, Any], age_s: float = 0.0, **counts: int) -> Path:
    """The results of an evaluation, written some time ago."""
    path = location / RESULTS_FILE
    storage.write_json(str(path), {"checkpoint": "m", **counts, "results": list(entries)})
    return aged(path, age_s)


@pytest.mark.parametrize(
    ("entries", "counts", "state", "done"),
    [
        ([DONE, FAILED], {"sets": 2, "sets_measured": 2}, "incomplete", 2),
        ([DONE], {"sets": 1, "sets_measured": 1}, "finished", 1),
        ([DONE], {"sets": 3, "sets_measured": 1}, "interrupted", 1),
        ([DONE, {**DONE, "task": "few-shot"}], {}, "finished", 1),
        ([DONE, FAILED], {}, "incomplete", 2),
    ],
)
def test_results_without_an_owner_tell_how_the_run_ended(
    entries: list[dict[str, Any]], counts: dict[str, int], state: str, done: int, tmp_path: Path
) -> None:
    write_results(tmp_path, *entries, **counts)
    status = evaluation_status(str(tmp_path), Damage())
    assert (status.state, status.sets_done, status.left_s) == (state, done, None)
    assert len(status.failures) == entries.count(FAILED)


def test_a_running_evaluation_has_a_rate_and_a_time_left(tmp_path: Path) -> None:
    leave_lease(tmp_path, since="2026-01-01 00:00:00 UTC")
    write_results(tmp_path, DONE, sets=4, sets_measured=1, age_s=30)
    status = evaluation_status(str(tmp_path), Damage())
    assert (status.state, status.sets_done, status.sets) == ("running", 1, 4)
    assert status.newest_result_age_s == pytest.approx(30, abs=5)
    assert status.owner is not None
    assert status.owner.since_s is not None
    assert status.left_s == pytest.approx(3 * (status.owner.now_s - status.owner.since_s))


def test_results_of_an_earlier_run_are_not_those_of_a_running_one(tmp_path: Path) -> None:
    write_results(tmp_path, DONE, FAILED, sets=2, sets_measured=2, age_s=3_600)
    leave_lease(tmp_path)
    status = evaluation_status(str(tmp_path), Damage(), sets=5)
    assert (status.state, status.sets_done, status.sets, status.failures) == ("running", 0, 5, ())


def test_an_empty_output_was_never_started(tmp_path: Path) -> None:
    assert evaluation_status(str(tmp_path), Damage(), 2).state == "never started"
    assert evaluation_status(str(tmp_path / "none"), Damage()).state == "never started"


def test_damaged_results_are_named(tmp_path: Path) -> None:
    (tmp_path / RESULTS_FILE).write_text('{"results": [{}]')
    damage = Damage()
    assert evaluation_status(str(tmp_path), damage).sets_done == 0
    assert [sentence.startswith(f"{tmp_path}/{RESULTS_FILE}: the results of an") for sentence in damage.found] == [True]


def test_an_evaluation_is_found_in_an_experiment_and_alone(tmp_path: Path) -> None:
    write_results(tmp_path / "out" / "evaluate", DONE, sets=1, sets_measured=1)
    for output in (tmp_path / "out", tmp_path / "out" / "evaluate"):
        found = look_at(find_locations(str(output)))
        assert found.evaluation is not None
        assert found.evaluation.state == "finished"
        assert found.to_json()["evaluation"]["sets_done"] == 1
    assert look_at(Locations.of(experiment(tmp_path / "out"))).evaluation is not None
    assert look_at(Locations.of(experiment(tmp_path / "none"))).evaluation is None


def test_the_lines_name_what_has_no_result(tmp_path: Path) -> None:
    many = [{**FAILED, "dataset": f"set{number}"} for number in range(7)]
    write_results(tmp_path, DONE, *many, sets=9, sets_measured=8)
    leave_lease(tmp_path, age_s=7_200, since="2026-01-01 00:00:00 UTC")
    head, owner, counts, missing, *failures, more = evaluation_lines(evaluation_status(str(tmp_path), Damage()))
    assert head.endswith("interrupted; the same command measures again, with the features that are stored")
    assert "seems dead" in owner
    assert counts.startswith("  8 of 9 sets are measured, the newest ")
    assert missing == "  7 results are missing:"
    assert failures[0] == "    zero-shot, set0: no sample could be used"
    assert (len(failures), more) == (5, "    and 2 more")
