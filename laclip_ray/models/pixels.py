"""Normalise uint8 images on the device, inside the model's forward pass."""

from typing import Any

import torch

from laclip_ray.data.images import ImageSpec


def offset_and_factor(image: ImageSpec, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The constants of `normalise`, 255 mean and 1 / (255 std), on a device.

    Compute them once: copying them to a GPU waits for its queue.

    Returns:
        Two tensors of float32 [1, 3, 1, 1].
    """
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (image.mean, image.std))
    return (255 * mean).float().to(device), (1 / (255 * std)).float().to(device)


def normalise(images: torch.Tensor, offset: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Subtract the mean of images and divide by their standard deviation.

    Args:
        images: uint8 [B, H, W, 3].
        offset: the first tensor of `offset_and_factor`.
        factor: the second.

    Returns:
        float32 [B, 3, H, W], contiguous.
    """
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.sub_(offset).mul_(factor)


class FromPixels(torch.nn.Module):
    """A CLIP model that takes uint8 images [B, H, W, 3], so torch compiles the normalisation with the model."""

    def __init__(
        self, model: torch.nn.Module, image: ImageSpec, device: torch.device, layout: torch.memory_format
    ) -> None:
        """Wrap a model.

        Args:
            model: an open_clip model on `device`.
            image: mean and standard deviation of its images.
            device: the device of the model.
            layout: memory format of the images that the model gets.
        """
        super().__init__()
        self.model = model
        self._offset_and_factor = offset_and_factor(image, device)
        self._layout = layout

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> Any:
        """The model's output for images [B, H, W, 3] and tokens [N, L]."""
        images = normalise(pixels, *self._offset_and_factor)
        return self.model(images.contiguous(memory_format=self._layout), tokens)
