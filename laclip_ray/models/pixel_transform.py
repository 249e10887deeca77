"""A model's image transform in two steps: pixels on a CPU, then numbers on the model's device.

Between the steps an image is uint8, a quarter of the size of float32. The result is bit for bit that of the transform.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image

_TO_TENSOR = ("MaybeToTensor", "ToTensor")
"""Names of the steps that turn an image into float32 [3, H, W] within [0, 1]; the first is open_clip's."""


@dataclass(frozen=True)
class PixelTransform:
    """Turns images into arrays, and arrays into the model's input."""

    digest: str
    """16 hexadecimal digits. Transforms of the same digest give the same pixels."""
    _first: "Callable[[Image.Image], Any]"
    _mean: tuple[float, ...] | None
    """None: `_first` is the whole transform, and gives float32."""
    _std: tuple[float, ...] | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle so that the steps, which name open_clip, are read after the lighter import of it."""
        from laclip_ray import light_open_clip

        return light_open_clip.build, (PixelTransform, self.digest, self._first, self._mean, self._std)

    def pixels(self, image: "Image.Image") -> np.ndarray:
        """The array of an image: uint8 [H, W, 3], or float32 [3, H, W] of a transform with unknown steps."""
        return np.asarray(self._first(image))

    def finish(self, pixels: np.ndarray, device: "torch.device") -> "torch.Tensor":
        """The model's input for B arrays of `pixels`: float32 [B, 3, H, W] on a device."""
        import torch

        images = torch.from_numpy(pixels).to(device)
        if self._mean is None or self._std is None:
            return images
        mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (self._mean, self._std))
        return images.permute(0, 3, 1, 2).contiguous().float().div_(255).sub_(mean).div_(std)


def split_transform(transform: Any) -> PixelTransform:
    """Split a model's transform.

    Args:
        transform: open_clip's transform for inference, or any function of an image that gives float32 [3, H, W].
    """
    steps = list(getattr(transform, "transforms", ()))
    digest = sha256("\n".join(map(_describe, steps or [transform])).encode()).hexdigest()[:16]
    if len(steps) > 2 and type(steps[-2]).__name__ in _TO_TENSOR and type(steps[-1]).__name__ == "Normalize":
        from torchvision.transforms import Compose

        return PixelTransform(digest, Compose(steps[:-2]), _numbers(steps[-1].mean), _numbers(steps[-1].std))
    return PixelTransform(digest, transform, None, None)


def _describe(step: Any) -> str:
    """The step and its settings; a function is described by its name, because its text holds an address."""
    return str(getattr(step, "__qualname__", None) or step)


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, values))
