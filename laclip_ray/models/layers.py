"""Faster layers for open_clip's and timm's models: the same functions of the same weights.

Profiles of a ViT-B-16 in bf16 on a GPU showed the savings. cuDNN's convolution of 16-pixel patches takes ten times as
long as the equivalent matrix product, and torch's attention copies queries, keys and values into separate tensors.

In fp32 on a GPU, the patch embedding runs in full precision like torch's matrix products, not in TF32 like its
convolutions.
"""

import torch
from torch import nn
from torch.nn import functional

_SMALLEST_PATCH_PX = 8
"""Smaller strides belong to convolutional towers, whose next layers need the memory layout of a convolution."""


def use_direct_layers(model: nn.Module) -> None:
    """Replace a model's patch embeddings and self-attention by faster layers; names and weights stay."""
    for module in model.modules():
        # Exact types: a subclass may compute something else.
        if type(module) is nn.Conv2d and _cuts_patches(module):
            module.__class__ = PatchEmbedding
        elif type(module) is nn.MultiheadAttention and _is_plain(module):
            module.__class__ = SelfAttention


def _cuts_patches(module: nn.Conv2d) -> bool:
    return (
        module.kernel_size == module.stride
        and min(module.kernel_size) >= _SMALLEST_PATCH_PX
        and module.padding in ((0, 0), "valid")
        and module.dilation == (1, 1)
        and module.groups == 1
    )


def _is_plain(module: nn.MultiheadAttention) -> bool:
    return (
        module.batch_first and module.in_proj_weight is not None and module.bias_k is None and not module.add_zero_attn
    )


class PatchEmbedding(nn.Conv2d):
    """A convolution of patches that do not overlap, as one matrix product."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Embed images [B, C, H, W] as [B, E, H / patch, W / patch], in NHWC memory: tokens need no copy."""
        height, width = (int(size) for size in self.kernel_size)
        rows, columns = input.shape[2] // height, input.shape[3] // width
        whole = input[:, :, : rows * height, : columns * width]
        patches = whole.unflatten(3, (columns, width)).unflatten(2, (rows, height)).permute(0, 2, 4, 1, 3, 5)
        embedded = functional.linear(patches.flatten(3), self.weight.flatten(1), self.bias)  # [B, rows, columns, E]
        return embedded.permute(0, 3, 1, 2)


class SelfAttention(nn.MultiheadAttention):
    """torch's attention, faster if queries, keys and values are the same tokens and no weights are returned."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend within tokens [B, L, E]; other inputs go to `torch.nn.MultiheadAttention`."""
        is_self = query is key and key is value and query.ndim == 3
        # Boolean masks have opposite meanings in torch's module and in its function.
        is_added = attn_mask is None or attn_mask.is_floating_point()
        if not is_self or not is_added or need_weights or key_padding_mask is not None:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        projected = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
        queries, keys, values = (
            projected.unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.unflatten(0, (query.shape[0], self.num_heads))
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=attn_mask, dropout_p=dropout
        )  # [B, heads, L, E / heads]
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None
