"""Find the model that a file's weights belong to, by their names and shapes.

**The authors' files** (https://github.com/LijieFan/LaCLIP): the models of LAION-400M were trained with open_clip and
have its names. The models of CC3M, CC12M and RedCaps have the names of the authors' own model (models.py, on timm
0.5.4):

    visual.*             -> visual.trunk.*
    image_projection     -> visual.head.proj.weight, transposed
    all other names      -> unchanged

Guarantees: a file has exactly the model's tensors, no more and no fewer, and their values are kept bit for bit.

Not covered: weights do not tell a model's activation, so shapes alone do not distinguish QuickGELU from GELU (see
`RELEASED` and `lookalike`).
"""

import re
from collections.abc import Mapping
from typing import Literal

import torch

from laclip_ray.errors import UserError
from laclip_ray.models import paper_models
from laclip_ray.models.building import create_model
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.tally import first_names

KeyLayout = Literal["laclip", "open_clip"]
"""Whose names the tensors have: the authors' own model's, or open_clip's."""

RELEASED = (*paper_models.NAMES, "ViT-B-32", "ViT-B-16", "ViT-L-14-quickgelu")
"""The models that a file is compared with. The authors' evaluation (eval_zeroshot_imagenet_laion.py) builds ViT-B-32
and ViT-B-16 without QuickGELU."""


def with_open_clip_names(weights: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], KeyLayout]:
    """The weights by open_clip's names, and whose names they had."""
    if "image_projection" not in weights:
        return dict(weights), "open_clip"
    renamed = {re.sub(r"^visual\.", "visual.trunk.", name): value for name, value in weights.items()}
    renamed["visual.head.proj.weight"] = renamed.pop("image_projection").T
    return renamed, "laclip"


def find_model(
    weights: Mapping[str, torch.Tensor], layout: KeyLayout, model: str | None, source: str, remedy: str
) -> tuple[ModelSpec, torch.nn.Module]:
    """The model with exactly these tensors, on torch's meta device (without memory for weights of its own).

    Args:
        weights: by open_clip's names.
        layout: whose names they had.
        model: a name or config file, as `model.name` takes it. None: the one of `RELEASED` that fits.
        source: the origin of the weights, for messages.
        remedy: what the user can do if none of `RELEASED` fits, for messages.

    Raises:
        UserError: no model fits; the message names the differences from the nearest one.
    """
    names = _released_models(layout) if model is None else (model,)
    differences_of: dict[str, list[str]] = {}
    for name in names:
        spec = load_model_spec(name, "--model")
        candidate = meta_model(spec)
        found = differences(weights, candidate.state_dict())
        if not found:
            return spec, candidate
        differences_of[name] = found
    nearest = min(differences_of, key=lambda name: len(differences_of[name]))
    advice = "" if model is not None else f". None of {', '.join(names)} fits better; {remedy}"
    raise UserError(f"{source}: does not fit {nearest}: {first_names(differences_of[nearest])}{advice}")


def _released_models(layout: KeyLayout) -> tuple[str, ...]:
    return tuple(name for name in RELEASED if (name in paper_models.NAMES) == (layout == "laclip"))


def meta_model(spec: ModelSpec) -> torch.nn.Module:
    """The model on torch's meta device: names and shapes without weights."""
    with torch.device("meta"):
        return create_model(spec, seed=0)


def differences(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
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


def lookalike(name: str) -> str | None:
    """open_clip's name of the same model with the other activation; None for the paper's models."""
    if name in paper_models.NAMES:
        return None
    return name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
