"""Each encoding actor loads the run's models by their locations, and refuses other weights; imports are few."""

import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import open_clip
import pytest
import torch

from laclip_ray.errors import UserError
from laclip_ray.evaluation.features.encoder import Encoder
from laclip_ray.evaluation.features.pool import PooledModel, _EncodingActor, _ReadWork
from laclip_ray.evaluation.features.store import FeatureStore
from laclip_ray.models import recognition
from laclip_ray.models.building import create_model
from laclip_ray.models.loading import load_model
from laclip_ray.models.specs import load_model_spec

CPU = torch.device("cpu")


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a checkpoint file of a small model."""
    (tmp_path / "pooled-vit.json").write_text(
        '{"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8}, '
        '"text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}'
    )
    open_clip.add_model_config(tmp_path / "pooled-vit.json")
    monkeypatch.setattr(recognition, "RELEASED", ("pooled-vit",))
    url = "memory://pooled/weights.pt"
    with fsspec.open(url, "wb") as file:
        torch.save(create_model(load_model_spec("pooled-vit"), seed=1).state_dict(), file)
    return url


@pytest.mark.parametrize("is_beside_a_name", [False, True])
def test_every_actor_loads_a_checkpoint_file_at_a_url(is_beside_a_name: bool, location: str, tmp_path: Path) -> None:
    model, pretrained = ("pooled-vit", location) if is_beside_a_name else (location, None)
    encoder = Encoder(load_model(model, pretrained, CPU, "a.model"), CPU, 1, "fp32")
    pooled = PooledModel(model, pretrained, encoder.digest, encoder.transform, FeatureStore(str(tmp_path / "store")))
    for _ in range(2):
        actor = _EncodingActor([pooled], 1, "fp32")
        assert len(actor._models) == 1


def test_an_actor_refuses_a_file_that_was_replaced(location: str, tmp_path: Path) -> None:
    encoder = Encoder(load_model(location, None, CPU, "a.model"), CPU, 1, "fp32")
    pooled = PooledModel(location, None, encoder.digest, encoder.transform, FeatureStore(str(tmp_path / "store")))
    with fsspec.open(location, "wb") as file:
        torch.save(create_model(load_model_spec("pooled-vit"), seed=2).state_dict(), file)
    with pytest.raises(UserError, match=r"weights\.pt has other weights on this node than where the run started"):
        _EncodingActor([pooled], 1, "fp32")


def test_a_process_that_gets_the_stream_of_a_pool_does_not_import_transformers(location: str, tmp_path: Path) -> None:
    transform = Encoder(load_model(location, None, CPU, "a.model"), CPU, 1, "fp32").transform
    (tmp_path / "work").write_bytes(pickle.dumps(_ReadWork([transform]).__call__))
    program = f"import pickle, sys; pickle.load(open({str(tmp_path / 'work')!r}, 'rb')); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "open_clip" in modules
    assert "transformers" not in modules
