"""Import released checkpoints: turn a checkpoint file into a directory that open_clip loads.

**The authors' files** (https://github.com/LijieFan/LaCLIP) are pickles of a dict with `state_dict`, `epoch`, the
optimiser's state and the arguments of the run (their train.py). `recognition` has their names.

Guarantees: no code in a file runs (`checkpoint_files`). The file has exactly the model's tensors, and their values are
kept bit for bit. The target must be empty, and the configuration is written to it last.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from laclip_ray import ownership, storage
from laclip_ray.errors import UserError
from laclip_ray.models.checkpoint_files import read_checkpoint, state_dict_of
from laclip_ray.models.fetching import local_file
from laclip_ray.models.files import LINEAGE_FILE, save_model
from laclip_ray.models.recognition import KeyLayout, find_model, lookalike, with_open_clip_names


@dataclass(frozen=True)
class ImportedCheckpoint:
    """The model and the layout of an imported file."""

    model: str
    layout: KeyLayout
    epoch: int | None
    """Epochs trained; None if the file does not say."""
    lookalike: str | None
    """A model of the same shapes with the other activation, if the model was recognised by its shapes."""


def import_checkpoint(source: str, target: str, model: str | None = None) -> ImportedCheckpoint:
    """Turn a checkpoint file into a directory that open_clip loads, with its lineage.

    Args:
        source: a path or URL of the file.
        target: a new or empty directory or URL.
        model: a name or config file, as `model.name` takes it. None: the one of `recognition.RELEASED` that has the
            file's shapes.

    Raises:
        UserError: the target is not empty, or the file is missing, holds objects foreign to checkpoints, or does not
            fit the model. The target is unchanged.
    """
    ownership.check_empty(target)
    if not storage.exists(source) or storage.is_directory(source):
        raise UserError(f"there is no file {source}")
    with tempfile.TemporaryDirectory() as scratch, local_file(source) as path:
        content = read_checkpoint(path, source)
        weights, layout = with_open_clip_names(state_dict_of(content, source))
        spec, fitting_model = find_model(weights, layout, model, source, "name it with --model")
        fitting_model.load_state_dict(weights, assign=True)
        directory = Path(scratch) / "model"
        directory.mkdir()
        save_model(directory, fitting_model, spec)
        epoch = content.get("epoch")
        imported = ImportedCheckpoint(
            model=spec.name,
            layout=layout,
            epoch=epoch if isinstance(epoch, int) else None,
            lookalike=lookalike(spec.name) if model is None else None,
        )
        lineage = {
            "imported_from": storage.name_of(source),
            "sha256": _sha256(path),
            "layout": layout,
            "epoch": imported.epoch,
            "model": spec.name,
            "model_told_by": "its shapes" if model is None else "the user",
        }
        storage.write_json(str(directory / LINEAGE_FILE), lineage)
        storage.copy_directory(str(directory), target)
    return imported


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
