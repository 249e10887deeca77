"""The paper's models `laclip_vit_s16`, `laclip_vit_b16` and `laclip_vit_l16`: architecture and first weights.

Importing this module registers their image towers with timm, in this process. Import it before open_clip loads such a
checkpoint. An export with a home (`exporting.export_checkpoint`) describes the tower in a file that timm reads, and
needs open_clip alone.

The towers are ViTs with a LayerNorm on the queries and keys of each head. timm publishes no such ViT by name, and
open_clip 3.3 passes no arguments to timm. open_clip's own ViT has `qk_norm`, but its `quick_gelu` is one switch for
both towers, and in these models only the text tower has QuickGELU.

Sources: the authors' code (https://github.com/LijieFan/LaCLIP: models.py for architecture and first weights, train.py
for images, at commits d648735 and 6120005), and timm 0.5.4, which that code is written for.
"""

from typing import Any

import timm
import torch
from timm.models import register_model

TRUNKS: dict[str, tuple[str, dict[str, Any]]] = {
    "laclip_vit_s16": ("vit_small_patch16_224", {"num_heads": 12, "qk_norm": True}),
    "laclip_vit_b16": ("vit_base_patch16_224", {"qk_norm": True}),
    "laclip_vit_l16": ("vit_large_patch16_224", {"qk_norm": True}),
}
"""By model, timm's architecture of its image tower and the arguments for it."""

NAMES = tuple(TRUNKS)


def model_config(name: str) -> dict[str, Any]:
    """The content of a model's `open_clip_config.json`: `model_cfg` and `preprocess_cfg`."""
    return {
        "model_cfg": {
            "embed_dim": 512,
            "quick_gelu": True,  # only in the text tower: timm's towers have their own activation, GELU
            "vision_cfg": {
                "image_size": 224,
                "timm_model_name": name,
                "timm_model_pretrained": False,
                "timm_pool": "token",
                "timm_proj": "linear",
            },
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
        },
        "preprocess_cfg": {
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
        },
    }


def paper_model_of(model_cfg: dict[str, Any]) -> str | None:
    """The paper's model with the image tower of an open_clip model config; None if the tower is another."""
    name = model_cfg["vision_cfg"].get("timm_model_name")
    return name if name in TRUNKS else None


def timm_config(name: str) -> dict[str, Any]:
    """The content of the `config.json` that lets timm build a model's image tower without this module."""
    architecture, arguments = TRUNKS[name]
    images = model_config(name)["preprocess_cfg"]
    return {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": arguments,
        "pretrained_cfg": {**images, "input_size": [3, 224, 224], "fixed_input_size": True, "num_classes": 0},
    }


def described_by(config: Any) -> str | None:
    """The paper's model with this `timm_config`; None if no model has it."""
    return next((name for name in NAMES if timm_config(name) == config), None)


def initialise(model: Any) -> None:
    """Draw the first weights that the authors' code draws differently from today's open_clip and timm.

    The authors put their transformer blocks into timm's model after it drew its weights. The blocks' linear layers
    therefore keep torch's own initialisation (uniform, biases too). The class token and the projection are drawn as in
    timm 0.5.4. The text tower needs no change.

    Args:
        model: one of the paper's models, as open_clip builds it.
    """
    trunk = model.visual.trunk
    for module in trunk.blocks.modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
    torch.nn.init.trunc_normal_(trunk.cls_token, std=0.02)
    torch.nn.init.normal_(model.visual.head.proj.weight, std=trunk.embed_dim**-0.5)


def _register(name: str) -> None:
    def entry_point(**settings: Any) -> Any:
        architecture, arguments = TRUNKS[name]
        return timm.create_model(architecture, **arguments, **settings)

    entry_point.__name__ = name  # timm registers it by this name
    register_model(entry_point)


for _name in NAMES:
    if not timm.is_model(_name):
        _register(_name)
