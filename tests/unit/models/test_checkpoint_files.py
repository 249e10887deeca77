"""A checkpoint file gives its weights and runs no code."""

import argparse
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from laclip_ray.errors import UserError
from laclip_ray.models.checkpoint_files import placeholders, read_checkpoint, state_dict_of

WEIGHTS = {"a": torch.arange(3.0), "b": torch.tensor(2.0)}


def weights_in(path: Path) -> dict[str, torch.Tensor]:
    return state_dict_of(read_checkpoint(path, str(path)), str(path))


def test_safetensors_and_pickles_give_the_same_weights(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "file.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in WEIGHTS.items()}}, tmp_path / "file.pt")
    for name in ("file.safetensors", "file.pt"):
        read = weights_in(tmp_path / name)
        assert read.keys() == WEIGHTS.keys()
        assert all(torch.equal(read[key], value) for key, value in WEIGHTS.items())


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"file\.safetensors: is not a safetensors file"):
        weights_in(tmp_path / "file.safetensors")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*TorchScript archive:UserWarning")
def test_code_in_torchscript_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "file.pt")
    with pytest.raises(UserError, match=r"file\.pt: is a TorchScript archive, which holds code.*save its `state_dict"):
        weights_in(tmp_path / "file.pt")


def test_torch_reads_a_runs_arguments_and_learning_rate_with_placeholders(tmp_path: Path) -> None:
    content = {"state_dict": WEIGHTS, "args": argparse.Namespace(seed=1), "rate": np.float64(0.1)}
    torch.save(content, tmp_path / "file.pt")
    with placeholders("file.pt"):
        assert open_clip.factory.load_state_dict(str(tmp_path / "file.pt")).keys() == WEIGHTS.keys()
