"""A training run is refused if its output directory holds another one, before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.errors import UserError
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run import RunLength, check_training
from laclip_ray.training.run_record import write_record
from laclip_ray.training.summary import unread_samples
from tests.unit.conftest import picture, write_tar


@pytest.fixture
def begun(tmp_path: Path) -> Experiment:
    """A run that has begun, on two tars."""
    for name in ("a", "b"):
        write_tar(tmp_path / "data" / f"{name}.tar", [(f"{name}.jpg", picture("JPEG")), (f"{name}.txt", b"a cup")])
    experiment = parse_experiment(
        {
            "name": "begun",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "rewrite": {"prompt_sets": ["human", "crowd"]},
            "train": {"batch_size": 2},
        }
    )
    content = experiment.model_dump(mode="json")
    write_record(RunPaths(experiment.train_output), content, {"a.tar": 1, "b.tar": 1}, None)
    return experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed differ"),
        ({"rewrite.gate.min_shared_words": 0}, r"rewrite\.gate differ"),
        ({"rewrite.prompt_sets": ["human"]}, r"rewrite\.prompt_sets differ"),
        ({"text.rewrites": ["elsewhere"]}, r"text\.rewrites"),
    ],
)
def test_another_run_in_the_same_directory_is_refused(begun: Experiment, changes: dict[str, Any], message: str) -> None:
    check_training(begun)
    with pytest.raises(UserError, match=message):
        check_training(with_overrides(begun, changes))


def test_the_number_of_picture_models_may_change(begun: Experiment) -> None:
    gate = {"model": "ViT-B-32", "pretrained": "openai", "actors": {"min": 1, "max": 2}}
    scored = with_overrides(begun, {"rewrite.gate.picture": gate})
    storage.write_json(RunPaths(begun.train_output).experiment, scored.model_dump(mode="json"))
    check_training(with_overrides(scored, {"rewrite.gate.picture.actors": {"min": 2, "max": 3}}))
    with pytest.raises(UserError, match=r"rewrite\.gate differ"):
        check_training(begun)


def test_a_run_without_rewrites_ignores_their_settings(begun: Experiment) -> None:
    plain = with_overrides(begun, {"text.p": 0.0})
    storage.write_json(RunPaths(begun.train_output).experiment, plain.model_dump(mode="json"))
    check_training(with_overrides(plain, {"rewrite.gate.min_shared_words": 0}))


def test_added_or_removed_shards_are_refused(begun: Experiment) -> None:
    Path(str(begun.data.path), "b.tar").unlink()
    with pytest.raises(UserError, match=r"data\.path: the shards are not those"):
        check_training(begun)


def test_weights_of_unknown_sets_are_refused(begun: Experiment, tmp_path: Path) -> None:
    changes = {"output": str(tmp_path / "new"), "text.weights": {"crwd": 1.0}}
    with pytest.raises(UserError, match=r"text\.weights: there is no rewrite set 'crwd'"):
        check_training(with_overrides(begun, changes))


def test_samples_of_unread_entries_are_counted_unless_the_last_batch_may_hold_them() -> None:
    schedule, rows = Schedule(3, 2, seed=0), {"a": 10, "b": 20, "empty": 0}
    position = Position()
    read = [index for index in range(6) if schedule.entry(index).shard == 0]
    position.consume(read[0], range(10), 10)
    position.consume(read[1], range(4))  # the rest was in an incomplete batch
    assert unread_samples(position, schedule, rows, 40) == {"b": 40}
    assert not unread_samples(position, schedule, rows, 41)


def test_a_run_pauses_and_exports_at_the_first_step_that_completes_an_epoch() -> None:
    length = RunLength(samples_per_epoch=10, epochs=4, batch_size=3)
    assert length.total_steps == 13
    assert [length.step_after(epoch) for epoch in range(5)] == [0, 4, 7, 10, 13]
    assert length.export_steps(2) == {7: 2}
    assert length.export_steps(None) == {}
    assert [length.last_step(epoch) for epoch in (None, 1, 4)] == [None, 4, None]


def test_a_batch_larger_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.batch_size: 9 is more than the 8 samples of 2 epochs"):
        RunLength(samples_per_epoch=4, epochs=2, batch_size=9).check()
