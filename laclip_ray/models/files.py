"""A model's files in open_clip's local-directory layout, and how they are written."""

import json
from pathlib import Path

import torch

from laclip_ray.models.specs import ModelSpec

MODEL_FILE = "open_clip_model.safetensors"

CONFIG_FILE = "open_clip_config.json"

STATE_FILE = "state.json"


def save_model(directory: Path, model: torch.nn.Module, spec: ModelSpec) -> None:
    """Write a model in open_clip's local-directory layout."""
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / MODEL_FILE)
    (directory / CONFIG_FILE).write_text(json.dumps(spec.to_json(), indent=2) + "\n")
