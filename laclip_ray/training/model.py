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

import torch

from laclip_ray import storage
from laclip_ray.data.images import ImageSpec
from laclip_ray.errors import UserError

MAX_LOGIT_SCALE_LOG = 4.6051701859880914
"""ln(100): the temperature is clamped there, as in CLIP."""


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

    from laclip_ray.training import paper_models

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


def create_model(spec: ModelSpec, seed: int) -> torch.nn.Module:
    """A freshly initialised model in training mode; the same weights for the same seed.

    open_clip initialises from torch's global generator, which is restored afterwards. The paper's models get the first
    weights of its authors' code.
    """
    import open_clip

    from laclip_ray.training import paper_models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = copy.deepcopy(spec.model_cfg)
        kind = open_clip.CustomTextCLIP if _has_custom_text(config) else open_clip.CLIP
        config.pop("custom_text", None)
        model: torch.nn.Module = kind(**config, output_dict=True)
        if paper_models.paper_model_of(config) is not None:
            paper_models.initialise(model)
    # What open_clip's own factory would note on the image tower; its exporters and users read it there.
    visual: Any = model.visual
    visual.image_mean, visual.image_std = tuple(spec.image.mean), tuple(spec.image.std)
    visual.preprocess_cfg = spec.preprocess_cfg
    return model.train()


def _has_custom_text(config: dict[str, Any]) -> bool:
    return bool(config.get("custom_text") or "hf_model_name" in config["text_cfg"])


def normalise(images: torch.Tensor, offset: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W], with what `offset_and_factor` gives for the images' device."""
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.sub_(offset).mul_(factor)


class FromPixels(torch.nn.Module):
    """A model that takes its images as uint8 pixels [B, H, W, 3], so that normalising them is compiled with it."""

    def __init__(
        self, model: torch.nn.Module, image: ImageSpec, device: torch.device, layout: torch.memory_format
    ) -> None:
        """Wrap a model on its device, which gets its images in this layout."""
        super().__init__()
        self.model = model
        self._offset_and_factor = offset_and_factor(image, device)
        self._layout = layout

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> Any:
        """What the model makes of images and of tokens [N, L]."""
        images = normalise(pixels, *self._offset_and_factor)
        return self.model(images.contiguous(memory_format=self._layout), tokens)


def offset_and_factor(spec: ImageSpec, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """255 mean and 1 / (255 std), [1, 3, 1, 1] each; to be made once, as copying them to the device waits for it."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    return (255 * mean).float().to(device), (1 / (255 * std)).float().to(device)


def clamp_logit_scale(model: torch.nn.Module) -> None:
    """Keep the temperature at or above 1/100, as in CLIP."""
    scale = model.logit_scale
    assert isinstance(scale, torch.Tensor)
    with torch.no_grad():
        scale.clamp_(0, MAX_LOGIT_SCALE_LOG)


def with_loss(spec: ModelSpec, kind: str) -> ModelSpec:
    """The model with the temperature and bias that a loss begins with, where its config does not say.

    SigLIP (Zhai et al., 2023, section 3.2) begins at a scale of 10 and a bias of -10.
    """
    if kind != "siglip":
        return spec
    return dataclasses.replace(
        spec, model_cfg={"init_logit_scale": math.log(10), "init_logit_bias": -10, **spec.model_cfg}
    )
