"""What a model is given."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from laclip_ray.data.images import ImageSpec
from laclip_ray.errors import UserError
from laclip_ray.models.building import normalise, offset_and_factor
from laclip_ray.models.specs import load_model_spec


def test_a_model_that_also_writes_captions_is_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match=r"coca_ViT-B-32.*two towers"):
        load_model_spec("coca_ViT-B-32")


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0, 0, 0), (1, 1, 1))],
)
def test_pixels_are_normalised_as_torchvision_does(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    pixels = np.random.Generator(np.random.Philox(2)).integers(0, 256, (3, 5, 7, 3), np.uint8)
    given = torch.as_tensor(pixels)
    spec = ImageSpec(5, "bilinear", mean, std)  # type: ignore[arg-type]
    found = normalise(given, *offset_and_factor(spec, given.device))
    expected = torch.stack([functional.normalize(functional.to_tensor(each), mean, std) for each in pixels])
    assert found.shape == (3, 3, 5, 7)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (given.numpy() == pixels).all()
