"""A run resumes from the newest whole checkpoint, whatever happened to the register and to the files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from laclip_ray import storage
from laclip_ray.data.schedule import Position
from laclip_ray.errors import UserError
from laclip_ray.models.building import create_model
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.training.checkpoint import TrainingState, newest_checkpoint, read_position, save_checkpoint
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import (
    REGISTER_FILE,
    checkpoint_name,
    drop_unloadable,
    find_defect,
    newest_registered,
    repair_register,
)
from tests.cases import case
from tests.unit.training.registers import register

MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}
STEPS = (4, 8, 12)
NAMES = [checkpoint_name(step, 1_000 + step) for step in STEPS]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("model") / "model.json"
    path.write_text(json.dumps(MODEL))
    return load_model_spec(str(path))


@pytest.fixture
def paths(tmp_path: Path, spec: ModelSpec) -> RunPaths:
    """A run with three checkpoints, registered as Ray Train does."""
    paths = RunPaths(str(tmp_path / "train"))
    model = create_model(spec, seed=0)
    optimiser = torch.optim.AdamW(model.parameters())
    for step, name in zip(STEPS, NAMES, strict=True):
        directory = Path(paths.ray_run, name)
        directory.mkdir(parents=True)
        state = TrainingState(step=step, samples=16 * step, position=Position(done_below=step))
        save_checkpoint(directory, model, spec, optimiser, state, {"experiment": {}, "rewrite_sets": []}, {})
    register(paths, NAMES)
    return paths


def registered(paths: RunPaths) -> list[str]:
    """The checkpoints that Ray Train would know, oldest first; the newest one is the last one."""
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import _CheckpointManagerState

    content = _CheckpointManagerState.model_validate(json.loads(Path(paths.ray_run, REGISTER_FILE).read_text()))
    names = [result.checkpoint_dir_name for result in content.checkpoint_results]
    assert content.latest_checkpoint_result is not None
    assert content.latest_checkpoint_result.checkpoint_dir_name == names[-1]
    assert len(content.checkpoint_report_indices) == len(names)
    return names


def file(paths: RunPaths, number: int, name: str) -> Path:
    return Path(paths.ray_run, NAMES[number], name)


def test_a_sound_run_is_left_as_it_is(paths: RunPaths) -> None:
    before = Path(paths.ray_run, REGISTER_FILE).read_text()
    repair_register(paths)
    assert Path(paths.ray_run, REGISTER_FILE).read_text() == before
    assert newest_checkpoint(paths.output) == storage.join(paths.ray_run, NAMES[-1])
    assert [find_defect(storage.join(paths.ray_run, name)) for name in NAMES] == [None] * 3


def test_a_run_that_has_not_begun_has_nothing_to_repair(tmp_path: Path) -> None:
    repair_register(RunPaths(str(tmp_path / "train")))
    assert not (tmp_path / "train").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_the_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


FILES = ("open_clip_model.safetensors", "optimiser.pt", "state.json", "open_clip_config.json")


@pytest.mark.parametrize("damage", [cut, cut_the_last_byte, empty, zero, Path.unlink])
@pytest.mark.parametrize("name", FILES)
@case(
    "Identity",
    "half-written weights, optimiser or state in the newest checkpoint",
    "the run resumes from the checkpoint before, and says so",
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    paths: RunPaths, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    if damage is cut_the_last_byte and name.endswith(".json"):
        return  # only a line break
    damage(file(paths, 2, name))
    repair_register(paths)
    assert registered(paths) == NAMES[:2]
    assert read_position(paths.output) == Position(done_below=8)
    assert f"{NAMES[2]}: {name} is {'missing' if damage is Path.unlink else 'damaged'}; resuming from" in caplog.text


@case("Identity", "the newest checkpoint deleted", "the run resumes from the checkpoint before, and says so")
def test_deleted_checkpoints_are_left_out(paths: RunPaths, caplog: pytest.LogCaptureFixture) -> None:
    for number in (0, 2):
        for path in Path(paths.ray_run, NAMES[number]).iterdir():
            path.unlink()
        Path(paths.ray_run, NAMES[number]).rmdir()
    repair_register(paths)
    assert registered(paths) == NAMES[1:2]
    assert f"{NAMES[2]}: it does not exist; resuming from {NAMES[1]}" in caplog.text


@pytest.mark.parametrize("content", ["", '{"checkpoint_results": [', "null", "{}", "[]"])
@case(
    "Identity", "a cut register of checkpoints", "made again from the whole checkpoints; the run resumes, and says so"
)
def test_a_damaged_register_is_made_again(paths: RunPaths, content: str, caplog: pytest.LogCaptureFixture) -> None:
    Path(paths.ray_run, REGISTER_FILE).write_text(content)
    with pytest.raises(UserError, match=r"Ray Train's register of checkpoints cannot be read; .* makes it again"):
        newest_registered(paths)
    cut(file(paths, 2, FILES[0]))
    repair_register(paths)
    assert registered(paths) == NAMES[:2]
    assert "is damaged; made it again from the 2 whole checkpoints there" in caplog.text


@case("Identity", "a deleted register beside checkpoints", "made again; the run never starts from the beginning")
def test_a_missing_register_beside_checkpoints_is_made_again(paths: RunPaths) -> None:
    Path(paths.ray_run, REGISTER_FILE).unlink()
    repair_register(paths)
    assert registered(paths) == NAMES
    assert read_position(paths.output) == Position(done_below=12)


def test_a_register_of_earlier_releases_of_ray_is_read(paths: RunPaths) -> None:
    path = Path(paths.ray_run, REGISTER_FILE)
    path.write_text(json.dumps(path.read_text()))
    assert newest_registered(paths) == NAMES[-1]


@case(
    "Identity",
    "no checkpoint of a run can be loaded",
    "refused; the run does not start from the beginning",
    exit_code=2,
)
def test_a_run_without_a_whole_checkpoint_is_refused(paths: RunPaths) -> None:
    for number in range(3):
        cut(file(paths, number, FILES[0]))
    with pytest.raises(UserError, match=r"train\.output: no checkpoint of .* can be loaded \(.*safetensors is damaged"):
        repair_register(paths)
    Path(paths.ray_run, REGISTER_FILE).write_text("{")
    with pytest.raises(UserError, match=r"register of checkpoints is damaged, and no whole checkpoint lies beside it"):
        repair_register(paths)


def test_uploads_that_a_killed_run_did_not_finish_are_no_checkpoints(
    paths: RunPaths, caplog: pytest.LogCaptureFixture
) -> None:
    Path(paths.ray_run, REGISTER_FILE).unlink()
    for number in range(3):
        file(paths, number, "state.json").unlink()
    repair_register(paths)
    assert newest_registered(paths) is None
    assert "none of its checkpoints is whole; training starts from the beginning" in caplog.text


def report(paths: RunPaths, name: str) -> None:
    """Report a checkpoint that cannot be loaded, as the first worker does."""
    storage.write_json(paths.unloadable, {"name": name, "reason": "RuntimeError: size mismatch"})


@case(
    "Identity",
    "a newest checkpoint of the right length that the workers cannot load",
    "the run resumes from the checkpoint before, and says so",
)
def test_a_checkpoint_that_the_workers_cannot_load_is_dropped(
    paths: RunPaths, caplog: pytest.LogCaptureFixture
) -> None:
    assert not drop_unloadable(paths)
    report(paths, NAMES[2])
    assert drop_unloadable(paths)
    assert registered(paths) == NAMES[:2]
    assert f"{NAMES[2]}: RuntimeError: size mismatch; resuming from {NAMES[1]}" in caplog.text
    assert not storage.exists(paths.unloadable)
    report(paths, NAMES[2])  # of an attempt before
    assert not drop_unloadable(paths)
    for name in reversed(NAMES[:2]):
        report(paths, name)
        if name == NAMES[0]:
            with pytest.raises(UserError, match="no checkpoint of"):
                drop_unloadable(paths)
        else:
            assert drop_unloadable(paths)


def test_the_best_checkpoints_stay_in_their_order(paths: RunPaths) -> None:
    path = Path(paths.ray_run, REGISTER_FILE)
    content: dict[str, Any] = json.loads(path.read_text())
    order = [2, 0, 1]  # by loss; the third one is the newest
    content["checkpoint_results"] = [content["checkpoint_results"][number] for number in order]
    content["checkpoint_report_indices"] = order
    path.write_text(json.dumps(content))
    repair_register(paths)
    assert json.loads(path.read_text()) == content
    cut(file(paths, 2, FILES[1]))
    repair_register(paths)
    assert registered(paths) == NAMES[:2]
