"""Layers of open_clip's and timm's models, computed with less work: the same functions of the same weights.

What they save was found in profiles of a ViT-B-16 in bf16 on a GPU: cuDNN's convolution of patches of 16 pixels takes
ten times as long as the product of matrices that it is, and torch's attention copies queries, keys and values apart.

In fp32 on a GPU a patch embedding is then computed in full precision, as torch's products are, and not in TF32, as its
convolutions.
"""

import torch
from torch import nn
from torch.nn import functional

_SMALLEST_PATCH_PX = 8
"""Smaller strides are those of convolutional towers, whose further layers want the layout that a convolution makes."""


def use_direct_layers(model: nn.Module) -> None:
    """Let patch embeddings and self-attention of a model be computed directly; names and weights stay what they are."""
    for module in model.modules():
        # A subclass of these computes something else.
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
    """A convolution whose patches do not overlap, as one product of matrices."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to [B, E, H / patch, W / patch], in NHWC memory: as tokens, without a copy."""
        height, width = (int(each) for each in self.kernel_size)
        rows, columns = input.shape[2] // height, input.shape[3] // width
        whole = input[:, :, : rows * height, : columns * width]
        patches = whole.unflatten(3, (columns, width)).unflatten(2, (rows, height)).permute(0, 2, 4, 1, 3, 5)
        made = functional.linear(patches.flatten(3), self.weight.flatten(1), self.bias)
        return made.permute(0, 3, 1, 2)


class SelfAttention(nn.MultiheadAttention):
    """torch's attention where queries, keys and values are of the same tokens, and nobody asks for its weights."""

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
        """Tokens [B, L, E] to [B, L, E]; all else, as `torch.nn.MultiheadAttention` does it."""
        is_self = query is key and key is value and query.ndim == 3
        is_added = attn_mask is None or attn_mask.is_floating_point()  # torch's own means by True the opposite here
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
        made = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask, dropout_p=dropout)
        return self.out_proj(made.transpose(1, 2).flatten(2)), None
