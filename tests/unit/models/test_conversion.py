"""Released checkpoints come in, models go out, and features stay what they were."""

import argparse
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from laclip_ray.cli import main
from laclip_ray.config import ModelLayout
from laclip_ray.errors import UserError
from laclip_ray.models import conversion, paper_models
from laclip_ray.models.building import create_model
from laclip_ray.models.conversion import LINEAGE_FILE, ImportedCheckpoint, export_checkpoint, import_checkpoint
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, STATE_FILE, save_model
from laclip_ray.models.loading import load_model
from laclip_ray.models.specs import load_model_spec
from tests.unit.conftest import smooth_pixels

Weights = dict[str, torch.Tensor]
TEXTS = ["a photo of a dog", "", "It's 5 red <mugs> on a table!"]
VIT: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "mlp_ratio": 3.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
}


# A model with the authors' ViT-S/16 by the names of their code, and what it computes.


def released_weights(text_width: int, text_layers: int) -> Weights:
    """Random weights with which every part of the model has an effect on its features."""
    width = text_width
    shapes: dict[str, tuple[int, ...]] = {
        "visual.cls_token": (1, 1, 384),
        "visual.pos_embed": (1, 197, 384),
        "visual.patch_embed.proj.weight": (384, 3, 16, 16),
        "visual.patch_embed.proj.bias": (384,),
        **normed("visual.norm", 384),
        "token_embedding.weight": (49408, width),
        "positional_embedding": (77, width),
        **normed("ln_final", width),
        "image_projection": (384, 512),
        "text_projection": (width, 512),
        "logit_scale": (),
    }
    for number in range(12):
        block = f"visual.blocks.{number}"
        shapes |= normed(f"{block}.norm1", 384) | normed(f"{block}.norm2", 384)
        shapes |= normed(f"{block}.attn.q_norm", 32) | normed(f"{block}.attn.k_norm", 32)
        shapes |= linear(f"{block}.attn.qkv", 384, 1152) | linear(f"{block}.attn.proj", 384, 384)
        shapes |= linear(f"{block}.mlp.fc1", 384, 1536) | linear(f"{block}.mlp.fc2", 1536, 384)
    for number in range(text_layers):
        block = f"transformer.resblocks.{number}"
        shapes |= normed(f"{block}.ln_1", width) | normed(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= linear(f"{block}.mlp.c_fc", width, 4 * width) | linear(f"{block}.mlp.c_proj", 4 * width, width)
    generator = torch.Generator().manual_seed(1)
    gains = {name for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 1}
    return {name: torch.randn(shape, generator=generator) * 0.05 + (name in gains) for name, shape in shapes.items()}


def normed(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | float) -> torch.Tensor:
    """[B, heads, N, D] to [B, N, heads * D]."""
    scores: torch.Tensor = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def split(qkv: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """[B, N, 3 * width] to three of [B, heads, N, width / heads]."""
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)]


def image_features(weights: Weights, images: torch.Tensor) -> torch.Tensor:
    """What the authors' model makes of images [B, 3, 224, 224]."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = weights[f"visual.{name}.weight"], weights[f"visual.{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, eps=1e-6)

    def apply(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weights[f"visual.{name}.weight"], weights[f"visual.{name}.bias"])

    patches = F.conv2d(
        images, weights["visual.patch_embed.proj.weight"], weights["visual.patch_embed.proj.bias"], stride=16
    )
    x = torch.cat([weights["visual.cls_token"].expand(len(images), 1, 384), patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + weights["visual.pos_embed"]
    for number in range(12):
        block = f"blocks.{number}"
        q, k, v = split(apply(f"{block}.attn.qkv", norm(f"{block}.norm1", x)), heads=12)
        q, k = norm(f"{block}.attn.q_norm", q), norm(f"{block}.attn.k_norm", k)
        x = x + apply(f"{block}.attn.proj", attended(q, k, v, 0.0))
        x = x + apply(f"{block}.mlp.fc2", F.gelu(apply(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))))
    return norm("norm", x)[:, 0] @ weights["image_projection"]


def text_features(weights: Weights, tokens: torch.Tensor, layers: int) -> torch.Tensor:
    """What the authors' model makes of tokens [B, 77]; 64 dimensions a head."""
    width = weights["text_projection"].shape[0]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    mask = torch.full((77, 77), float("-inf")).triu(1)
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"]
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        qkv = F.linear(
            norm(f"{block}.ln_1", x), weights[f"{block}.attn.in_proj_weight"], weights[f"{block}.attn.in_proj_bias"]
        )
        q, k, v = split(qkv, heads=width // 64)
        x = x + F.linear(
            attended(q, k, v, mask),
            weights[f"{block}.attn.out_proj.weight"],
            weights[f"{block}.attn.out_proj.bias"],
        )
        hidden = F.linear(
            norm(f"{block}.ln_2", x), weights[f"{block}.mlp.c_fc.weight"], weights[f"{block}.mlp.c_fc.bias"]
        )
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        x = x + F.linear(hidden, weights[f"{block}.mlp.c_proj.weight"], weights[f"{block}.mlp.c_proj.bias"])
    ends = tokens.argmax(dim=1)
    return norm("ln_final", x)[torch.arange(len(tokens)), ends] @ weights["text_projection"]


# Files as they are published.


def released_file(path: Path, weights: Weights, prefix: str = "module.") -> Path:
    """A checkpoint as the authors' train.py saves one: numpy in the optimiser's state, a Namespace of arguments."""
    torch.save(
        {
            "epoch": 35,
            "state_dict": {f"{prefix}{name}": value for name, value in weights.items()},
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": np.float64(1e-5)}]},
            "scaler": {"scale": 65536.0},
            "best_acc1": 21.5,
            "args": argparse.Namespace(model="CLIP_VITS16", lr=3e-3, betas=(0.9, 0.98), gpu=None),
        },
        path,
    )
    return path


@dataclass(frozen=True)
class Released:
    """A released checkpoint with the authors' ViT-S/16, what was made of it, and its features."""

    file: Path
    imported: ImportedCheckpoint
    directory: Path
    images: torch.Tensor
    tokens: torch.Tensor
    image_features: torch.Tensor
    text_features: torch.Tensor

    @classmethod
    def make(cls, root: Path, text_width: int, text_layers: int, model: str | None) -> "Released":
        weights = released_weights(text_width, text_layers)
        images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
        tokens = open_clip.SimpleTokenizer()(TEXTS)
        with torch.inference_mode():
            features = image_features(weights, images), text_features(weights, tokens, text_layers)
        file = released_file(root / "cc0m_laclip.pt", weights)
        imported = import_checkpoint(str(file), str(root / "imported"), model)
        return cls(file, imported, root / "imported", images, tokens, *features)

    def assert_features(self, location: Path | str) -> None:
        """That open_clip loads the same model from a directory."""
        model = open_clip.create_model(f"local-dir:{location}").eval()
        with torch.inference_mode():
            torch.testing.assert_close(model.encode_image(self.images), self.image_features, rtol=0, atol=1e-4)
            torch.testing.assert_close(model.encode_text(self.tokens), self.text_features, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """With a small text tower."""
    root = tmp_path_factory.mktemp("released")
    config = paper_models.model_config("laclip_vit_s16")
    config["model_cfg"]["text_cfg"] |= {"width": 128, "heads": 2, "layers": 2}
    (root / "small.json").write_text(json.dumps(config), encoding="utf-8")
    return Released.make(root, text_width=128, text_layers=2, model=str(root / "small.json"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of open_clip's own vision transformer, as training exports it."""
    root = tmp_path_factory.mktemp("vit")
    (root / "vit.json").write_text(json.dumps(VIT), encoding="utf-8")
    spec = load_model_spec(str(root / "vit.json"))
    (root / "export").mkdir()
    save_model(root / "export", create_model(spec, seed=3), spec)
    return root / "export"


# The authors' layout


def test_a_released_checkpoint_is_told_by_its_shapes_and_has_the_features_of_the_authors_model(tmp_path: Path) -> None:
    released = Released.make(tmp_path, text_width=512, text_layers=12, model=None)
    assert released.imported == ImportedCheckpoint(model="laclip_vit_s16", layout="laclip", epoch=35, lookalike=None)
    released.assert_features(released.directory)


def test_an_import_of_a_named_model_has_the_features_of_the_authors_model(released: Released) -> None:
    released.assert_features(released.directory)


def test_an_export_of_an_import_has_the_features_of_the_authors_model(released: Released, tmp_path: Path) -> None:
    export_checkpoint(str(released.directory), str(tmp_path / "export"))
    released.assert_features(tmp_path / "export")


def test_an_export_that_knows_its_home_needs_open_clip_alone(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_checkpoint(str(released.directory), str(tmp_path / "export"), home=f"local-dir:{tmp_path / 'export'}")
    monkeypatch.delitem(timm.models._registry._model_entrypoints, "laclip_vit_s16")  # as if this package were not here
    released.assert_features(tmp_path / "export")


def test_evaluation_loads_an_import_with_the_images_and_texts_of_the_paper(released: Released) -> None:
    model, transform, tokenizer = load_model(str(released.directory), torch.device("cpu"))
    with torch.inference_mode():
        features = model.encode_image(released.images)
    torch.testing.assert_close(features, released.image_features, rtol=0, atol=1e-4)
    assert torch.equal(tokenizer(TEXTS), released.tokens)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    white = transform(Image.new("RGB", (300, 260), "white"))
    assert white.shape == (3, 224, 224)
    torch.testing.assert_close(white.mean(dim=(1, 2)), (1 - mean) / std)


def test_an_import_says_what_it_was_made_from(released: Released) -> None:
    assert json.loads((released.directory / LINEAGE_FILE).read_text()) == {
        "imported_from": "cc0m_laclip.pt",
        "sha256": hashlib.sha256(released.file.read_bytes()).hexdigest(),
        "layout": "laclip",
        "epoch": 35,
        "model": released.imported.model,
        "model_told_by": "the user",
    }


# open_clip's layout


@pytest.mark.parametrize(
    ("name", "lookalike"),
    [
        ("ViT-B-32", "ViT-B-32-quickgelu"),
        ("ViT-B-16", "ViT-B-16-quickgelu"),
        ("ViT-L-14-quickgelu", "ViT-L-14"),
        ("laclip_vit_b16", None),
        ("laclip_vit_l16", None),
    ],
)
def test_every_released_model_is_told_by_its_shapes(name: str, lookalike: str | None) -> None:
    with torch.device("meta"):
        weights = create_model(load_model_spec(name), seed=0).state_dict()
    layout = "laclip" if name.startswith("laclip") else "open_clip"
    spec, _ = conversion._model_for(weights, layout, None, "file.pt")
    assert (spec.name, conversion._lookalike(name)) == (name, lookalike)


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_named_model_takes_a_file_of_open_clips(prefix: str, quick_gelu: bool, tmp_path: Path) -> None:
    config = tmp_path / "vit.json"
    config.write_text(json.dumps({**VIT, "quick_gelu": quick_gelu}), encoding="utf-8")
    model: Any = create_model(load_model_spec(str(config)), seed=4).eval()
    file = released_file(tmp_path / "laion0m_laclip.pt", model.state_dict(), prefix)
    imported = import_checkpoint(str(file), str(tmp_path / "imported"), str(config))
    assert imported == ImportedCheckpoint(model=str(config), layout="open_clip", epoch=35, lookalike=None)
    assert_same_features(model, open_clip.create_model(f"local-dir:{tmp_path / 'imported'}"))


def assert_same_features(model: Any, other: Any) -> None:
    images = torch.randn(2, 3, 32, 32)
    tokens = open_clip.SimpleTokenizer()(TEXTS)
    with torch.inference_mode():
        assert torch.equal(model.encode_image(images), other.eval().encode_image(images))
        assert torch.equal(model.encode_text(tokens), other.encode_text(tokens))


def test_a_file_of_weights_alone_and_in_torchs_old_format_is_read(vit: Path, tmp_path: Path) -> None:
    model = open_clip.create_model(f"local-dir:{vit}")
    torch.save(model.state_dict(), tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    imported = import_checkpoint(str(tmp_path / "weights.pt"), str(tmp_path / "imported"), str(vit.parent / "vit.json"))
    assert imported.epoch is None
    assert_same_features(model.eval(), open_clip.create_model(f"local-dir:{tmp_path / 'imported'}"))


def test_numpy_values_of_either_version_beside_the_weights_are_left_out(vit: Path, tmp_path: Path) -> None:
    model = open_clip.create_model(f"local-dir:{vit}")
    written = released_file(tmp_path / "numpy2.pt", model.state_dict())
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(tmp_path / "numpy1.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert b"cnumpy.core.multiarray\nscalar" in (tmp_path / "numpy1.pt").read_bytes()
    import_checkpoint(str(tmp_path / "numpy1.pt"), str(tmp_path / "imported"), str(vit.parent / "vit.json"))
    assert_same_features(model.eval(), open_clip.create_model(f"local-dir:{tmp_path / 'imported'}"))


def test_a_file_and_a_target_may_be_urls(vit: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    model = open_clip.create_model(f"local-dir:{vit}")
    memory.put(str(released_file(tmp_path / "file.pt", model.state_dict())), "/exchange/file.pt")
    try:
        import_checkpoint("memory://exchange/file.pt", "memory://exchange/imported", str(vit.parent / "vit.json"))
        loaded, _, _ = load_model("memory://exchange/imported", torch.device("cpu"))
    finally:
        memory.rm("/exchange", recursive=True)
    assert_same_features(model.eval(), loaded)


# What is refused


class _Payload:
    """Unpickling it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.makedirs, (str(self.path),)


def test_a_file_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": _Payload(tmp_path / "ran")}, tmp_path / "file.pt")
    with pytest.raises(UserError, match=r"holds os\.makedirs, .* nothing of it was run"):
        import_checkpoint(str(tmp_path / "file.pt"), str(tmp_path / "imported"))
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.mkdir(), "there is no file"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "is not a PyTorch checkpoint"),
        (lambda path: path.write_bytes(b""), "is not a PyTorch checkpoint"),
        (lambda path: torch.save(torch.zeros(2), path), "is not a checkpoint but a Tensor"),
        (lambda path: torch.save({}, path), "no `state_dict` of tensors, but nothing"),
        (lambda path: torch.save({"epoch": 3, "args": {}}, path), "no `state_dict` of tensors, but epoch, args"),
        (lambda path: torch.save({"state_dict": {"a": np.float64(1)}}, path), "no `state_dict` of tensors"),
    ],
)
def test_what_is_no_checkpoint_is_refused(write: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    write(tmp_path / "file.pt")
    with pytest.raises(UserError, match=message):
        import_checkpoint(str(tmp_path / "file.pt"), str(tmp_path / "imported"))


def test_weights_of_another_model_are_refused_by_name(vit: Path, tmp_path: Path) -> None:
    weights = open_clip.create_model(f"local-dir:{vit}").state_dict()
    weights["extra"] = weights.pop("ln_final.bias")
    weights["logit_scale"] = torch.zeros(2)
    file = str(released_file(tmp_path / "file.pt", weights))
    with pytest.raises(
        UserError,
        match=r"does not fit .*vit.json: missing ln_final.bias, unexpected extra, logit_scale is \[2\] and not \[\]",
    ):
        import_checkpoint(file, str(tmp_path / "imported"), str(vit.parent / "vit.json"))
    with pytest.raises(UserError, match=r"does not fit ViT-.* None of .*name it with --model"):
        import_checkpoint(file, str(tmp_path / "imported"))
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_target_that_is_not_empty_is_left_alone(kind: str, vit: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    inside = target if kind == "file" else target / "mine"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds files"):
        import_checkpoint(str(tmp_path / "file.pt"), str(target))
    with pytest.raises(UserError, match="holds files"):
        export_checkpoint(str(vit), str(target))
    assert inside.read_text(encoding="utf-8") == "mine"


# Export


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
    _, transform, _ = load_model(str(vit), torch.device("cpu"))
    torch.testing.assert_close(theirs, transform(picture), rtol=0, atol=0.05)


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


@pytest.mark.parametrize("missing", [CONFIG_FILE, MODEL_FILE])
def test_a_source_without_a_model_is_refused(missing: str, vit: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in {CONFIG_FILE, MODEL_FILE} - {missing}:
        (tmp_path / "model" / name).write_bytes((vit / name).read_bytes())
    with pytest.raises(UserError, match=f"has no {missing}"):
        export_checkpoint(str(tmp_path / "model"), str(tmp_path / "export"))


@pytest.mark.parametrize("home", ["org/name", "hf-hub:name", "local-dir:here"])
def test_a_home_that_open_clip_could_not_find_is_refused(home: str, vit: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--home"):
        export_checkpoint(str(vit), str(tmp_path / "export"), home=home)


def test_an_export_for_one_home_can_be_exported_for_another(released: Released, tmp_path: Path) -> None:
    export_checkpoint(str(released.directory), str(tmp_path / "first"), home="hf-hub:org/name")
    export_checkpoint(str(tmp_path / "first"), str(tmp_path / "second"), home="hf-hub:org/other")
    export_checkpoint(str(tmp_path / "second"), str(tmp_path / "third"))
    names = [
        json.loads((directory / CONFIG_FILE).read_text())["model_cfg"]["vision_cfg"]["timm_model_name"]
        for directory in (tmp_path / "first", tmp_path / "second", tmp_path / "third", released.directory)
    ]
    assert names == ["hf-hub:org/name", "hf-hub:org/other", "laclip_vit_s16", "laclip_vit_s16"]


LINEAGE = {"experiment": {"seed": 3}, "rewrite_sets": [{"fingerprint": "abc"}]}


def test_a_checkpoints_lineage_goes_with_it(vit: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in (CONFIG_FILE, MODEL_FILE):
        (checkpoint / name).write_bytes((vit / name).read_bytes())
    (checkpoint / STATE_FILE).write_text(json.dumps({"step": 7, "samples": 56, "position": {}, "lineage": LINEAGE}))
    assert export_checkpoint(str(checkpoint), str(tmp_path / "export"))
    assert json.loads((tmp_path / "export" / LINEAGE_FILE).read_text()) == {
        "exported_from": str(checkpoint),
        "layout": "open_clip",
        "source": {"step": 7, "samples": 56, **LINEAGE},
    }


@pytest.mark.parametrize("layout", ["open_clip", "hugging_face"])
def test_the_lineage_of_a_runs_export_is_found_beside_it(
    layout: ModelLayout, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "train"
    (run / "export").mkdir(parents=True)
    for name in (CONFIG_FILE, MODEL_FILE):
        (run / "export" / name).write_bytes((vit / name).read_bytes())
    summary = {"steps": 7, "samples": 56, "epochs": 2, "export": "elsewhere/train/export", "lineage": LINEAGE}
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    monkeypatch.chdir(run)
    assert export_checkpoint("export", str(tmp_path / "out"), layout)
    lineage = json.loads((tmp_path / "out" / LINEAGE_FILE).read_text())
    assert lineage["source"] == {"step": 7, "samples": 56, **LINEAGE}


def test_a_model_card_says_which_library_loads_it_and_from_where(vit: Path, released: Released, tmp_path: Path) -> None:
    exports = {
        "paper": (released.directory, "open_clip", None),
        "paper_home": (released.directory, "open_clip", "hf-hub:org/name"),
        "vit": (vit, "open_clip", None),
        "transformers": (vit, "hugging_face", None),
    }
    cards = {}
    for name, (source, layout, home) in exports.items():
        export_checkpoint(str(source), str(tmp_path / name), layout, home)  # type: ignore[arg-type]
        cards[name] = (tmp_path / name / "README.md").read_text(encoding="utf-8")
    assert "import laclip_ray.models.paper_models" in cards["paper"]
    assert "laclip_ray" not in cards["paper_home"] + cards["vit"]
    assert "hf-hub:org/name" in cards["paper_home"]
    libraries = [card.splitlines()[1] for card in cards.values()]
    assert libraries == ["library_name: open_clip"] * 3 + ["library_name: transformers"]


# The command line


def test_the_command_line_imports_and_exports(vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = open_clip.create_model(f"local-dir:{vit}")
    file = released_file(tmp_path / "file.pt", model.state_dict())
    main(["checkpoint", "import", str(file), "imported", "--model", str(vit.parent / "vit.json")])
    main(["checkpoint", "export", "imported", "exported", "--layout", "hugging_face"])
    assert "epoch 35" in capsys.readouterr().out
    assert (tmp_path / "exported" / "model.safetensors").is_file()


def test_the_command_line_says_when_a_lineage_is_not_known(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["checkpoint", "export", str(vit), "exported"])
    assert "does not say what it was made from" in capsys.readouterr().out


def test_the_command_line_refuses_bad_input_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["checkpoint", "import", "missing.pt", "imported"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: there is no file missing.pt\n"
