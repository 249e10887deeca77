"""A model is found by its name or its config file, or refused before anything starts."""

import json
from pathlib import Path

import pytest

from laclip_ray.errors import UserError
from laclip_ray.models.specs import load_model_spec
from tests.unit.models.examples import VIT


def test_a_model_that_also_writes_captions_is_refused() -> None:
    with pytest.raises(UserError, match=r"coca_ViT-B-32.*two towers"):
        load_model_spec("coca_ViT-B-32")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; give an open_clip config file, or a name that open_clip knows"),
        ("{", "is not JSON: Expecting property name"),
        (json.dumps(["ViT-B-32"]), r"is not an open_clip model config; it needs embed_dim, vision_cfg and text_cfg"),
        (json.dumps({"embed_dim": 24}), r"is not an open_clip model config; it needs embed_dim, vision_cfg"),
        (
            json.dumps({**VIT, "vision_cfg": {**VIT["vision_cfg"], "image_size": [32, 64]}}),
            r"has images of \[32, 64\] pixels; only square ones are supported, so give image_size as one number",
        ),
    ],
)
def test_a_file_that_is_no_config_of_a_model_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=rf"^model\.name: '{path}' {message}"):
        load_model_spec(str(path))
