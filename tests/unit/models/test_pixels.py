"""Images are normalised as torchvision normalises them."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from laclip_ray.data.images import ImageSpec
from laclip_ray.models.pixels import normalise, offset_and_factor


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0, 0, 0), (1, 1, 1))],
)
def test_pixels_are_normalised_as_torchvision_does(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    pixels = np.random.Generator(np.random.Philox(2)).integers(0, 256, (3, 5, 7, 3), np.uint8)
    images = torch.as_tensor(pixels)
    spec = ImageSpec(5, "bilinear", mean, std)  # type: ignore[arg-type]
    normalised = normalise(images, *offset_and_factor(spec, images.device))
    expected = torch.stack([functional.normalize(functional.to_tensor(image), mean, std) for image in pixels])
    assert normalised.shape == (3, 3, 5, 7)
    assert normalised.is_contiguous()
    torch.testing.assert_close(normalised, expected, rtol=0, atol=1e-6)
    assert (images.numpy() == pixels).all()
