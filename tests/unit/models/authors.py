"""The authors' ViT-S/16 by the names of their code: its weights, its features, and its released checkpoint file."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn import functional as F

from laclip_ray.models.importing import ImportedCheckpoint, import_checkpoint
from tests.unit.models.examples import TEXTS

Weights = dict[str, torch.Tensor]


def released_weights(text_width: int, text_layers: int) -> Weights:
    """Draw random weights; every part of the model affects its features."""
    width = text_width
    shapes: dict[str, tuple[int, ...]] = {
        "visual.cls_token": (1, 1, 384),
        "visual.pos_embed": (1, 197, 384),
        "visual.patch_embed.proj.weight": (384, 3, 16, 16),
        "visual.patch_embed.proj.bias": (384,),
        **normed("visual.norm", 384),
        "token_embedding.weight": (49408, width),
        "positional_embedding": (77, width),
        **normed("ln_final", width),
        "image_projection": (384, 512),
        "text_projection": (width, 512),
        "logit_scale": (),
    }
    for number in range(12):
        block = f"visual.blocks.{number}"
        shapes |= normed(f"{block}.norm1", 384) | normed(f"{block}.norm2", 384)
        shapes |= normed(f"{block}.attn.q_norm", 32) | normed(f"{block}.attn.k_norm", 32)
        shapes |= linear(f"{block}.attn.qkv", 384, 1152) | linear(f"{block}.attn.proj", 384, 384)
        shapes |= linear(f"{block}.mlp.fc1", 384, 1536) | linear(f"{block}.mlp.fc2", 1536, 384)
    for number in range(text_layers):
        block = f"transformer.resblocks.{number}"
        shapes |= normed(f"{block}.ln_1", width) | normed(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= linear(f"{block}.mlp.c_fc", width, 4 * width) | linear(f"{block}.mlp.c_proj", 4 * width, width)
    generator = torch.Generator().manual_seed(1)
    gains = {name for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 1}
    return {name: torch.randn(shape, generator=generator) * 0.05 + (name in gains) for name, shape in shapes.items()}


def normed(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | float) -> torch.Tensor:
    """Attend with queries, keys and values [B, heads, N, D]; returns [B, N, heads * D]."""
    scores: torch.Tensor = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def split(qkv: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """Split [B, N, 3 * width] into queries, keys and values [B, heads, N, width / heads]."""
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)]


def image_features(weights: Weights, images: torch.Tensor) -> torch.Tensor:
    """Features of images [B, 3, 224, 224] by the authors' model."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = weights[f"visual.{name}.weight"], weights[f"visual.{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, eps=1e-6)

    def apply(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weights[f"visual.{name}.weight"], weights[f"visual.{name}.bias"])

    patches = F.conv2d(
        images, weights["visual.patch_embed.proj.weight"], weights["visual.patch_embed.proj.bias"], stride=16
    )
    x = torch.cat([weights["visual.cls_token"].expand(len(images), 1, 384), patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + weights["visual.pos_embed"]
    for number in range(12):
        block = f"blocks.{number}"
        q, k, v = split(apply(f"{block}.attn.qkv", norm(f"{block}.norm1", x)), heads=12)
        q, k = norm(f"{block}.attn.q_norm", q), norm(f"{block}.attn.k_norm", k)
        x = x + apply(f"{block}.attn.proj", attended(q, k, v, 0.0))
        x = x + apply(f"{block}.mlp.fc2", F.gelu(apply(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))))
    return norm("norm", x)[:, 0] @ weights["image_projection"]


def text_features(weights: Weights, tokens: torch.Tensor, layers: int) -> torch.Tensor:
    """Features of tokens [B, 77] by the authors' model; each head has 64 dimensions."""
    width = weights["text_projection"].shape[0]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    mask = torch.full((77, 77), float("-inf")).triu(1)
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"]
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        qkv = F.linear(
            norm(f"{block}.ln_1", x), weights[f"{block}.attn.in_proj_weight"], weights[f"{block}.attn.in_proj_bias"]
        )
        q, k, v = split(qkv, heads=width // 64)
        x = x + F.linear(
            attended(q, k, v, mask),
            weights[f"{block}.attn.out_proj.weight"],
            weights[f"{block}.attn.out_proj.bias"],
        )
        hidden = F.linear(
            norm(f"{block}.ln_2", x), weights[f"{block}.mlp.c_fc.weight"], weights[f"{block}.mlp.c_fc.bias"]
        )
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        x = x + F.linear(hidden, weights[f"{block}.mlp.c_proj.weight"], weights[f"{block}.mlp.c_proj.bias"])
    ends = tokens.argmax(dim=1)
    return norm("ln_final", x)[torch.arange(len(tokens)), ends] @ weights["text_projection"]


def released_file(path: Path, weights: Weights, prefix: str = "module.") -> Path:
    """Write a checkpoint as the authors' train.py does: numpy in the optimiser's state, a Namespace of arguments."""
    torch.save(
        {
            "epoch": 35,
            "state_dict": {f"{prefix}{name}": value for name, value in weights.items()},
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": np.float64(1e-5)}]},
            "scaler": {"scale": 65536.0},
            "best_acc1": 21.5,
            "args": argparse.Namespace(model="CLIP_VITS16", lr=3e-3, betas=(0.9, 0.98), gpu=None),
        },
        path,
    )
    return path


@dataclass(frozen=True)
class Released:
    """A released checkpoint of the authors' ViT-S/16, its import, and the features of the authors' model."""

    file: Path
    imported: ImportedCheckpoint
    directory: Path
    images: torch.Tensor
    tokens: torch.Tensor
    image_features: torch.Tensor
    text_features: torch.Tensor

    @classmethod
    def make(cls, root: Path, text_width: int, text_layers: int, model: str | None) -> "Released":
        weights = released_weights(text_width, text_layers)
        images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
        tokens = open_clip.SimpleTokenizer()(TEXTS)
        with torch.inference_mode():
            features = image_features(weights, images), text_features(weights, tokens, text_layers)
        file = released_file(root / "cc0m_laclip.pt", weights)
        imported = import_checkpoint(str(file), str(root / "imported"), model)
        return cls(file, imported, root / "imported", images, tokens, *features)

    def assert_features(self, location: Path | str) -> None:
        """Check that open_clip loads the same model from a directory."""
        model = open_clip.create_model(f"local-dir:{location}").eval()
        with torch.inference_mode():
            torch.testing.assert_close(model.encode_image(self.images), self.image_features, rtol=0, atol=1e-4)
            torch.testing.assert_close(model.encode_text(self.tokens), self.text_features, rtol=0, atol=1e-4)
