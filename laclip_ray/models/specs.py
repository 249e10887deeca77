"""The CLIP model: any open_clip name, one of the paper's (`paper_models`), or an open_clip config in a JSON file.

A config file is either open_clip's plain model config, or has `model_cfg` and `preprocess_cfg` as in the files that
open_clip publishes.
"""

import copy
import dataclasses
import difflib
import json
import math
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.data.images import ImageSpec
from laclip_ray.errors import UserError


@dataclass(frozen=True)
class ModelSpec:
    """A model's architecture and what its images are like; enough to build it anywhere."""

    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]

    @property
    def image(self) -> ImageSpec:
        """What the model wants its images to be."""
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
        name: of open_clip's or the paper's, or a path or URL that ends with `.json`.
        setting: where the name comes from, for messages.

    Raises:
        UserError: nobody knows the name, or the file is not a model config.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    from laclip_ray.models import paper_models

    config: Any
    if name.endswith(".json"):
        if not storage.exists(name):
            raise UserError(f"{setting}: {name!r} does not exist")
        try:
            config = storage.read_json(name)
        except ValueError as error:
            raise UserError(f"{setting}: {name!r} is not JSON: {error}") from error
    elif name in paper_models.NAMES:
        config = paper_models.model_config(name)
    else:
        config = open_clip.get_model_config(name)
        if config is None:
            names = [*paper_models.NAMES, *open_clip.list_models()]
            close = difflib.get_close_matches(name, names, n=6, cutoff=0.4)
            raise UserError(
                f"{setting}: open_clip knows no model {name!r}, and it is not a .json file"
                + (f"; similar: {', '.join(close)}" if close else "")
            )
    overlay = {}
    if isinstance(config, dict) and "model_cfg" in config:
        config, overlay = config["model_cfg"], config.get("preprocess_cfg", {})
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise UserError(f"{setting}: {name!r} is not an open_clip model config (embed_dim, vision_cfg, text_cfg)")
    if "multimodal_cfg" in config:
        raise UserError(f"{setting}: {name!r} also writes captions (CoCa); only models of two towers are trained")
    size = config["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        raise UserError(f"{setting}: {name!r} has images of {size}; only square ones are supported")
    preprocess = merge_preprocess_dict(PreprocessCfg(size=size), {**overlay, "size": size})
    return ModelSpec(name, copy.deepcopy(config), json.loads(json.dumps(preprocess)))


def with_loss(spec: ModelSpec, kind: str) -> ModelSpec:
    """The model with the temperature and bias that a loss begins with, where its config does not say.

    SigLIP (Zhai et al., 2023, section 3.2) begins at a scale of 10 and a bias of -10.
    """
    if kind != "siglip":
        return spec
    return dataclasses.replace(
        spec, model_cfg={"init_logit_scale": math.log(10), "init_logit_bias": -10, **spec.model_cfg}
    )
