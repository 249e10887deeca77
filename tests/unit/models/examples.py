"""A small model with open_clip's own vision transformer, and a comparison of two models."""

from typing import Any

import open_clip
import torch

TEXTS = ["a photo of a dog", "", "It's 5 red <mugs> on a table!"]

VIT: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 3.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
}


def assert_same_features(model: Any, other: Any) -> None:
    images = torch.randn(2, 3, 32, 32)
    tokens = open_clip.SimpleTokenizer()(TEXTS)
    with torch.inference_mode():
        assert torch.equal(model.encode_image(images), other.eval().encode_image(images))
        assert torch.equal(model.encode_text(tokens), other.encode_text(tokens))
