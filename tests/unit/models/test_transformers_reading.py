"""A CLIPModel of transformers loads as open_clip's model that computes the same, or is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from laclip_ray.errors import UserError
from laclip_ray.models.digest import weights_digest
from laclip_ray.models.exporting import export_checkpoint
from laclip_ray.models.loading import LoadedModel, check_model, load_model
from laclip_ray.models.pixel_transform import split_transform
from laclip_ray.models.transformers_layout import clip_vocabulary
from tests.unit.conftest import smooth_pixels
from tests.unit.models.examples import TEXTS, assert_same_features

CPU = torch.device("cpu")

VISION = {
    "hidden_size": 44,
    "intermediate_size": 60,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # 60 / 44 * 44 < 60
TEXT = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}


def save_clip(directory: Path, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None) -> Any:
    """Save a small model with random weights, each of which affects its features."""
    config = CLIPConfig(
        projection_dim=24,
        vision_config={**VISION, "image_size": 32, "patch_size": 8, **(vision or {})},
        text_config={**TEXT, **(text or {})},
    )
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    model.save_pretrained(directory)
    return model


def save_processor(directory: Path, **settings: Any) -> None:
    """Save preprocessing of 32 pixels, as `preprocessor_config.json`, with changed settings."""
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(directory)
    file = directory / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clip")
    save_clip(directory)
    save_processor(directory)
    return directory


def load(location: Path | str) -> LoadedModel:
    return load_model(str(location), None, CPU, "a.model")


def assert_same_embeddings(theirs: Any, loaded: LoadedModel) -> None:
    images, tokens = torch.randn(2, 3, 32, 32), loaded.tokenizer(TEXTS)
    with torch.inference_mode():
        expected = theirs.get_image_features(images).pooler_output, theirs.get_text_features(tokens).pooler_output
        found = loaded.model.encode_image(images), loaded.model.encode_text(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("eos", [2, 49407])
def test_the_embeddings_are_those_of_transformers(activation: str, eps: float, eos: int, tmp_path: Path) -> None:
    both = {"hidden_act": activation, "layer_norm_eps": eps}
    theirs = save_clip(tmp_path, both, {**both, "eos_token_id": eos})
    loaded = load(tmp_path)
    assert not loaded.model.training
    assert_same_embeddings(theirs, loaded)
    torch.testing.assert_close(loaded.model.logit_scale, theirs.logit_scale)


def test_old_pytorch_weights_of_half_precision_with_position_ids_load(saved: Path, tmp_path: Path) -> None:
    theirs = CLIPModel.from_pretrained(saved).half()
    numbers = {f"{tower}_model.embeddings.position_ids": torch.arange(5) for tower in ("text", "vision")}
    torch.save({**theirs.state_dict(), **numbers}, tmp_path / "pytorch_model.bin")
    shutil.copy(saved / "config.json", tmp_path)
    loaded = load(tmp_path)
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert_same_embeddings(theirs.float().eval(), loaded)


def test_an_export_for_transformers_loads_back_as_the_original(vit: Path, tmp_path: Path) -> None:
    export_checkpoint(str(vit), str(tmp_path / "export"), "hugging_face")
    original, loaded = load(vit), load(tmp_path / "export")
    assert_same_features(original.model, loaded.model)
    assert weights_digest(original.model) == weights_digest(loaded.model)
    assert split_transform(original.transform).digest == split_transform(loaded.transform).digest
    assert torch.equal(original.tokenizer(TEXTS), loaded.tokenizer(TEXTS))


@pytest.mark.parametrize("form", ["local-dir:{}", "{}/model.safetensors", "memory://loading/clip", "hf-hub:org/clip"])
def test_a_model_loads_by_every_form_of_its_name(
    form: str, saved: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(repository: str, name: str) -> str:
        if repository != "org/clip" or not (saved / name).is_file():
            raise EntryNotFoundError(name)
        return str(saved / name)

    memory.put(f"{saved}/", "/loading/clip", recursive=True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert_same_features(load(saved).model, load(form.format(saved)).model)


def test_tokens_and_pixels_are_those_of_the_saved_processor(saved: Path, tmp_path: Path) -> None:
    simple = open_clip.SimpleTokenizer()
    tokenizer = CLIPTokenizer(vocab=clip_vocabulary(simple), merges=list(simple.bpe_ranks))
    images = CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3], resample=2
    )
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").unlink()
    processor = CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(tmp_path)
    picture = Image.fromarray(smooth_pixels(60, 50))
    loaded = load(tmp_path)
    expected = processor(text=TEXTS, images=picture, return_tensors="pt", padding=True)
    torch.testing.assert_close(loaded.transform(picture), expected.pixel_values[0], rtol=0, atol=0.05)
    tokens = loaded.tokenizer(TEXTS)
    for row, ids in zip(tokens.tolist(), expected.input_ids.tolist(), strict=True):
        length = ids.index(simple.eot_token_id) + 1
        assert row[:length] == ids[:length]


def test_a_resized_picture_without_a_crop_is_squashed(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    save_processor(tmp_path, size={"height": 32, "width": 32}, do_center_crop=False)
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32] = 255
    pixels = load(tmp_path).transform(Image.fromarray(picture))
    assert pixels.shape == (3, 32, 32)
    assert pixels[0, 0, 0] > 1
    assert pixels[0, 0, -1] < -1


def test_images_of_a_model_without_preprocessing_are_prepared_as_clips(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(saved / name, tmp_path)
    digests = [split_transform(load(directory).transform).digest for directory in (saved, tmp_path)]
    assert digests[0] == digests[1]
    assert "has neither preprocessor_config.json nor processor_config.json" in caplog.text


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (None, {"model_type": "siglip"}, "a model of type 'siglip', and only transformers' CLIPModel"),
        ("vision_config", {"hidden_act": "gelu"}, r"no place for hidden_act \(gelu, quick_gelu\)"),
        ("vision_config", {"num_channels": 1}, r"no place for num_channels \(1\)"),
        ("vision_config", {"image_size": [32, 48]}, "no place for image_size"),
        ("vision_config", {"hidden_size": 50}, "is not a configuration of CLIPModel: .*not a multiple"),
        ("text_config", {"vocab_size": 100}, r"no place for vocab_size \(100; CLIP's own tokeniser has 49408\)"),
        ("text_config", {"eos_token_id": 7}, r"no place for eos_token_id \(7\)"),
    ],
)
def test_a_config_that_open_clip_cannot_express_is_refused_before_loading(
    section: str | None, change: dict[str, Any], message: str, saved: Path, tmp_path: Path
) -> None:
    config = json.loads((saved / "config.json").read_text())
    (config if section is None else config[section]).update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"^a\.model: .*{message}"):
        check_model(str(tmp_path), None, "a.model")


@pytest.mark.parametrize("url", ["{}", "memory://loading/damaged"])
def test_a_damaged_config_is_refused_before_loading(url: str, tmp_path: Path, memory: Any) -> None:
    (tmp_path / "config.json").write_text("{")
    memory.put(f"{tmp_path}/", "/loading/damaged", recursive=True)
    with pytest.raises(UserError, match=r"^a\.model: .*config\.json is damaged"):
        check_model(url.format(tmp_path), None, "a.model")


def test_a_directory_without_weights_is_refused_before_loading(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "config.json", tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"^a\.model: .* has no model\.safetensors or pytorch_model\.bin; save the model"
    ):
        check_model(str(tmp_path), None, "a.model")


def test_a_model_of_the_hub_without_weights_is_refused_when_it_is_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_: str, name: str) -> str:
        if name != "config.json":
            raise EntryNotFoundError(name)
        return str(saved / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"^a\.model: .*org/clip has no model\.safetensors or pytorch_model\.bin; save"):
        load("hf-hub:org/clip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": {"height": 24, "width": 24}}, "another preprocessing"),
        ({"resample": 0}, "another preprocessing"),
        ({"do_rescale": False}, "another preprocessing"),
        ({"do_center_crop": False}, "another preprocessing"),
        ({"image_mean": "grey"}, "is damaged"),
        ({"image_processor_type": "ViTImageProcessor"}, "is of ViTImageProcessor"),
    ],
)
def test_another_preprocessing_is_refused(settings: dict[str, Any], message: str, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    save_processor(tmp_path, **settings)
    with pytest.raises(UserError, match=rf"^a\.model: .*: preprocessor_config\.json .*{message}|{message}"):
        load(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("vocab.json", {"a": 0}), ("tokenizer.json", {"model": {"vocab": []}})])
def test_another_vocabulary_is_refused(name: str, content: dict[str, Any], saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"^a\.model: .*: {name} is not CLIP's vocabulary.*in open_clip's layout$"):
        load(tmp_path)


def test_weights_of_another_architecture_are_refused(saved: Path, tmp_path: Path) -> None:
    weights = CLIPModel.from_pretrained(saved).state_dict()
    weights["classifier.weight"] = weights.pop("text_projection.weight")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    shutil.copy(saved / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"do not fit: missing text_projection, unexpected classifier\.weight"):
        load(tmp_path)
