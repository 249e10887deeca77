"""transformers' CLIPModel computes the same as open_clip's, and a model that it cannot express is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from laclip_ray.errors import UserError
from laclip_ray.models.building import create_model
from laclip_ray.models.exporting import export_checkpoint
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, save_model
from laclip_ray.models.loading import load_model
from laclip_ray.models.specs import load_model_spec
from tests.unit.conftest import smooth_pixels
from tests.unit.models.authors import Released
from tests.unit.models.examples import TEXTS, VIT


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_transformers_gives_the_features_of_open_clip(quick_gelu: bool, tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    (tmp_path / "vit.json").write_text(json.dumps({**VIT, "quick_gelu": quick_gelu}), encoding="utf-8")
    spec = load_model_spec(str(tmp_path / "vit.json"))
    model: Any = create_model(spec, seed=5).eval()
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", model, spec)
    export_checkpoint(str(tmp_path / "model"), str(tmp_path / "export"), "hugging_face")
    theirs = CLIPModel.from_pretrained(tmp_path / "export").eval()
    processor = CLIPProcessor.from_pretrained(tmp_path / "export")
    pixels = torch.randn(2, 3, 32, 32)
    texts = processor(text=TEXTS, return_tensors="pt", padding=True)
    with torch.inference_mode():
        outputs = theirs(pixel_values=pixels, **texts)
        images = model.encode_image(pixels, normalize=True)
        captions = model.encode_text(open_clip.SimpleTokenizer()(TEXTS), normalize=True)
    torch.testing.assert_close(outputs.image_embeds, images)
    torch.testing.assert_close(outputs.text_embeds, captions)
    torch.testing.assert_close(outputs.logits_per_image, np.exp(3.0) * images @ captions.T)


def test_transformers_prepares_pictures_nearly_as_open_clip_does(vit: Path, tmp_path: Path) -> None:
    from transformers import CLIPProcessor

    export_checkpoint(str(vit), str(tmp_path / "export"), "hugging_face")
    picture = Image.fromarray(smooth_pixels(50, 40))
    theirs = CLIPProcessor.from_pretrained(tmp_path / "export")(images=picture, return_tensors="pt").pixel_values[0]
    loaded = load_model(str(vit), None, torch.device("cpu"), "setting")
    torch.testing.assert_close(theirs, loaded.transform(picture), rtol=0, atol=0.05)


def test_transformers_is_refused_what_it_has_no_place_for(released: Released, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no place for vision_cfg\.timm_model_name.*--layout open_clip"):
        export_checkpoint(str(released.directory), str(tmp_path / "export"), "hugging_face")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("vision_cfg", {"qk_norm": True}),
        ("vision_cfg", {"pool_type": "avg"}),
        ("vision_cfg", {"layers": [1, 1, 1, 1]}),
        ("text_cfg", {"no_causal_mask": True}),
        ("text_cfg", {"vocab_size": 100}),
        ("text_cfg", {"hf_tokenizer_name": "org/name"}),
        ("model_cfg", {"custom_text": True}),
        ("model_cfg", {"init_logit_bias": -10}),
        ("preprocess_cfg", {"resize_mode": "squash"}),
    ],
)
def test_transformers_is_refused_settings_it_does_not_have(
    part: str, change: dict[str, Any], vit: Path, tmp_path: Path
) -> None:
    config = json.loads((vit / CONFIG_FILE).read_text())
    parts = {**config, **config["model_cfg"]}
    parts[part].update(change)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model" / MODEL_FILE).write_bytes((vit / MODEL_FILE).read_bytes())
    with pytest.raises(UserError, match=f"no place for .*{next(iter(change))}"):
        export_checkpoint(str(tmp_path / "model"), str(tmp_path / "export"), "hugging_face")


def test_weights_of_another_configuration_are_refused(vit: Path, tmp_path: Path) -> None:
    config = json.loads((vit / CONFIG_FILE).read_text())
    config["model_cfg"]["text_cfg"]["width"] = 64
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model" / MODEL_FILE).write_bytes((vit / MODEL_FILE).read_bytes())
    message = rf"^{tmp_path}/model: weights and {CONFIG_FILE} do not fit: .*size mismatch for text_model"
    with pytest.raises(UserError, match=f"(?s){message}"):
        export_checkpoint(str(tmp_path / "model"), str(tmp_path / "export"), "hugging_face")
