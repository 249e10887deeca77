"""The shapes of its weights name a released model."""

import pytest

from laclip_ray.errors import UserError
from laclip_ray.models.recognition import KeyLayout, find_model, lookalike, meta_model
from laclip_ray.models.specs import load_model_spec


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("ViT-B-32", "ViT-B-32-quickgelu"),
        ("ViT-B-16", "ViT-B-16-quickgelu"),
        ("ViT-L-14-quickgelu", "ViT-L-14"),
        ("laclip_vit_b16", None),
        ("laclip_vit_l16", None),
    ],
)
def test_every_released_model_is_recognised_by_its_shapes(name: str, other: str | None) -> None:
    weights = meta_model(load_model_spec(name)).state_dict()
    layout: KeyLayout = "laclip" if name.startswith("laclip") else "open_clip"
    spec, _ = find_model(weights, layout, None, "file.pt", "name it")
    assert (spec.name, lookalike(name)) == (name, other)


def test_weights_of_no_released_model_are_refused_with_what_to_do() -> None:
    weights = meta_model(load_model_spec("ViT-H-14")).state_dict()
    with pytest.raises(UserError, match=r"^file\.pt: does not fit ViT-.* None of .*ViT-L-14.* fits better; name it$"):
        find_model(weights, "open_clip", None, "file.pt", "name it")
