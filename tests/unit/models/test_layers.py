"""Direct layers compute the same as open_clip's and torch's own, and do not replace other layers."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from laclip_ray.models.layers import PatchEmbedding, SelfAttention, use_direct_layers


def _gradients(layer: nn.Module, output: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    return list(torch.autograd.grad((output * weights).sum(), list(layer.parameters())))


@pytest.mark.parametrize("size", [(32, 32), (35, 47)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_patch_embedding_and_its_gradients_are_those_of_the_convolution(size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(1)
    plain = nn.Conv2d(3, 6, 8, 8, bias=bias)
    direct = copy.deepcopy(plain)
    use_direct_layers(direct)
    assert isinstance(direct, PatchEmbedding)
    images = torch.randn(2, 3, *size)
    expected, embedded = plain(images), direct(images)
    torch.testing.assert_close(embedded, expected)
    torch.testing.assert_close(_gradients(direct, embedded), _gradients(plain, expected))


@pytest.mark.parametrize("mask", ["none", "causal", "by head"])
def test_self_attention_and_its_gradients_are_torchs(mask: str) -> None:
    torch.manual_seed(2)
    plain = nn.MultiheadAttention(12, 3, batch_first=True)
    direct = copy.deepcopy(plain)
    use_direct_layers(direct)
    assert isinstance(direct, SelfAttention)
    tokens = torch.randn(4, 5, 12)
    added = {
        "none": None,
        "causal": torch.full((5, 5), float("-inf")).triu(1),
        "by head": torch.randn(12, 5, 5),
    }[mask]
    expected, attended = (
        layer(tokens, tokens, tokens, need_weights=False, attn_mask=added)[0] for layer in (plain, direct)
    )
    torch.testing.assert_close(attended, expected)
    torch.testing.assert_close(_gradients(direct, attended), _gradients(plain, expected))


@pytest.mark.parametrize(
    "arguments",
    [
        {"need_weights": True},
        {"need_weights": False, "attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)},
        {"need_weights": False, "key_padding_mask": torch.tensor([[False] * 4 + [True]] * 4)},
    ],
)
def test_attention_that_is_not_covered_is_torchs_own(arguments: dict[str, Any]) -> None:
    torch.manual_seed(3)
    plain = nn.MultiheadAttention(12, 3, batch_first=True)
    direct = copy.deepcopy(plain)
    use_direct_layers(direct)
    tokens = torch.randn(4, 5, 12)
    for expected, output in zip(
        plain(tokens, tokens, tokens, **arguments), direct(tokens, tokens, tokens, **arguments), strict=True
    ):
        assert (output is None) == (expected is None)
        if output is not None:
            torch.testing.assert_close(output, expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, 8, 4),
        nn.Conv2d(3, 6, 2, 2),
        nn.Conv2d(3, 6, 8, 8, padding=1),
        nn.Conv2d(4, 6, 8, 8, groups=2),
        nn.MultiheadAttention(12, 3),
        nn.MultiheadAttention(12, 3, kdim=6, batch_first=True),
        nn.MultiheadAttention(12, 3, add_bias_kv=True, batch_first=True),
    ],
)
def test_other_layers_stay_what_they_are(layer: nn.Module) -> None:
    before = type(layer)
    use_direct_layers(layer)
    assert type(layer) is before


def test_the_towers_of_a_vit_are_computed_directly() -> None:
    import open_clip

    model = open_clip.create_model("ViT-B-32")
    names = set(model.state_dict())
    use_direct_layers(model)
    types = [type(module) for module in model.modules()]
    assert (types.count(PatchEmbedding), types.count(SelfAttention)) == (1, 24)
    assert set(model.state_dict()) == names
