"""The specification of a CLIP model: its architecture and the images it takes.

`model.name` is an open_clip name, one of the paper's models (`paper_models`), or an open_clip config in a JSON file.
Such a file is either a plain model config, or has `model_cfg` and `preprocess_cfg` as in the configs that open_clip
publishes with weights.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import LossKind
from laclip_ray.data.images import ImageSpec
from laclip_ray.errors import UserError
from laclip_ray.nearest import similar


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a model on any machine."""

    name: str
    model_cfg: dict[str, Any]
    """open_clip's model config."""
    preprocess_cfg: dict[str, Any]
    """open_clip's image preprocessing (`open_clip.transform.PreprocessCfg`)."""

    @property
    def image(self) -> ImageSpec:
        """Size and normalisation of the model's images."""
        return ImageSpec(
            size_px=self.preprocess_cfg["size"],
            interpolation=self.preprocess_cfg["interpolation"],
            mean=tuple(self.preprocess_cfg["mean"]),
            std=tuple(self.preprocess_cfg["std"]),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `open_clip_config.json`."""
        return {"model_cfg": self.model_cfg, "preprocess_cfg": self.preprocess_cfg}


def load_model_spec(name: str, setting: str = "model.name") -> ModelSpec:
    """Find a model by its name, or read its config file.

    Args:
        name: a name of open_clip's or the paper's, or a path or URL that ends with `.json`.
        setting: the config key of the name, for messages.

    Raises:
        UserError: no model has this name, or the file is not a config of a two-tower model with square images.
    """
    from laclip_ray.light_open_clip import open_clip

    model_cfg: Any = _read_config(name, setting)
    preprocess_cfg: dict[str, Any] = {}
    if isinstance(model_cfg, dict) and "model_cfg" in model_cfg:
        model_cfg, preprocess_cfg = model_cfg["model_cfg"], model_cfg.get("preprocess_cfg", {})
    if not isinstance(model_cfg, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model_cfg.keys():
        raise UserError(
            f"{setting}: {name!r} is not an open_clip model config; it needs embed_dim, vision_cfg and text_cfg"
        )
    if "multimodal_cfg" in model_cfg:
        raise UserError(f"{setting}: {name!r} also writes captions (CoCa); only models of two towers are trained")
    size = model_cfg["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        raise UserError(
            f"{setting}: {name!r} has images of {size} pixels; only square ones are supported, so give image_size as "
            "one number"
        )
    transform = open_clip.transform
    preprocess = transform.merge_preprocess_dict(transform.PreprocessCfg(size=size), {**preprocess_cfg, "size": size})
    # Through JSON: tuples become lists, as in a specification read from a file.
    return ModelSpec(name, json.loads(json.dumps(model_cfg)), json.loads(json.dumps(preprocess)))


def differing_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The dotted keys in which two specifications, as `ModelSpec.to_json` gives them, are different functions.

    Image preprocessing is compared in the keys that both have: releases of open_clip add some, with defaults.
    """
    keys = [f"model_cfg.{key}" for key in _differing(before["model_cfg"], now["model_cfg"])]
    preprocess, present = before["preprocess_cfg"], now["preprocess_cfg"]
    common = preprocess.keys() & present.keys()
    return [*keys, *(f"preprocess_cfg.{key}" for key in sorted(common) if preprocess[key] != present[key])]


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    differing = []
    for key in sorted({*before, *now}):
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            differing += [f"{key}.{nested}" for nested in _differing(one, other)]
        elif one != other:
            differing.append(key)
    return differing


def _read_config(name: str, setting: str) -> Any:
    """The open_clip config of a model, as its file or its library has it.

    Raises:
        UserError: no model has this name, or the file is missing or not JSON.
    """
    from laclip_ray.light_open_clip import open_clip
    from laclip_ray.models import paper_models

    if name.endswith(".json"):
        if not storage.exists(name):
            raise UserError(
                f"{setting}: {name!r} does not exist; give an open_clip config file, or a name that open_clip knows"
            )
        try:
            return storage.read_json(name)
        except ValueError as error:
            raise UserError(f"{setting}: {name!r} is not JSON: {error}") from error
    if name in paper_models.NAMES:
        return paper_models.model_config(name)
    config = open_clip.get_model_config(name)
    if config is None:
        names = [*paper_models.NAMES, *open_clip.list_models()]
        close = similar(name, names)
        raise UserError(
            f"{setting}: open_clip knows no model {name!r}, and it is not a .json file"
            + (f"; similar: {', '.join(close)}" if close else "")
        )
    return config


def with_loss(spec: ModelSpec, kind: LossKind) -> ModelSpec:
    """Add the initial temperature and bias of a loss to a model whose config does not set them.

    SigLIP (Zhai et al., 2023, section 3.2) begins at a scale of 10 and a bias of -10.
    """
    if kind != "siglip":
        return spec
    return dataclasses.replace(
        spec, model_cfg={"init_logit_scale": math.log(10), "init_logit_bias": -10, **spec.model_cfg}
    )
