"""Every form of a model's name loads the same model, and an unusable one is refused before anything starts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from laclip_ray.errors import UserError
from laclip_ray.models import loading, paper_models
from laclip_ray.models.building import create_model
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE
from laclip_ray.models.loading import check_model, load_model
from laclip_ray.models.specs import load_model_spec
from tests.unit.dead_endpoint import use_dead_endpoint
from tests.unit.models.authors import Released
from tests.unit.models.examples import TEXTS, assert_same_features

CPU = torch.device("cpu")


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["{}", "local-dir:{}", "file://{}", "{}/", "export", "./export", "local-dir:export"])
def test_a_directory_loads_by_every_form_of_its_name(form: str, vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(vit.parent)
    loaded = load_model(form.format(vit), None, CPU, "a.model")
    assert not loaded.model.training
    assert_same_features(open_clip.create_model(f"local-dir:{vit}").eval(), loaded.model)


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_directory_at_a_url_loads(prefix: str, vit: Path, memory: Any) -> None:
    memory.put(f"{vit}/", "/loading/export", recursive=True)
    loaded = load_model(f"{prefix}memory://loading/export", None, CPU, "a.model")
    assert_same_features(open_clip.create_model(f"local-dir:{vit}").eval(), loaded.model)


def test_a_url_brings_pytorch_weights_and_a_tokeniser_of_its_own(vit: Path, tmp_path: Path, memory: Any) -> None:
    config = json.loads((vit / CONFIG_FILE).read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "org/name", "context_length": 12}
    directory = tmp_path / "own"
    directory.mkdir()
    (directory / CONFIG_FILE).write_text(json.dumps(config))
    model = create_model(load_model_spec(str(directory / CONFIG_FILE)), seed=3)
    torch.save(model.state_dict(), directory / "open_clip_pytorch_model.bin")
    CLIPTokenizer(
        vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b</w>": 3, "a</w>": 4, "b": 5, "ab</w>": 6},
        merges=[("a", "b</w>")],
    ).save_pretrained(directory)
    memory.put(f"{directory}/", "/loading/own", recursive=True)
    local, remote = (load_model(name, None, CPU, "a.model") for name in (str(directory), "memory://loading/own"))
    assert torch.equal(remote.tokenizer(["ab a", "b"]), local.tokenizer(["ab a", "b"]))
    assert remote.tokenizer(["ab a"]).shape == (1, 12)
    assert remote.tokenizer(["ab a"])[0, :4].tolist() == [0, 6, 4, 1]
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(remote.model.encode_image(images), model.eval().encode_image(images))  # type: ignore[operator]


def test_the_optimisers_state_of_a_checkpoint_is_not_copied(vit: Path, memory: Any) -> None:
    memory.put(f"{vit}/", "/loading/checkpoint", recursive=True)
    memory.pipe_file("/loading/checkpoint/optimiser.pt", b"large")
    memory.pipe_file("/loading/checkpoint/notes/readme.txt", b"below")
    with loading._open_clip_name("memory://loading/checkpoint") as name:
        copied = Path(name.removeprefix("local-dir:"))
        assert sorted(path.name for path in copied.iterdir()) == [CONFIG_FILE, MODEL_FILE]
    assert not copied.exists()


def test_an_import_has_the_images_and_texts_of_the_paper(released: Released) -> None:
    loaded = load_model(str(released.directory), None, CPU, "a.model")
    with torch.inference_mode():
        features = loaded.model.encode_image(released.images)
    torch.testing.assert_close(features, released.image_features, rtol=0, atol=1e-4)
    assert torch.equal(loaded.tokenizer(TEXTS), released.tokens)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    white = loaded.transform(Image.new("RGB", (300, 260), "white"))
    assert white.shape == (3, 224, 224)
    torch.testing.assert_close(white.mean(dim=(1, 2)), (1 - mean) / std)


PROGRAM = """
import sys
import torch
from laclip_ray.models.loading import load_model
for name in sys.argv[1:]:
    loaded = load_model(name, None, torch.device("cpu"), "a.model")
    print(sum(weight.numel() for weight in loaded.model.parameters()))
"""


def test_a_paper_model_loads_in_a_process_that_imports_only_the_loader(released: Released) -> None:
    directory = released.directory
    names = [str(directory), f"local-dir:{directory}", f"local://{directory}"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=True)
    weights = load_file(directory / MODEL_FILE)
    assert done.stdout.split() == [str(sum(weight.numel() for weight in weights.values()))] * 3


@pytest.mark.parametrize("name", paper_models.NAMES)
def test_open_clip_builds_every_paper_model_from_the_config_of_an_export(name: str, tmp_path: Path) -> None:
    spec = load_model_spec(name)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(spec.to_json()))
    (tmp_path / MODEL_FILE).touch()
    check_model(str(tmp_path), None, "a.model")
    with torch.device("meta"):
        ours = create_model(spec, seed=0)
        theirs = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False, device="meta")
    shapes = [{key: weight.shape for key, weight in model.state_dict().items()} for model in (theirs, ours)]
    assert shapes[0] == shapes[1]
    assert {**theirs.visual.preprocess_cfg, "size": 224} == spec.preprocess_cfg


@pytest.mark.parametrize(
    ("model", "pretrained"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("hf-hub:organisation/name", None),
    ],
)
def test_a_model_that_has_yet_to_be_downloaded_is_not_refused(model: str, pretrained: str | None) -> None:
    check_model(model, pretrained, "a.model")


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-23", None, r"^evaluate\.checkpoint: open_clip knows no model 'ViT-B-23'.*similar: .*ViT-B-32"),
        ("ViT-B-23", "openai", r"^evaluate\.pretrained: .*'ViT-B-23' is none.*similar: .*ViT-B-32"),
        ("ViT-B-32", None, r"^evaluate\.pretrained: ViT-B-32 has no weights without it.*laion2b_s34b_b79k"),
        ("ViT-B-32", "of_2031", r"^evaluate\.pretrained: 'of_2031' is neither a file nor a tag.*laion2b_s34b_b79k"),
        (
            "ViT-B-32",
            "memory://no/such.pt",
            r"^evaluate\.pretrained: 'memory://no/such.pt' is neither a file nor a tag",
        ),
        ("ViT-B-32", "nowhere://no/such.pt", r"^evaluate\.pretrained: nowhere://no/such\.pt: "),
        ("/no/such", None, r"^evaluate\.checkpoint: .*no open_clip_config\.json.*`laclip train` exports"),
        ("local-dir:/no/such", None, r"^evaluate\.checkpoint: .*no open_clip_config\.json"),
        ("memory://no/such", None, r"^evaluate\.checkpoint: .*no open_clip_config\.json"),
        ("nowhere://no/such", None, r"^evaluate\.checkpoint: nowhere://no/such.*"),
        ("hf-hub:organisation/name", "openai", r"^evaluate\.pretrained: .*bring their weights"),
        ("/no/such", "openai", r"^evaluate\.pretrained: .*bring their weights"),
    ],
)
def test_a_model_that_does_not_exist_is_refused_with_its_key(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_model(model, pretrained, "evaluate.checkpoint")
    with pytest.raises(UserError, match=message):
        load_model(model, pretrained, CPU, "evaluate.checkpoint")


def test_a_model_in_a_store_that_does_not_answer_is_refused_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    use_dead_endpoint(monkeypatch)
    with pytest.raises(UserError, match=r"^a\.model: s3://bucket/model/\S+ cannot be looked up: Could not connect"):
        check_model("s3://bucket/model", None, "a.model")


def test_a_directory_without_weights_is_refused(vit: Path, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes((vit / CONFIG_FILE).read_bytes())
    (tmp_path / "optimiser.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"^a\.model: .* has no weights \(\*\.safetensors, \*\.bin, \*\.pth\)"):
        check_model(str(tmp_path), None, "a.model")


@pytest.mark.parametrize("url", ["{}", "memory://loading/damaged"])
def test_damaged_weights_are_refused_with_the_key(url: str, vit: Path, tmp_path: Path, memory: Any) -> None:
    (tmp_path / CONFIG_FILE).write_bytes((vit / CONFIG_FILE).read_bytes())
    (tmp_path / MODEL_FILE).write_bytes((vit / MODEL_FILE).read_bytes()[:1000])
    memory.put(f"{tmp_path}/", "/loading/damaged", recursive=True)
    with pytest.raises(UserError, match=rf"^a\.model: {url.format(tmp_path)} cannot be loaded"):
        load_model(url.format(tmp_path), None, CPU, "a.model")


@pytest.mark.parametrize("url", ["{}", "memory://loading/harmful"])
def test_weights_that_would_run_code_are_refused_unrun(url: str, vit: Path, tmp_path: Path, memory: Any) -> None:
    directory = tmp_path / "harmful"
    directory.mkdir()
    (directory / CONFIG_FILE).write_bytes((vit / CONFIG_FILE).read_bytes())
    torch.save({"state_dict": _Payload(tmp_path / "ran")}, directory / "open_clip_pytorch_model.bin")
    memory.put(f"{directory}/", "/loading/harmful", recursive=True)
    with pytest.raises(UserError, match=r"^a\.model: .*harmful: holds .*, which is no part of a checkpoint"):
        load_model(url.format(directory), None, CPU, "a.model")
    assert not (tmp_path / "ran").exists()
