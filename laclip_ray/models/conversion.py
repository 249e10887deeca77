"""Checkpoints from and to the files of others: the authors' released weights, open_clip's layout, and transformers'.

**The authors' files** (https://github.com/LijieFan/LaCLIP) are pickles of a dict with `state_dict`, `epoch`, the
optimiser's state and the arguments of the run (their train.py). Those of LAION-400M were trained with open_clip and
have its keys. Those of CC3M, CC12M and RedCaps have the keys of the authors' own model (models.py, on timm 0.5.4), with
the prefix `module.` of distributed training:

    visual.*             -> visual.trunk.*
    image_projection     -> visual.head.proj.weight, transposed
    all others           -> as they are

**An export** is a directory that goes to the Hugging Face Hub as it is: weights, configuration, a model card and
`lineage.json`. `open_clip` takes every model. `hugging_face` is `transformers.CLIPModel` with its processor; it takes
models of open_clip's own vision transformer, and refuses others.

Guarantees: nothing in a file that is imported is run. It is read by torch's `weights_only`; what is neither a tensor
nor a plain value is replaced by a placeholder where it belongs to such files, and refused elsewhere. Every tensor has a
place in the model, and the model none without one. Values are kept bit for bit. A directory that holds files is not
written to, and the configuration appears in it last.

Not covered: the activation of a model is not in its weights, so that shapes alone do not tell QuickGELU from GELU (see
`RELEASED`).
"""

import hashlib
import json
import posixpath
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from laclip_ray import storage
from laclip_ray.config import ModelLayout
from laclip_ray.errors import UserError
from laclip_ray.models import paper_models
from laclip_ray.models.building import create_model
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, STATE_FILE, save_model
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.models.transformers_layout import write_transformers

LINEAGE_FILE = "lineage.json"
CARD_FILE = "README.md"
_TIMM_FILE = "config.json"
"""Where timm looks for what an image tower is; transformers' file has the same name."""

RELEASED = (*paper_models.NAMES, "ViT-B-32", "ViT-B-16", "ViT-L-14-quickgelu")
"""The models that shapes are compared with. The authors' evaluation (eval_zeroshot_imagenet_laion.py) builds ViT-B-32
and ViT-B-16 without QuickGELU."""

_NAMED = 5
"""How many of many are named in a message."""


# Import


@dataclass(frozen=True)
class ImportedCheckpoint:
    """What an import found."""

    model: str
    layout: str
    """`laclip` (the authors' own model) or `open_clip`: whose keys the file had."""
    epoch: int | None
    """Epochs trained, where the file says."""
    lookalike: str | None
    """A model of the same shapes with the other activation, where the model was told by its shapes."""


def import_checkpoint(source: str, target: str, model: str | None = None) -> ImportedCheckpoint:
    """Turn a released `.pt` file into a directory that open_clip loads, with its lineage.

    Args:
        source: the file, or its URL.
        target: the directory or URL that is written.
        model: a name or config file, as `model.name` takes it. None: told by the shapes, one of `RELEASED`.

    Raises:
        UserError: the file is missing, holds more than a checkpoint does, or does not fit the model; or the target
            holds files already. Nothing was written.
    """
    _check_target(target)
    if not storage.exists(source) or storage.is_directory(source):
        raise UserError(f"there is no file {source}")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(source.removeprefix("file://"))
        if not storage.is_local(source):
            path = Path(scratch) / "source.pt"
            fs, remote = storage.filesystem(source)
            fs.get_file(remote, str(path))
        content = _load(path, source)
        weights, layout = _as_open_clip(_state_dict(content, source))
        spec, built = _model_for(weights, layout, model, source)
        built.load_state_dict(weights, assign=True)
        directory = Path(scratch) / "model"
        directory.mkdir()
        save_model(directory, built, spec)
        epoch = content.get("epoch")
        imported = ImportedCheckpoint(
            model=spec.name,
            layout=layout,
            epoch=epoch if isinstance(epoch, int) else None,
            lookalike=_lookalike(spec.name) if model is None else None,
        )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lineage = {
            "imported_from": storage.name_of(source),
            "sha256": digest,
            "layout": layout,
            "epoch": imported.epoch,
            "model": spec.name,
            "model_told_by": "its shapes" if model is None else "the user",
        }
        _write_json(directory / LINEAGE_FILE, lineage)
        storage.copy_directory(str(directory), target)
    return imported


class _Unread:
    """Stands for what a file holds beside tensors and plain values; nothing is kept of it."""

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# The arguments of the run, and the learning rate: both codebases compute it with numpy (1.x then, hence two names).
_PLACEHOLDERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, name)
    for name in (
        "argparse.Namespace",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
    )
]


def _load(path: Path, source: str) -> Mapping[str, Any]:
    """The content of a pickle, tensors mapped from the file where its format allows."""
    try:
        with torch.serialization.safe_globals(_PLACEHOLDERS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch's readers raise what they like
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{source}: holds {found[1]}, which is no part of a checkpoint (tensors, plain values, the arguments "
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
        found = _some(str(key) for key in content) or "nothing"
        raise UserError(f"{source}: is not a model's checkpoint: it has no `state_dict` of tensors, but {found}")
    prefix = "module." if all(name.startswith("module.") for name in weights) else ""
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def _as_open_clip(weights: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
    """The weights by open_clip's names, and the layout they had."""
    if "image_projection" not in weights:
        return dict(weights), "open_clip"
    renamed = {re.sub(r"^visual\.", "visual.trunk.", name): value for name, value in weights.items()}
    renamed["visual.head.proj.weight"] = renamed.pop("image_projection").T
    return renamed, "laclip"


def _model_for(
    weights: Mapping[str, torch.Tensor], layout: str, model: str | None, source: str
) -> tuple[ModelSpec, torch.nn.Module]:
    """The model that the weights are of, without memory for its own."""
    nearest: list[str] = []
    nearest_name = ""
    for name in _candidates(layout) if model is None else [model]:
        spec = load_model_spec(name, "--model")
        with torch.device("meta"):
            built = create_model(spec, seed=0)
        differences = _differences(weights, built.state_dict())
        if not differences:
            return spec, built
        if not nearest or len(differences) < len(nearest):
            nearest, nearest_name = differences, name
    raise UserError(
        f"{source}: does not fit {nearest_name}: {_some(nearest)}"
        + ("" if model is not None else f". None of {', '.join(_candidates(layout))} fits better; name it with --model")
    )


def _candidates(layout: str) -> tuple[str, ...]:
    own = layout == "laclip"
    return tuple(name for name in RELEASED if (name in paper_models.NAMES) == own)


def _differences(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps weights from being those of a model, a text for each tensor."""
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
    """open_clip's name for the same model with the other activation."""
    if name in paper_models.NAMES:
        return None
    return name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"


# Export


def export_checkpoint(source: str, target: str, layout: ModelLayout = "open_clip", home: str | None = None) -> bool:
    """Write a model for others, with a model card and its lineage.

    Args:
        source: a directory or URL in open_clip's layout: a run's export or one of its checkpoints, or an import.
        target: the directory or URL that is written.
        layout: `open_clip`, or `hugging_face` for transformers.
        home: where the export will be loaded from, `hf-hub:ORGANISATION/NAME` or `local-dir:/PATH`; for open_clip's
            layout. With it one of the paper's models is loaded by open_clip alone, without it after an import of
            `laclip_ray.models.paper_models`.

    Returns:
        Whether the source's lineage was found.

    Raises:
        UserError: the source is no such directory, the layout has no place for the model, or the target holds files
            already. Nothing was written.
    """
    _check_target(target)
    for name in (CONFIG_FILE, MODEL_FILE):
        if not storage.exists(storage.join(source, name)):
            raise UserError(
                f"{source}: has no {name}; give a run's `export`, a checkpoint directory, or the target of "
                "`laclip checkpoint import`"
            )
    if home is not None and (layout != "open_clip" or not re.fullmatch(r"hf-hub:[^/]+/[^/]+|local-dir:/.+", home)):
        raise UserError(
            f"--home {home}: is for --layout open_clip, and is hf-hub:ORGANISATION/NAME or local-dir:/ABSOLUTE/PATH"
        )
    spec = load_model_spec(storage.join(source, CONFIG_FILE), "SOURCE")
    lineage = _lineage_of(source)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        weights = directory / MODEL_FILE
        weights.write_bytes(storage.read_bytes(storage.join(source, MODEL_FILE)))
        if layout == "open_clip":
            library, code = "open_clip", _write_open_clip(directory, spec, home, source)
        else:
            write_transformers(directory, spec, load_file(weights), source)
            weights.unlink()
            library, code = "transformers", _TRANSFORMERS_CODE
        card = _CARD.format(library=library, title=storage.name_of(home or target), code=code)
        (directory / CARD_FILE).write_text(card, encoding="utf-8")
        content = {"exported_from": source.rstrip("/"), "layout": layout, "source": lineage}
        _write_json(directory / LINEAGE_FILE, content)
        storage.copy_directory(scratch, target)
    return lineage is not None


_CARD = """---
library_name: {library}
pipeline_tag: zero-shot-image-classification
tags:
- clip
---

# {title}

```python
{code}
```

`lineage.json` says what this model was made from.
"""

_OPEN_CLIP_CODE = """import open_clip

model, transform = open_clip.create_model_from_pretrained("{home}")
tokenizer = open_clip.get_tokenizer("{home}")"""

_PAPER_MODEL_CODE = "import laclip_ray.models.paper_models  # open_clip does not know the image tower without it\n"

_TRANSFORMERS_CODE = """from transformers import CLIPModel, CLIPProcessor

model = CLIPModel.from_pretrained("PATH OR NAME")
processor = CLIPProcessor.from_pretrained("PATH OR NAME")"""


def _write_open_clip(directory: Path, spec: ModelSpec, home: str | None, source: str) -> str:
    """Write the configuration; returns the code that loads the model."""
    config = spec.to_json()
    vision = config["model_cfg"]["vision_cfg"]
    described = storage.join(source, _TIMM_FILE)
    if storage.exists(described):  # an export for another home
        vision["timm_model_name"] = paper_models.described_by(storage.read_json(described)) or vision["timm_model_name"]
    paper_model = paper_models.paper_model_of(config["model_cfg"])
    code = _OPEN_CLIP_CODE.format(home=home or "local-dir:PATH")
    if paper_model is not None and home is not None:
        vision["timm_model_name"] = home
        _write_json(directory / _TIMM_FILE, paper_models.timm_config(paper_model))
    elif paper_model is not None:
        code = _PAPER_MODEL_CODE + code
    _write_json(directory / CONFIG_FILE, config)
    return code


def _lineage_of(source: str) -> Any:
    """What an export, a checkpoint or an import says it was made from; None if it does not."""
    own = storage.join(source, LINEAGE_FILE)
    if storage.exists(own):
        return storage.read_json(own)
    state = storage.join(source, STATE_FILE)
    if storage.exists(state):
        content = storage.read_json(state)
        return {"step": content["step"], "samples": content["samples"], **content["lineage"]}
    # A run keeps the lineage of its export beside it.
    summary = storage.join(posixpath.dirname(source.rstrip("/")) or ".", "summary.json")
    if storage.exists(summary):
        content = storage.read_json(summary)
        if storage.name_of(content.get("export", "")) == storage.name_of(source):
            return {"step": content["steps"], "samples": content["samples"], **content["lineage"]}
    return None


def _check_target(target: str) -> None:
    if storage.exists(target) and (not storage.is_directory(target) or storage.list_files(target)):
        raise UserError(f"{target} holds files, or is one; choose a new directory")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _some(texts: Iterable[str]) -> str:
    """The first of many texts, and how many more."""
    listed = list(texts)
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f", and {more} more" if more > 0 else "")
