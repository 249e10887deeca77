"""Import released checkpoints: turn a `.pt` file into a directory that open_clip loads.

**The authors' files** (https://github.com/LijieFan/LaCLIP) are pickles of a dict with `state_dict`, `epoch`, the
optimiser's state and the arguments of the run (their train.py). The models of LAION-400M were trained with open_clip
and have its keys. The models of CC3M, CC12M and RedCaps have the keys of the authors' own model (models.py, on timm
0.5.4), with the prefix `module.` of distributed training:

    visual.*             -> visual.trunk.*
    image_projection     -> visual.head.proj.weight, transposed
    all other keys       -> unchanged

Guarantees: no code in a file runs. torch reads it with `weights_only`. Objects that such files hold beside tensors and
plain values (the run's arguments, numpy's numbers) become placeholders; a file with any other object is refused. The
file has exactly the model's tensors, no more and no fewer, and their values are kept bit for bit. The target must be
empty, and the configuration is written to it last.

Not covered: weights do not tell a model's activation, so shapes alone do not distinguish QuickGELU from GELU (see
`RELEASED`).
"""

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from laclip_ray import ownership, storage
from laclip_ray.errors import UserError
from laclip_ray.models import paper_models
from laclip_ray.models.building import create_model
from laclip_ray.models.files import LINEAGE_FILE, save_model
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.tally import first_names

KeyLayout = Literal["laclip", "open_clip"]
"""Whose names the tensors have: the authors' own model's, or open_clip's."""

RELEASED = (*paper_models.NAMES, "ViT-B-32", "ViT-B-16", "ViT-L-14-quickgelu")
"""The models that a file is compared with. The authors' evaluation (eval_zeroshot_imagenet_laion.py) builds ViT-B-32
and ViT-B-16 without QuickGELU."""


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
    """Turn a released `.pt` file into a directory that open_clip loads, with its lineage.

    Args:
        source: a path or URL of the file.
        target: a new or empty directory or URL.
        model: a name or config file, as `model.name` takes it. None: the one of `RELEASED` that has the file's shapes.

    Raises:
        UserError: the target is not empty, or the file is missing, holds objects foreign to checkpoints, or does not
            fit the model. The target is unchanged.
    """
    ownership.check_empty(target)
    if not storage.exists(source) or storage.is_directory(source):
        raise UserError(f"there is no file {source}")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(source.removeprefix("file://"))
        if not storage.is_local(source):
            path = Path(scratch) / "source.pt"
            fs, remote_path = storage.filesystem(source)
            fs.get_file(remote_path, str(path))
        content = _read_pickle(path, source)
        weights, layout = _with_open_clip_names(_state_dict(content, source))
        spec, fitting_model = _find_model(weights, layout, model, source)
        fitting_model.load_state_dict(weights, assign=True)
        directory = Path(scratch) / "model"
        directory.mkdir()
        save_model(directory, fitting_model, spec)
        epoch = content.get("epoch")
        imported = ImportedCheckpoint(
            model=spec.name,
            layout=layout,
            epoch=epoch if isinstance(epoch, int) else None,
            lookalike=_lookalike(spec.name) if model is None else None,
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


class _Placeholder:
    """Stands for an object that a checkpoint holds beside tensors and plain values; keeps no content."""

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# The run's arguments, and the learning rate: both codebases compute it with numpy (1.x then, hence two names).
_PLACEHOLDERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Placeholder, name)
    for name in (
        "argparse.Namespace",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
    )
]


def _read_pickle(path: Path, source: str) -> Mapping[str, Any]:
    """The content of a checkpoint file, without running code in it; tensors are mapped from disk if its format allows.

    Raises:
        UserError: the file is not a pickle of a mapping, or holds an object foreign to checkpoints.
    """
    try:
        with torch.serialization.safe_globals(_PLACEHOLDERS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch does not say which errors its readers raise
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{source}: holds {foreign[1]}, which is no part of a checkpoint (tensors, plain values, the arguments "
                "of a run); nothing of it was run"
            ) from error
        raise UserError(f"{source}: is not a PyTorch checkpoint ({type(error).__name__})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: is not a checkpoint but a {type(content).__name__}")
    return content


def _state_dict(content: Mapping[str, Any], source: str) -> dict[str, torch.Tensor]:
    """The weights by name, without the prefix of distributed training."""
    weights = content.get("state_dict", content)
    if (
        not isinstance(weights, Mapping)
        or not weights
        or not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items())
    ):
        keys = first_names(str(key) for key in content) or "nothing"
        raise UserError(f"{source}: is not a model's checkpoint: it has no `state_dict` of tensors, but {keys}")
    prefix = "module." if all(name.startswith("module.") for name in weights) else ""
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def _with_open_clip_names(weights: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], KeyLayout]:
    """The weights by open_clip's names, and whose names they had."""
    if "image_projection" not in weights:
        return dict(weights), "open_clip"
    renamed = {re.sub(r"^visual\.", "visual.trunk.", name): value for name, value in weights.items()}
    renamed["visual.head.proj.weight"] = renamed.pop("image_projection").T
    return renamed, "laclip"


def _find_model(
    weights: Mapping[str, torch.Tensor], layout: KeyLayout, model: str | None, source: str
) -> tuple[ModelSpec, torch.nn.Module]:
    """The model with exactly these tensors, on torch's meta device (without memory for weights of its own).

    Raises:
        UserError: no model fits; the message names the differences from the nearest one.
    """
    names = _released_models(layout) if model is None else (model,)
    differences_of: dict[str, list[str]] = {}
    for name in names:
        spec = load_model_spec(name, "--model")
        with torch.device("meta"):
            candidate = create_model(spec, seed=0)
        differences = _differences(weights, candidate.state_dict())
        if not differences:
            return spec, candidate
        differences_of[name] = differences
    nearest = min(differences_of, key=lambda name: len(differences_of[name]))
    advice = "" if model is not None else f". None of {', '.join(names)} fits better; name it with --model"
    raise UserError(f"{source}: does not fit {nearest}: {first_names(differences_of[nearest])}{advice}")


def _released_models(layout: KeyLayout) -> tuple[str, ...]:
    return tuple(name for name in RELEASED if (name in paper_models.NAMES) == (layout == "laclip"))


def _differences(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """The differences in names and shapes between a file's tensors and a model's, one text for each tensor."""
    return [
        *(f"missing {name}" for name in expected if name not in weights),
        *(f"unexpected {name}" for name in weights if name not in expected),
        *(
            f"{name} is {list(weights[name].shape)} and not {list(expected[name].shape)}"
            for name in weights
            if name in expected and weights[name].shape != expected[name].shape
        ),
    ]


def _lookalike(name: str) -> str | None:
    """open_clip's name of the same model with the other activation; None for the paper's models."""
    if name in paper_models.NAMES:
        return None
    return name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
