"""Build a CLIP model from its specification, and keep its temperature in range."""

import copy
from typing import Any

import torch

from laclip_ray.models.specs import ModelSpec

MAX_LOGIT_SCALE_LOG = 4.6051701859880914
"""ln(100), CLIP's upper bound on the logarithm of the logit scale."""


def create_model(spec: ModelSpec, seed: int) -> torch.nn.Module:
    """Create a freshly initialised model in training mode; equal seeds give equal weights.

    open_clip draws the weights from torch's global generator, which is restored afterwards. The paper's models are
    initialised as in its authors' code.
    """
    from laclip_ray.light_open_clip import open_clip
    from laclip_ray.models import paper_models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = copy.deepcopy(spec.model_cfg)
        model_class = open_clip.CustomTextCLIP if _has_custom_text(config) else open_clip.CLIP
        config.pop("custom_text", None)
        model: torch.nn.Module = model_class(**config, output_dict=True)
        if paper_models.paper_model_of(config) is not None:
            paper_models.initialise(model)
    # open_clip's own factory notes these on the image tower, and its exporters read them there.
    visual: Any = model.visual
    visual.image_mean, visual.image_std = tuple(spec.image.mean), tuple(spec.image.std)
    visual.preprocess_cfg = spec.preprocess_cfg
    return model.train()


def _has_custom_text(config: dict[str, Any]) -> bool:
    return bool(config.get("custom_text") or "hf_model_name" in config["text_cfg"])


def clamp_logit_scale(model: torch.nn.Module) -> None:
    """Keep the logit scale between 1 and 100 (a temperature of at least 0.01), as in CLIP."""
    scale = model.logit_scale
    assert isinstance(scale, torch.Tensor)
    with torch.no_grad():
        scale.clamp_(0, MAX_LOGIT_SCALE_LOG)
