"""Released checkpoints come in with the features of the authors' models."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import open_clip
import pytest
import torch

from laclip_ray.cli import main
from laclip_ray.errors import UserError
from laclip_ray.models.building import create_model
from laclip_ray.models.files import LINEAGE_FILE
from laclip_ray.models.importing import ImportedCheckpoint, import_checkpoint
from laclip_ray.models.loading import load_model
from laclip_ray.models.specs import load_model_spec
from tests.unit.models.authors import Released, released_file
from tests.unit.models.examples import VIT, assert_same_features

CPU = torch.device("cpu")


def test_a_released_checkpoint_is_recognised_and_has_the_features_of_the_authors_model(tmp_path: Path) -> None:
    released = Released.make(tmp_path, text_width=512, text_layers=12, model=None)
    assert released.imported == ImportedCheckpoint(model="laclip_vit_s16", layout="laclip", epoch=35, lookalike=None)
    released.assert_features(released.directory)


def test_an_import_of_a_named_model_has_the_features_of_the_authors_model(released: Released) -> None:
    released.assert_features(released.directory)


def test_an_import_says_what_it_was_made_from(released: Released) -> None:
    assert json.loads((released.directory / LINEAGE_FILE).read_text()) == {
        "imported_from": "cc0m_laclip.pt",
        "sha256": hashlib.sha256(released.file.read_bytes()).hexdigest(),
        "layout": "laclip",
        "epoch": 35,
        "model": released.imported.model,
        "model_told_by": "the user",
    }


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
    memory = fsspec.filesystem("memory")
    model = open_clip.create_model(f"local-dir:{vit}")
    memory.put(str(released_file(tmp_path / "file.pt", model.state_dict())), "/exchange/file.pt")
    try:
        import_checkpoint("memory://exchange/file.pt", "memory://exchange/imported", str(vit.parent / "vit.json"))
        loaded = load_model("memory://exchange/imported", None, CPU, "a.model")
    finally:
        memory.rm("/exchange", recursive=True)
    assert_same_features(model.eval(), loaded.model)


class _Payload:
    """Makes a directory when it is unpickled."""

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
def test_a_file_without_a_checkpoint_is_refused(write: Callable[[Path], object], message: str, tmp_path: Path) -> None:
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
def test_a_target_that_is_not_empty_is_left_alone(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    inside = target if kind == "file" else target / "mine"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is not an empty directory"):
        import_checkpoint(str(tmp_path / "file.pt"), str(target))
    assert inside.read_text(encoding="utf-8") == "mine"


def test_the_command_line_imports_and_exports(vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = open_clip.create_model(f"local-dir:{vit}")
    file = released_file(tmp_path / "file.pt", model.state_dict())
    main(["checkpoint", "import", str(file), "imported", "--model", str(vit.parent / "vit.json")])
    main(["checkpoint", "export", "imported", "exported", "--layout", "hugging_face"])
    assert "epoch 35" in capsys.readouterr().out
    assert (tmp_path / "exported" / "model.safetensors").is_file()


def test_the_command_line_refuses_bad_input_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["checkpoint", "import", "missing.pt", "imported"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "laclip checkpoint import: missing.pt -> imported",
        "error: there is no file missing.pt",
    ]
