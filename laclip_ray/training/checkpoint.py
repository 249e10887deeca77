"""Checkpoints: their content, how to write and read one, and how to find the newest.

    open_clip_model.safetensors, open_clip_config.json   the model, as `open_clip` loads it (`local-dir:`)
    optimiser.pt                                         the optimiser's state
    state.json                                           step, position in the schedule, counts, p, lineage

Every checkpoint is therefore also a model that any open_clip user can load. The newest complete checkpoint is the one
that Ray Train registered last, never the last one in a directory listing.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from laclip_ray import storage
from laclip_ray.data.schedule import Position
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, STATE_FILE, save_model
from laclip_ray.models.specs import ModelSpec
from laclip_ray.tally import Tally
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import OPTIMISER_FILE, newest_registered


@dataclass
class TrainingState:
    """The state that training resumes from, without the tensors."""

    step: int = 0
    """Optimiser steps done."""
    samples: int = 0
    """Samples trained on."""
    position: Position = field(default_factory=Position)
    """Rows of the schedule that all workers together have consumed."""
    shown_counts: dict[int, dict[int, int]] = field(default_factory=dict)
    """Samples by epoch and `ShownText`."""
    requested_p: dict[int, float] = field(default_factory=dict)
    """By epoch, the sum of the samples' p."""
    skipped: Tally = field(default_factory=Tally)
    """Skipped rows by reason, with the ids of the first few."""
    skipped_batches: int = 0
    """Batches skipped because their loss or gradient was not finite."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "step": self.step,
            "samples": self.samples,
            "position": self.position.to_json(),
            "skipped": dict(self.skipped.counts),
            "skipped_names": self.skipped.names,
            "skipped_batches": self.skipped_batches,
            # The stored name of the shown counts.
            "sources": self.shown_counts,
            "requested_p": self.requested_p,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TrainingState":
        """The inverse of `to_json`. Other keys are ignored."""
        return cls(
            step=content["step"],
            samples=content["samples"],
            position=Position.from_json(content["position"]),
            shown_counts=shown_counts_from_json(content["sources"]),
            # Earlier versions had no p that differs between samples.
            requested_p={int(epoch): requested for epoch, requested in content.get("requested_p", {}).items()},
            skipped=Tally(Counter(content["skipped"]), {**content["skipped_names"]}),
            skipped_batches=content["skipped_batches"],
        )


def shown_counts_from_json(content: Mapping[str, Mapping[str, int]]) -> dict[int, dict[int, int]]:
    """Counts by epoch and `ShownText`, from JSON, which has text keys only."""
    return {int(epoch): {int(shown): count for shown, count in counts.items()} for epoch, counts in content.items()}


def save_checkpoint(
    directory: Path,
    model: torch.nn.Module,
    spec: ModelSpec,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    lineage: Mapping[str, Any],
    text: Mapping[str, Any],
) -> None:
    """Write a complete checkpoint to a local directory.

    Args:
        directory: an empty directory.
        model: its weights are saved.
        spec: of the model.
        optimiser: its state is saved.
        state: everything else that training resumes from.
        lineage: the configuration and the rewrite sets that the run read.
        text: `data.text_choice.text_shares` of the samples trained on.
    """
    save_model(directory, model, spec)
    torch.save(optimiser.state_dict(), directory / OPTIMISER_FILE)
    (directory / STATE_FILE).write_text(json.dumps({**state.to_json(), "text": text, "lineage": lineage}) + "\n")


def load_checkpoint(
    directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> TrainingState:
    """Load a checkpoint into model and optimiser; returns the rest of the state."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(directory / MODEL_FILE, device=str(device)))
    optimiser.load_state_dict(torch.load(directory / OPTIMISER_FILE, map_location=device, weights_only=True))
    return TrainingState.from_json(json.loads((directory / STATE_FILE).read_text()))


def export_model(model: torch.nn.Module, spec: ModelSpec, url: str) -> None:
    """Write the model as open_clip loads it. The configuration comes last, so an export that has one is complete."""
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory), model, spec)
        for name in (MODEL_FILE, CONFIG_FILE):
            storage.write_bytes(storage.join(url, name), (Path(directory) / name).read_bytes())


def export_checkpoint(checkpoint: str, url: str) -> None:
    """Copy the model of a stored checkpoint to `url`."""
    with tempfile.TemporaryDirectory() as directory:
        for name in (MODEL_FILE, CONFIG_FILE):
            (Path(directory) / name).write_bytes(storage.read_bytes(storage.join(checkpoint, name)))
        storage.copy_directory(directory, url)


def newest_checkpoint(train_output: str) -> str | None:
    """The newest checkpoint that Ray Train registered for the run in `train_output`, or None.

    Raises:
        UserError: the register is damaged.
    """
    paths = RunPaths(train_output)
    name = newest_registered(paths)
    return None if name is None else storage.join(paths.ray_run, name)


def read_state(checkpoint: str) -> dict[str, Any]:
    """The content of a stored checkpoint's `state.json`; `TrainingState.from_json` reads it.

    Raises:
        UserError: the file is damaged.
    """
    remedy = "`laclip train` with the run's config resumes from the checkpoint before."
    return storage.read_state(storage.join(checkpoint, STATE_FILE), "the state of this checkpoint", remedy, dict)


def read_position(train_output: str) -> Position:
    """The position where the run in `train_output` resumes: at its newest checkpoint, or at the start."""
    newest = newest_checkpoint(train_output)
    return Position() if newest is None else Position.from_json(read_state(newest)["position"])
