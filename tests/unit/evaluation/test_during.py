"""Epochs are evaluated once each, the best is named, and training never depends on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.evaluation.during import evaluation_during
from laclip_ray.evaluation.results import IncompleteEvaluationError
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from laclip_ray.tracking import choice
from laclip_ray.tracking.tracker import Outcome
from laclip_ray.training.paths import RunPaths
from tests.cases import case
from tests.unit.conftest import picture, write_tar
from tests.unit.models.examples import VIT
from tests.unit.tracking.recording import Recorder

METRIC = "retrieval/own/text_to_image_r1"


@pytest.fixture
def experiment_with(tmp_path: Path) -> Callable[..., Experiment]:
    """Build experiments of three epochs that evaluate on a set of their own."""
    members = []
    for number in range(5):
        members += [(f"k{number}.png", picture(width=20 + 4 * number)), (f"k{number}.txt", b"picture %d" % number)]
    write_tar(tmp_path / "data" / "0.tar", members)

    def experiment(keep_best: str | None = None, **evaluate: Any) -> Experiment:
        data = {"path": str(tmp_path / "data")}
        evaluate = {"retrieval": [{"name": "own", "data": data}], "during": {}, **evaluate}
        train = {"epochs": 3, "batch_size": 4, "checkpoint": {"keep_best": keep_best}}
        return parse_experiment(
            {"name": "during", "output": str(tmp_path / "out"), "data": data, "train": train, "evaluate": evaluate}
        )

    return experiment


def train(experiment: Experiment, tmp_path: Path, epochs: int = 3) -> None:
    """Export what training would after each epoch."""
    (tmp_path / "vit-of-a-test.json").write_text(json.dumps(VIT))
    spec = load_model_spec(str(tmp_path / "vit-of-a-test.json"))
    paths = RunPaths(experiment.train_output)
    for epoch in range(1, epochs + 1):
        export = Path(paths.export if epoch == experiment.train.epochs else paths.epoch_export(epoch))
        export.mkdir(parents=True, exist_ok=True)
        save_model(export, create_model(spec, seed=epoch), spec)


def lines(experiment: Experiment) -> list[dict[str, Any]]:
    content = Path(RunPaths(experiment.train_output).evaluations).read_text()
    return [json.loads(line) for line in content.splitlines()]


def test_every_epoch_is_evaluated_and_the_best_is_named(
    experiment_with: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = experiment_with(METRIC)
    with evaluation_during(experiment) as followed:
        assert followed.train.export_every_epochs == 1
        train(followed, tmp_path)
    found = lines(experiment)
    assert [line["epoch"] for line in found] == [1, 2, 3]
    best = json.loads(Path(RunPaths(experiment.train_output).best).read_text())
    assert best["value"] == max(line[METRIC] for line in found) == found[best["epoch"] - 1][METRIC]
    assert (Path(best["checkpoint"]) / "open_clip_config.json").exists()
    assert not list(Path(experiment.evaluate_output).rglob("features"))


def test_a_run_that_is_started_again_measures_only_new_epochs(
    experiment_with: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = experiment_with(during={"every_epochs": 2})

    def interrupted() -> None:
        with evaluation_during(experiment) as followed:
            assert followed.train.export_every_epochs == 2
            train(followed, tmp_path, epochs=2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with evaluation_during(experiment):
        pass
    (epoch,) = Path(experiment.evaluate_output, "epochs").iterdir()
    written = {path: path.stat().st_mtime_ns for path in epoch.rglob("*.json")}
    with evaluation_during(experiment) as followed:
        train(followed, tmp_path)
    assert [line["epoch"] for line in lines(experiment)] == [2, 3]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_trackers_get_each_epoch_as_a_step_and_the_results_at_the_end(
    experiment_with: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorders = [Recorder(), Recorder(last_step=2)]
    begun = iter(recorders)
    monkeypatch.setattr(choice, "_build", lambda name: next(begun))
    experiment = experiment_with()
    for epochs in (2, 3):
        with evaluation_during(experiment) as followed:
            train(followed, tmp_path, epochs)
    assert [recorder.steps for recorder in recorders] == [[1, 2], [3]]
    for recorder, count in zip(recorders, (2, 3), strict=True):
        table = next(call[1] for call in recorder.calls if call[0] == "table")
        assert [*dict.fromkeys(row[0] for row in table.rows)] == [f"epoch {epoch}" for epoch in range(1, count + 1)]
        assert recorder.calls[-1] == ("end", Outcome.FINISHED)
    monkeypatch.setattr(choice, "_build", lambda name: recorders.append(Recorder()))
    with evaluation_during(experiment):
        pass
    assert len(recorders) == 2  # nothing is left to evaluate, so nothing to tell


@case("Evaluation", "a set without a result while training", "training ends as it would; the set is named", exit_code=3)
def test_a_set_without_a_result_does_not_end_training(
    experiment_with: Callable[..., Experiment], tmp_path: Path
) -> None:
    data = {"path": str(tmp_path / "data"), "caption_column": "none"}
    write_tar(tmp_path / "empty" / "0.tar", [("a.png", b"no picture"), ("a.txt", b"a")])
    sets = [{"name": "own", "data": {**data, "path": str(tmp_path / "empty")}}]
    reached = []

    def run() -> None:
        with evaluation_during(experiment_with(retrieval=sets)) as followed:
            train(followed, tmp_path)
            reached.append(True)

    with pytest.raises(IncompleteEvaluationError, match=r"training is complete(.|\n)*epoch 2: retrieval, own"):
        run()
    assert reached


@case("Evaluation", "`train.checkpoint.keep_best` names no metric of the sets", "refused before training", exit_code=2)
def test_an_unknown_metric_is_refused_before_training(experiment_with: Callable[..., Experiment]) -> None:
    with (
        pytest.raises(UserError, match=rf"^train\.checkpoint\.keep_best: there is no top9; there are .*{METRIC}"),
        evaluation_during(experiment_with("top9")),
    ):
        pytest.fail("training began")


def test_without_the_setting_nothing_is_evaluated(experiment_with: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = experiment_with(during=None)
    with evaluation_during(experiment) as followed:
        assert followed is experiment
    assert not Path(experiment.evaluate_output).exists()


@pytest.mark.parametrize(
    ("train_settings", "evaluate", "message"),
    [
        ({"checkpoint": {"keep_best": METRIC}}, {}, "keep_best: needs evaluations of epochs"),
        ({"export_every_epochs": 2}, {"during": {"every_epochs": 3}}, "3 is no multiple of train.export_every_epochs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    train_settings: dict[str, Any], evaluate: dict[str, Any], message: str
) -> None:
    content = {"name": "x", "output": "out", "data": {"path": "x"}, "train": train_settings, "evaluate": evaluate}
    with pytest.raises(UserError, match=message):
        parse_experiment(content)
