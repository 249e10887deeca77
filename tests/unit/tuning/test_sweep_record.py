"""A sweep's directory holds comparable runs only."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import Space
from laclip_ray.tuning.sweep_record import SharedSettings, check_sweep, write_record
from tests.cases import case

EPOCHS = [5, 35]
SETS: dict[str, int | None] = {"rewrites/crowd": 1, "rewrites/cleaned": None}


def check(experiment: Experiment, epochs: list[int]) -> None:
    settings = SharedSettings.of(experiment, Space.of(experiment.tune), epochs)
    check_sweep(SweepPaths(experiment.tune_output), settings)


def record(experiment: Experiment, epochs: list[int], revisions: dict[str, int | None]) -> None:
    settings = SharedSettings.of(experiment, Space.of(experiment.tune), epochs)
    write_record(SweepPaths(experiment.tune_output), settings, revisions)


@pytest.fixture
def swept(tmp_path: Path) -> Experiment:
    """A sweep that has begun."""
    space = {"train.weight_decay": {"grid": [0.1, 0.2]}}
    experiment = parse_experiment(
        {"name": "sweep", "output": str(tmp_path), "data": {"path": "data"}, "tune": {"p": [0, 1], "space": space}}
    )
    check(experiment, EPOCHS)
    record(experiment, EPOCHS, SETS)
    return experiment


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tune.seeds": [0, 1, 2]},
        {"tune.p": [0.5]},
        {"tune.halving": {"first_epochs": 2}},
        {"train.weight_decay": 0.3},
        {"text.p": 0.3},
        {"train.workers": 4, "stream.prefetch_batches": 3},
    ],
)
def test_a_sweep_resumes_with_more_points_and_at_another_speed(swept: Experiment, changes: dict[str, Any]) -> None:
    again = with_overrides(swept, changes)
    check(again, EPOCHS[1:])
    record(again, EPOCHS[1:], {**SETS, "rewrites/new": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.learning_rate", 1.0),
        ("train.epochs", 3),
        ("text.mode", "both"),
        ("stream.order", "exact"),
        ("data.path", "other"),
        ("rewrite.prompt_sets", ["crowd"]),
        ("evaluate.labelled", [{"name": "new", "path": "new"}]),
    ],
)
def test_another_sweep_is_refused_with_the_keys_that_differ(swept: Experiment, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"holds another sweep \({key} differ"):
        check(with_overrides(swept, {key: value}), EPOCHS)


def test_a_key_that_is_no_longer_swept_must_have_its_first_value(swept: Experiment) -> None:
    record(with_overrides(swept, {"train.weight_decay": 0.3}), EPOCHS, SETS)
    with pytest.raises(UserError, match=r"train\.weight_decay differ"):
        check(with_overrides(swept, {"tune.space": {}, "train.weight_decay": 0.3}), EPOCHS)


def test_a_changed_rewrite_set_is_refused(swept: Experiment) -> None:
    with pytest.raises(UserError, match=r"holds another sweep \(rewrites/crowd differ"):
        record(swept, EPOCHS, {**SETS, "rewrites/crowd": 2})


def test_epochs_without_a_model_are_refused(swept: Experiment) -> None:
    with pytest.raises(UserError, match=r"after epochs 10, 20, but the runs in .* kept no model of them"):
        check(swept, [5, 10, 20, 35])


def test_a_directory_without_a_record_is_not_refused(tmp_path: Path, swept: Experiment) -> None:
    other = with_overrides(swept, {"tune.output": str(tmp_path / "other"), "train.epochs": 3})
    storage.write_json(storage.join(other.tune_output, "rows.json"), {})
    check(other, EPOCHS)


def test_the_record_keeps_the_first_values_and_adds_sets(swept: Experiment) -> None:
    record(with_overrides(swept, {"train.weight_decay": 0.3}), EPOCHS[1:], {"rewrites/new": 4})
    content = storage.read_json(SweepPaths(swept.tune_output).record)
    assert content.keys() == {"settings", "rewrite_revisions", "epochs"}
    assert content["settings"]["train.weight_decay"] == swept.train.weight_decay
    assert content["rewrite_revisions"] == {**SETS, "rewrites/new": 4}
    assert content["epochs"] == EPOCHS


@case("Identity", "a model config edited in place between two starts of a sweep", "refused, with the keys", exit_code=2)
def test_a_model_config_that_was_edited_in_place_is_refused(swept: Experiment, tmp_path: Path) -> None:
    def write(heads: int) -> None:
        model = {"embed_dim": 8, "vision_cfg": {"layers": 1}, "text_cfg": {"heads": heads}}
        storage.write_json(str(tmp_path / "model.json"), model)

    write(2)
    changes = {"tune.output": str(tmp_path / "other"), "model.name": str(tmp_path / "model.json")}
    experiment = with_overrides(swept, changes)
    record(experiment, EPOCHS, SETS)
    check(experiment, EPOCHS)
    write(4)
    with pytest.raises(UserError, match=r"another sweep \(content of model\.name: model_cfg\.text_cfg\.heads differ\)"):
        check(experiment, EPOCHS)
    # A sweep over models leaves it to the record of each run.
    space = {"model.name": {"grid": ["ViT-B-32", str(tmp_path / "model.json")]}}
    check(with_overrides(experiment, {"tune.space": space}), EPOCHS)


@case("Identity", "a record of a sweep by an earlier version, without newer settings", "the sweep resumes")
def test_a_record_of_an_earlier_version_is_recognised(swept: Experiment) -> None:
    experiment = with_overrides(swept, {"evaluate.retrieval": [{"name": "flickr", "data": {"path": "flickr"}}]})
    url = SweepPaths(experiment.tune_output).record
    storage.remove(url)
    record(experiment, EPOCHS, SETS)
    content = storage.read_json(url)
    for key in ("data.exif", "data.captions", "content of model.name"):
        del content["settings"][key]
    del content["settings"]["evaluate.retrieval"][0]["data"]["exif"]
    storage.write_json(url, content)
    check(experiment, EPOCHS)
    with pytest.raises(UserError, match=r"evaluate\.retrieval differ"):
        check(with_overrides(experiment, {"evaluate.retrieval": []}), EPOCHS)


@pytest.mark.parametrize("content", ["", '{"settings": {', "null", "[]", '{"settings": 5}'])
@case("Identity", "a damaged `sweep.json`", "refused, with the remedy", exit_code=2)
def test_a_damaged_record_is_refused_with_a_remedy(swept: Experiment, content: str) -> None:
    path = Path(SweepPaths(swept.tune_output).record)
    path.write_text(content)
    with pytest.raises(UserError, match=r"sweep\.json: the record of this sweep cannot be read; .* remove the file"):
        check(swept, EPOCHS)
    path.unlink()
    check(swept, EPOCHS)
