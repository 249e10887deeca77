"""The identity of a model's weights."""

from hashlib import sha256
from typing import Any


def weights_digest(model: Any) -> str:
    """16 hexadecimal digits of all weights and buffers of a torch model: their names, types, shapes and bytes."""
    import torch

    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{content.dtype}:{tuple(content.shape)}:".encode())
        digest.update(
            content.view(torch.uint8).numpy() if content.numel() and content.dim() else repr(content).encode()
        )
    return digest.hexdigest()[:16]
