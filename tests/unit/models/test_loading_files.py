"""A checkpoint file is a model, at a path or URL, and beside an open_clip name it is its weights."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save, save_file

from laclip_ray.errors import UserError
from laclip_ray.models import recognition
from laclip_ray.models.digest import weights_digest
from laclip_ray.models.importing import import_checkpoint
from laclip_ray.models.loading import check_model, load_model
from laclip_ray.models.pixel_transform import split_transform
from tests.unit.models.authors import Released, released_file
from tests.unit.models.examples import TEXTS, assert_same_features

CPU = torch.device("cpu")


@pytest.fixture
def model(vit: Path) -> Any:
    return open_clip.create_model(f"local-dir:{vit}").eval()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server of `tmp_path`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_weights(path: Path, model: Any) -> None:
    """A checkpoint of a run, or of weights alone, by the suffix."""
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        released_file(path, model.state_dict(), "module.")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors", ".pth.tar"])
@pytest.mark.parametrize("form", ["{}", "file://{}", "memory://loading/{.name}"])
def test_a_file_loads_by_the_shapes_of_its_weights(
    form: str, suffix: str, model: Any, tiny_vit: str, tmp_path: Path, memory: Any
) -> None:
    path = tmp_path / f"weights{suffix}"
    write_weights(path, model)
    memory.put(str(path), f"/loading/{path.name}")
    loaded = load_model(form.format(path), None, CPU, "a.model")
    assert not loaded.model.training
    assert_same_features(model, loaded.model)


def test_a_file_at_a_web_address_with_a_query_loads(model: Any, tiny_vit: str, tmp_path: Path, web: str) -> None:
    write_weights(tmp_path / "weights.pt", model)
    loaded = load_model(f"{web}/weights.pt?download=true", None, CPU, "a.model")
    assert_same_features(model, loaded.model)


@pytest.mark.parametrize("form", ["{}", "file://{}", "memory://loading/{.name}"])
def test_an_open_clip_name_takes_a_checkpoint_file_with_a_runs_arguments(
    form: str, model: Any, tiny_vit: str, tmp_path: Path, memory: Any
) -> None:
    path = released_file(tmp_path / "weights.pt", model.state_dict(), "module.")
    memory.put(str(path), f"/loading/{path.name}")
    loaded = load_model(tiny_vit, form.format(path), CPU, "a.model")
    assert_same_features(model, loaded.model)


def test_an_open_clip_name_takes_a_safetensors_file_at_a_url(model: Any, tiny_vit: str, memory: Any) -> None:
    with memory.open("/loading/weights.safetensors", "wb") as file:
        file.write(save(model.state_dict()))
    loaded = load_model(tiny_vit, "memory://loading/weights.safetensors", CPU, "a.model")
    assert_same_features(model, loaded.model)


def test_a_file_of_the_authors_has_the_features_of_their_model(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognition, "_released_models", lambda layout: (released.imported.model,))
    loaded = load_model(str(released.file), None, CPU, "a.model")
    with torch.inference_mode():
        features = loaded.model.encode_image(released.images)
    torch.testing.assert_close(features, released.image_features, rtol=0, atol=1e-4)
    assert torch.equal(loaded.tokenizer(TEXTS), released.tokens)


def test_a_file_and_its_import_share_their_stored_features(model: Any, tiny_vit: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "weights.pt", model)
    import_checkpoint(str(tmp_path / "weights.pt"), str(tmp_path / "imported"))
    file, directory = (load_model(str(tmp_path / name), None, CPU, "a.model") for name in ("weights.pt", "imported"))
    assert weights_digest(file.model) == weights_digest(directory.model)
    assert split_transform(file.transform).digest == split_transform(directory.transform).digest


def test_weights_of_half_precision_compute_in_float32(model: Any, tiny_vit: str, tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in model.state_dict().items()}, tmp_path / "half.pt")
    loaded = load_model(str(tmp_path / "half.pt"), None, CPU, "a.model")
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}


def test_the_activation_that_weights_do_not_tell_is_warned_of(
    model: Any, tiny_vit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_weights(tmp_path / "weights.pt", model)
    load_model(str(tmp_path / "weights.pt"), None, CPU, "a.model")
    assert "weights.pt: tiny-vit was found by the shapes of its weights, and tiny-vit-quickgelu has" in caplog.text
    assert "give tiny-vit-quickgelu as the model, with the file as `pretrained`" in caplog.text


@pytest.mark.parametrize(
    "form", ["{}/open_clip_model.safetensors", "memory://loading/export/open_clip_model.safetensors"]
)
def test_a_weights_file_beside_its_config_is_its_directory(
    form: str, vit: Path, model: Any, memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    memory.put(f"{vit}/", "/loading/export", recursive=True)
    loaded = load_model(form.format(vit), None, CPU, "a.model")
    assert_same_features(model, loaded.model)
    assert "was found by" not in caplog.text


@pytest.mark.parametrize("location", ["/no/such.pt", "memory://no/such.safetensors", "local-dir:/no/such.pt"])
def test_a_file_that_does_not_exist_is_refused_before_loading(location: str) -> None:
    with pytest.raises(UserError, match=r"^evaluate\.checkpoint: .*no/such"):
        check_model(location, None, "evaluate.checkpoint")


def test_a_file_with_another_suffix_is_refused_before_loading(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"weights")
    with pytest.raises(
        UserError, match=r"^a\.model: .*x\.ckpt has no suffix of a checkpoint \(\*\.pt, .*; rename the file$"
    ):
        check_model(str(tmp_path / "x.ckpt"), None, "a.model")


def test_weights_of_an_unknown_model_are_refused_with_the_key(vit: Path, tmp_path: Path, model: Any) -> None:
    write_weights(tmp_path / "weights.pt", model)
    with pytest.raises(UserError, match=r"^a\.model: .*weights\.pt: does not fit ViT-.*with this file as `pretrained`"):
        load_model(str(tmp_path / "weights.pt"), None, CPU, "a.model")


def test_weights_by_transformers_names_without_a_config_are_refused(tmp_path: Path) -> None:
    torch.save({"vision_model.embeddings.class_embedding": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"^a\.model: .*transformers' CLIPModel, and no config\.json beside it"):
        load_model(str(tmp_path / "pytorch_model.bin"), None, CPU, "a.model")


@pytest.mark.parametrize("beside_a_name", [False, True])
def test_a_file_with_foreign_objects_is_refused_in_a_sentence(
    beside_a_name: bool, tiny_vit: str, tmp_path: Path
) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "path": Path("x")}, tmp_path / "weights.pt")
    location = str(tmp_path / "weights.pt")
    model, pretrained = (tiny_vit, location) if beside_a_name else (location, None)
    with pytest.raises(
        UserError, match=r"^a\.model: .*weights\.pt: holds pathlib\.\S+, which is no part of a check"
    ) as refused:
        load_model(model, pretrained, CPU, "a.model")
    assert "\n" not in str(refused.value)
