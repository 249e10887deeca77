"""Write models with open_clip's own vision transformer as `transformers.CLIPModel`, with its processor.

`transformers_reading` reads such models, with this module's names.

Guarantees: the model computes the same function. A configuration with a setting that transformers lacks is refused.
Names and meaning of the parts are from transformers 5 (models/clip) and open_clip 3.3 (model.py).

Not covered: pixels differ slightly, because the processor resizes tensors and open_clip resizes Pillow's images.
"""

import dataclasses
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from laclip_ray.errors import UserError
from laclip_ray.models.files import CONFIG_FILE
from laclip_ray.models.specs import ModelSpec

_TRANSFORMERS_NAMES = (
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.", ".self_attn."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),  # transformers' spelling
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
)
"""Patterns in open_clip's names and their replacements, applied in this order."""

TRANSPOSED = ("visual.proj", "text_projection")
"""open_clip's names of the weights that transformers has transposed."""

# Settings of open_clip's models that transformers has too, or that matter only in training.
_MODEL_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale"}
_VISION_KEYS = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}


def write_transformers(directory: Path, spec: ModelSpec, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Write model and processor to a local directory, for `from_pretrained`.

    Args:
        directory: an existing directory.
        spec: the model.
        weights: its weights, by open_clip's names.
        source: the model's directory, for messages.

    Raises:
        UserError: transformers lacks a setting of the model, or the weights do not fit its configuration.
    """
    from PIL.Image import Resampling
    from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    from laclip_ray.light_open_clip import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    config = _transformers_config(spec, tokenizer, source)
    with torch.device("meta"):
        model = CLIPModel(config)
    try:
        model.load_state_dict(_transformers_weights(weights), assign=True)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise UserError(f"{source}: weights and {CONFIG_FILE} do not fit: {reason}; export the model again") from error
    model.save_pretrained(directory)
    image = spec.image
    CLIPProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": image.size_px},
            crop_size={"height": image.size_px, "width": image.size_px},
            resample=Resampling[image.interpolation.upper()],
            image_mean=list(image.mean),
            image_std=list(image.std),
        ),
        tokenizer=CLIPTokenizer(
            vocab=clip_vocabulary(tokenizer),
            merges=list(tokenizer.bpe_ranks),
            model_max_length=spec.model_cfg["text_cfg"].get("context_length", 77),
        ),
    ).save_pretrained(directory)


def _transformers_config(spec: ModelSpec, tokenizer: Any, source: str) -> Any:
    """transformers' `CLIPConfig` of a model.

    Raises:
        UserError: transformers lacks a setting of the model.
    """
    from transformers import CLIPConfig

    from laclip_ray.light_open_clip import open_clip

    model_cfg = spec.model_cfg
    vision = open_clip.CLIPVisionCfg(**model_cfg["vision_cfg"])
    text = open_clip.CLIPTextCfg(**model_cfg["text_cfg"])
    foreign = _foreign_settings(spec, vision, text, tokenizer)
    if foreign:
        raise UserError(
            f"{source}: transformers' CLIPModel has no place for {', '.join(foreign)}; export it with --layout "
            "open_clip, which open_clip loads from a directory and from the Hugging Face Hub"
        )
    activation = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    return CLIPConfig(
        projection_dim=model_cfg["embed_dim"],
        vision_config={
            "hidden_size": vision.width,
            "intermediate_size": int(vision.width * vision.mlp_ratio),
            "projection_dim": model_cfg["embed_dim"],
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.width // vision.head_width,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_act": activation,
        },
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "projection_dim": model_cfg["embed_dim"],
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": activation,
            "bos_token_id": tokenizer.sot_token_id,
            "eos_token_id": tokenizer.eot_token_id,
        },
    )


def _foreign_settings(spec: ModelSpec, vision: Any, text: Any, tokenizer: Any) -> list[str]:
    """The settings of a model that transformers' CLIPModel lacks."""
    foreign = [key for key, value in spec.model_cfg.items() if key not in _MODEL_KEYS and value]
    for tower, settings, keys in (("vision_cfg", vision, _VISION_KEYS), ("text_cfg", text, _TEXT_KEYS)):
        foreign += [
            f"{tower}.{field.name}"
            for field in dataclasses.fields(settings)
            if field.name not in keys and getattr(settings, field.name) != field.default
        ]
    if not isinstance(vision.layers, int):  # a ResNet has a list
        foreign.append("vision_cfg.layers")
    if text.vocab_size != tokenizer.vocab_size:
        foreign.append("text_cfg.vocab_size")
    if spec.preprocess_cfg["resize_mode"] != "shortest":
        foreign.append("preprocess_cfg.resize_mode")
    return foreign


def names_in_transformers(name: str) -> tuple[str, ...]:
    """transformers' names of an open_clip weight: three where open_clip has one matrix for queries, keys and values."""
    for pattern, replacement in _TRANSFORMERS_NAMES:
        name = re.sub(pattern, replacement, name)
    if ".in_proj_" not in name:
        return (name,)
    return tuple(name.replace("in_proj_", f"{part}_proj.") for part in "qkv")


def _transformers_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of an open_clip model by transformers' names."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        new_names = names_in_transformers(name)
        if len(new_names) > 1:
            thirds = value.chunk(len(new_names))
            renamed |= {new: third.contiguous() for new, third in zip(new_names, thirds, strict=True)}
        else:
            renamed[new_names[0]] = value.T.contiguous() if name in TRANSPOSED else value
    return renamed


def clip_vocabulary(tokenizer: Any) -> dict[str, int]:
    """The vocabulary of open_clip's `SimpleTokenizer`, with transformers' names of the start and end tokens."""
    renamed_tokens = {tokenizer.sot_token_id: "<|startoftext|>", tokenizer.eot_token_id: "<|endoftext|>"}
    return {renamed_tokens.get(number, text): number for text, number in tokenizer.encoder.items()}
