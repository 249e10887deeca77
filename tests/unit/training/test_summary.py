"""A run without a step is no success."""

import json
from pathlib import Path

import pytest

from laclip_ray.config import parse_experiment
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.data.text_choice import TextPolicy
from laclip_ray.errors import IncompleteError
from laclip_ray.models.files import STATE_FILE
from laclip_ray.models.specs import load_model_spec
from laclip_ray.training.checkpoint import TrainingState
from laclip_ray.training.loop import LoopInput
from laclip_ray.training.register import checkpoint_name
from laclip_ray.training.summary import finish
from tests.unit.training.registers import register


def test_a_run_whose_images_fill_no_batch_is_incomplete(tmp_path: Path) -> None:
    experiment = parse_experiment({"name": "a", "output": str(tmp_path), "data": {"path": "pictures"}})
    text = TextPolicy("sample", 1, 0.0, 0.0, 1)
    inputs = LoopInput(experiment, load_model_spec("ViT-B-32"), text, 1, 1, 16, {})
    name = checkpoint_name(0, 1_000)
    directory = Path(inputs.paths.ray_run, name)
    directory.mkdir(parents=True)
    state = TrainingState(position=Position(done_below=1))
    (directory / STATE_FILE).write_text(json.dumps(state.to_json()))
    register(inputs.paths, [name])
    message = (
        r"^no step was made: fewer usable images than one batch\. Look at the images in pictures, or lower train\."
    )
    with pytest.raises(IncompleteError, match=message):
        finish(inputs, Schedule(1, 1, 0), {"0.tar": 16})
    assert not Path(inputs.paths.summary).exists()
