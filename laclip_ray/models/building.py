"""Build a CLIP model from its specification, and feed it uint8 pixels."""

import copy
from typing import Any

import torch

from laclip_ray.data.images import ImageSpec
from laclip_ray.models.specs import ModelSpec

MAX_LOGIT_SCALE_LOG = 4.6051701859880914
"""ln(100): the temperature is clamped there, as in CLIP."""


def create_model(spec: ModelSpec, seed: int) -> torch.nn.Module:
    """A freshly initialised model in training mode; the same weights for the same seed.

    open_clip initialises from torch's global generator, which is restored afterwards. The paper's models get the first
    weights of its authors' code.
    """
    import open_clip

    from laclip_ray.models import paper_models

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
