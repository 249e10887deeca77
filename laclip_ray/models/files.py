"""The files of a model directory, in open_clip's layout, and how one is saved.

    open_clip_model.safetensors   the weights
    open_clip_config.json         architecture and image preprocessing (`ModelSpec.to_json`)

open_clip loads such a directory as `local-dir:DIRECTORY`.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from laclip_ray.models.specs import ModelSpec

if TYPE_CHECKING:
    import torch

MODEL_FILE = "open_clip_model.safetensors"

CONFIG_FILE = "open_clip_config.json"

TRANSFORMERS_CONFIG = "config.json"
"""The configuration of a model in transformers' layout."""

TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The weights of a model in transformers' layout: the first of these that there is."""

STATE_FILE = "state.json"
"""In a training checkpoint: step, position, counts and lineage."""

LINEAGE_FILE = "lineage.json"
"""In an import or an export for others: the origin of the model."""

EXPORT_DIRECTORY = "export"
"""The directory below `train.output` that holds a run's final model."""


def save_model(directory: Path, model: "torch.nn.Module", spec: ModelSpec) -> None:
    """Write a model to an existing local directory."""
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / MODEL_FILE)
    (directory / CONFIG_FILE).write_text(json.dumps(spec.to_json(), indent=2) + "\n")
