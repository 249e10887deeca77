"""Models that several modules of tests read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import open_clip
import pytest

from laclip_ray.models import paper_models, recognition
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from tests.unit.models.authors import Released
from tests.unit.models.examples import VIT


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, empty."""
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/loading"):
        fs.rm("/loading", recursive=True)


@pytest.fixture
def tiny_vit(vit: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The model of `vit` under a name of open_clip's, which a file's shapes are compared with."""
    config = vit.parent / "tiny-vit.json"
    config.write_bytes((vit.parent / "vit.json").read_bytes())
    open_clip.add_model_config(config)
    monkeypatch.setattr(recognition, "RELEASED", (config.stem,))
    return config.stem


@pytest.fixture(scope="package")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """With a small text tower."""
    root = tmp_path_factory.mktemp("released")
    config = paper_models.model_config("laclip_vit_s16")
    config["model_cfg"]["text_cfg"] |= {"width": 128, "heads": 2, "layers": 2}
    (root / "small.json").write_text(json.dumps(config), encoding="utf-8")
    return Released.make(root, text_width=128, text_layers=2, model=str(root / "small.json"))


@pytest.fixture(scope="package")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of open_clip's own vision transformer, as training exports it."""
    root = tmp_path_factory.mktemp("vit")
    (root / "vit.json").write_text(json.dumps(VIT), encoding="utf-8")
    spec = load_model_spec(str(root / "vit.json"))
    (root / "export").mkdir()
    save_model(root / "export", create_model(spec, seed=3), spec)
    return root / "export"
