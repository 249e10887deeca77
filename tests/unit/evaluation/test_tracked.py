"""Trackers get every metric of an evaluation with its interval, and the sets without a result."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.evaluation.tracked import evaluation_table, track_evaluation
from laclip_ray.tracking import choice
from laclip_ray.tracking.tracker import Outcome, Table
from tests.unit.run_report.stored_runs import experiment, write_evaluation
from tests.unit.tracking.recording import Recorder


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    write_evaluation(str(tmp_path), top1=0.45)
    found: dict[str, Any] = storage.read_json(str(tmp_path / "results.json"))
    return found


def test_each_metric_has_a_row_with_its_interval(content: dict[str, Any]) -> None:
    rows = evaluation_table({"": content["results"]}).rows
    assert [*map(list, rows)] == [
        ["", "zero-shot", "world", "top1", 0.45, pytest.approx(0.37), pytest.approx(0.53), 120, None],
        ["", "zero-shot", "world", "mean_per_class", 0.44, None, None, 120, None],
        ["", "hard-negatives", "emoji", "preferred", 0.61, 0.5, 0.7, 90, None],
        ["", "retrieval", "emoji", None, None, None, None, None, "every image was skipped"],
    ]


def test_an_evaluation_of_two_models_is_told_as_one_run(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(choice, "_build", lambda name: recorder)
    whole = {**content, "results": content["results"][:2]}
    track_evaluation(experiment(tmp_path / "out", tmp_path / "data"), {"": whole, "other": whole})
    run = recorder.calls[0][1]
    assert (run.kind, run.output) == ("evaluate", str(tmp_path / "out" / "evaluate"))
    assert run.lineage["models"]["own"] == {"checkpoint": "train/export", "weights_digest": "beef"}
    table = recorder.calls[1][1]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["", "", "", "other", "other", "other"]
    values = {name: value for call in recorder.calls if call[0] == "summary" for name, value in call[1].items()}
    assert values["zero-shot/world/top1"] == values["other/zero-shot/world/top1"] == 0.45
    assert recorder.calls[-1] == ("end", Outcome.FINISHED)


def test_an_evaluation_with_a_set_without_result_has_failed(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(choice, "_build", lambda name: recorder)
    track_evaluation(experiment(tmp_path / "out", tmp_path / "data"), {"": content})
    assert recorder.calls[-1] == ("end", Outcome.FAILED)


def test_nothing_is_told_where_no_tracker_is_chosen(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(choice, "_build", lambda name: recorder)
    track_evaluation(experiment(tmp_path / "out", tmp_path / "data", track={"report_to": []}), {"": content})
    assert recorder.calls == []
    assert not (tmp_path / "out").exists()
