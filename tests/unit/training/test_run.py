"""A training run is refused if its output directory holds another one, before anything starts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import lease, storage
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.models.specs import load_model_spec
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.rows import count_shard
from laclip_ray.training.run import RunLength, check_training, run_training
from laclip_ray.training.run_record import write_record
from laclip_ray.training.summary import unread_samples
from tests.cases import case
from tests.unit.conftest import picture, write_tar
from tests.unit.data.hub import PAGE, URL, hub


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
            "rewrite": {"prompt_sets": ["cleaned", "crowd"]},
            "train": {"batch_size": 2},
        }
    )
    begin(experiment)
    return experiment


def begin(experiment: Experiment) -> None:
    """Write the record of a run, as its first start does."""
    paths, model = RunPaths(experiment.train_output), load_model_spec(experiment.model.name)
    rows = {shard.name: count_shard(experiment.data, shard) for shard in list_shards(experiment.data)}
    write_record(paths, experiment.as_written(), model, rows, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed differ"),
        ({"rewrite.gate.min_shared_words": 0}, r"rewrite\.gate differ"),
        ({"rewrite.prompt_sets": ["cleaned"]}, r"rewrite\.prompt_sets differ"),
        ({"text.rewrites": ["elsewhere"]}, r"text\.rewrites"),
        ({"text.refused": "caption"}, r"text\.refused differ"),
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


@case("Identity", "shards added or removed between two starts of a training run", "refused, with names", exit_code=2)
def test_added_or_removed_shards_are_refused(begun: Experiment) -> None:
    Path(str(begun.data.path), "b.tar").rename(Path(str(begun.data.path), "c.tar"))
    with pytest.raises(UserError, match=r"data\.path: the shards are not those .*missing: b\.tar; new: c\.tar\)"):
        check_training(begun)


@case(
    "Identity",
    "a record of a training run that an earlier version wrote, without the settings that were added since",
    "the run resumes",
)
def test_a_record_of_an_earlier_version_is_recognised(begun: Experiment) -> None:
    paths = RunPaths(begun.train_output)
    content = storage.read_json(paths.experiment)
    for section, keys in (("data", ("captions", "quoting", "exif", "max_pixels")), ("train", ("checkpoint", "loss"))):
        for key in keys:
            del content[section][key]
    del content["rewrite"]["gate"]["drop_repeats"]
    storage.write_json(paths.experiment, content)
    storage.remove(paths.model)
    storage.write_json(paths.rows, {"a.tar": 1, "b.tar": 1})
    check_training(begun)
    with pytest.raises(UserError, match=r"data\.captions differ"):
        check_training(with_overrides(begun, {"data.captions": "all"}))


MODEL: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
EDITS: dict[str, Any] = {
    "model_cfg.text_cfg.heads": {"text_cfg": {**MODEL["text_cfg"], "heads": 4}},
    "model_cfg.vision_cfg.head_width": {"vision_cfg": {**MODEL["vision_cfg"], "head_width": 4}},
    "model_cfg.quick_gelu": {"quick_gelu": True},
    "preprocess_cfg.mean": {"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}},
    "preprocess_cfg.interpolation": {"preprocess_cfg": {"interpolation": "bilinear"}},
}


@pytest.mark.parametrize("recorded", ["model.json", "checkpoint"])
@pytest.mark.parametrize("key", EDITS)
@case("Identity", "a model config edited in place between two starts of a run", "refused, with the keys", exit_code=2)
def test_a_model_config_that_was_edited_in_place_is_refused(
    begun: Experiment, tmp_path: Path, key: str, recorded: str
) -> None:
    def write(changes: dict[str, Any]) -> None:
        model = {name: value for name, value in {**MODEL, **changes}.items() if name != "preprocess_cfg"}
        content = {"model_cfg": model, "preprocess_cfg": changes.get("preprocess_cfg", {})}
        (tmp_path / "model.json").write_text(json.dumps(content))

    write({})
    experiment = with_overrides(begun, {"output": str(tmp_path / "new"), "model.name": str(tmp_path / "model.json")})
    begin(experiment)
    paths = RunPaths(experiment.train_output)
    if recorded == "checkpoint":  # as earlier versions left it
        name = storage.join(paths.ray_run, "checkpoint-00000001-1", "open_clip_config.json")
        storage.write_json(name, storage.read_json(paths.model))
        storage.remove(paths.model)
    check_training(experiment)
    write(EDITS[key])
    with pytest.raises(UserError, match=rf"^model\.name: .* is another model than when .*\({key} differ\)"):
        check_training(experiment)


@pytest.mark.parametrize("content", ["", '{"seed": 0, "data": {"pa', "{}", "[]", "null"])
@case("Identity", "a damaged `experiment.json` of a training run", "refused, with the remedy", exit_code=2)
def test_a_damaged_record_is_refused_with_a_remedy(begun: Experiment, content: str) -> None:
    Path(RunPaths(begun.train_output).experiment).write_text(content)
    with pytest.raises(
        UserError, match=r"experiment\.json: the record of this training run cannot be read; .* Restore"
    ):
        check_training(begun)


@pytest.mark.parametrize("content", ["", "{", '{"a.tar": "many"}', "[1]"])
@case("Identity", "a damaged `rows.json` of a training run", "refused, with the remedy", exit_code=2)
def test_damaged_rows_are_refused_with_a_remedy(begun: Experiment, content: str) -> None:
    Path(RunPaths(begun.train_output).rows).write_text(content)
    with pytest.raises(UserError, match=r"rows\.json: the record of the shards' rows cannot be read; .* Remove it"):
        check_training(begun)
    Path(RunPaths(begun.train_output).rows).unlink()
    check_training(begun)


@case("Identity", "`laclip train` into an output that another run writes to", "refused at once", exit_code=2)
def test_a_run_that_another_run_writes_to_is_not_begun(begun: Experiment, tmp_path: Path) -> None:
    experiment = with_overrides(begun, {"output": str(tmp_path / "new"), "text.p": 0.0})
    other = replace(lease.Holder.of_this_process("train"), machine="elsewhere", host="gpu-7")
    storage.write_bytes(storage.join(experiment.train_output, lease.LEASE_FILE), other.to_bytes())
    with pytest.raises(UserError, match=r"train\.output: another run writes to .*on gpu-7"):
        run_training(experiment)


def test_the_environment_may_give_a_path_or_the_config_may_hold_it(
    begun: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", str(begun.data.path))
    content = {**begun.model_dump(mode="json"), "data": {"path": "${DATA}"}}
    check_training(parse_experiment(content))  # recorded by an earlier version, which expanded it
    begin(parse_experiment(content))
    check_training(parse_experiment(content))


def test_the_page_of_a_data_set_on_the_hub_and_its_url_are_the_same_data(begun: Experiment) -> None:
    files = {path.name: path.read_bytes() for path in Path(str(begun.data.path)).iterdir()}
    with hub(files):
        changes = {"output": f"{begun.output}/of-hub", "data.path": [PAGE]}
        of_page = with_overrides(begun, changes)
        begin(of_page)
        check_training(with_overrides(of_page, {"data.path": [URL]}))
        with pytest.raises(UserError, match=r"data\.path differ"):
            check_training(with_overrides(of_page, {"data.path": [f"{URL}/a.tar"]}))


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


@case("Configs and secrets", "a batch larger than the data set", "refused, before any caption is rewritten", 2)
def test_a_batch_larger_than_the_data_is_refused_while_planning(begun: Experiment) -> None:
    fresh = with_overrides(begun, {"output": begun.output + "-new", "train.epochs": 3})
    check_training(with_overrides(fresh, {"train.batch_size": 6}))
    with pytest.raises(UserError, match=r"train\.batch_size: 8 is more than the 6 samples of 3 epochs"):
        check_training(with_overrides(fresh, {"train.batch_size": 8}))


def test_captions_without_images_are_refused(begun: Experiment, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"caption": "a cup"}\n')
    with pytest.raises(
        UserError, match=r"^data\.image_column: not set, so these are captions without images; training"
    ):
        check_training(with_overrides(begun, {"data.path": str(tmp_path / "captions.jsonl")}))
