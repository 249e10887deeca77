"""What a checkpoint directory holds, and how it is written and read.

    open_clip_model.safetensors, open_clip_config.json   the model, as `open_clip` loads it (`local-dir:`)
    optimiser.pt                                         the optimiser's state
    state.json                                           step, position in the schedule, counts, p, lineage

Every checkpoint is thus also a model that anybody can load. Which checkpoint is the newest whole one is what Ray
Train registered, never a directory listing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from laclip_ray import storage
from laclip_ray.data.schedule import Position
from laclip_ray.models.files import MODEL_FILE, STATE_FILE, save_model
from laclip_ray.models.specs import ModelSpec

OPTIMISER_FILE = "optimiser.pt"

RAY_RUN_NAME = "ray"
"""Ray Train's directory below `train.output`."""

_REGISTER_FILE = "checkpoint_manager_snapshot.json"


@dataclass
class TrainingState:
    """Everything but tensors that training continues from."""

    step: int = 0
    """Optimiser steps done."""
    samples: int = 0
    """Samples trained on."""
    position: Position = field(default_factory=Position)
    shown_counts: dict[int, dict[int, int]] = field(default_factory=dict)
    """Samples by epoch and `ShownText`."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Skipped rows by reason."""
    skipped_names: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the first few skipped rows, by reason."""
    skipped_batches: int = 0
    """Batches whose loss was not finite."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        content = asdict(self)
        # Stored checkpoints call the counts `sources`.
        counts = content.pop("shown_counts")
        return {**content, "sources": counts, "position": self.position.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "TrainingState":
        """The inverse of `to_json`; keys that belong to others are left out."""
        known = {name: content[name] for name in ("step", "samples", "skipped", "skipped_names", "skipped_batches")}
        return cls(
            **known,
            shown_counts=shown_counts_from_json(content["sources"]),
            position=Position.from_json(content["position"]),
        )


def shown_counts_from_json(content: Mapping[str, Mapping[str, int]]) -> dict[int, dict[int, int]]:
    """Counts by epoch and `ShownText`, whose keys JSON has made texts."""
    return {int(epoch): {int(shown): count for shown, count in counts.items()} for epoch, counts in content.items()}


def save_checkpoint(
    directory: Path,
    model: torch.nn.Module,
    spec: ModelSpec,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    lineage: dict[str, Any],
    text: dict[str, Any],
) -> None:
    """Write a whole checkpoint to a local directory; `text` is what `data.augment.text_shares` says of its samples."""
    save_model(directory, model, spec)
    torch.save(optimiser.state_dict(), directory / OPTIMISER_FILE)
    (directory / STATE_FILE).write_text(json.dumps({**state.to_json(), "text": text, "lineage": lineage}) + "\n")


def load_checkpoint(
    directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> TrainingState:
    """Load a checkpoint into model and optimiser, and return the rest."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(directory / MODEL_FILE, device=str(device)))
    optimiser.load_state_dict(torch.load(directory / OPTIMISER_FILE, map_location=device, weights_only=True))
    return TrainingState.from_json(json.loads((directory / STATE_FILE).read_text()))


def newest_checkpoint(train_output: str) -> str | None:
    """The newest checkpoint that Ray Train registered for a run, or None."""
    run = storage.join(train_output, RAY_RUN_NAME)
    register = storage.join(run, _REGISTER_FILE)
    if not storage.exists(register):
        return None
    # A JSON text within JSON in some releases of Ray, plain JSON in others.
    content = storage.read_json(register)
    content = json.loads(content) if isinstance(content, str) else content
    latest = content["latest_checkpoint_result"]
    return storage.join(run, latest["checkpoint_dir_name"]) if latest else None


def read_position(train_output: str) -> Position:
    """Where a run continues: the position of its newest checkpoint, or the start."""
    newest = newest_checkpoint(train_output)
    if newest is None:
        return Position()
    return Position.from_json(storage.read_json(storage.join(newest, STATE_FILE))["position"])
