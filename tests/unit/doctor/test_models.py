"""Models are looked up where they will be loaded."""

import os
from pathlib import Path

import huggingface_hub
import pytest

from laclip_ray.config import DEMO_REWRITER, MeaningGateConfig, RewriteConfig
from laclip_ray.doctor.models import check_clip, check_language_model, check_sentence_encoder, model_problem
from laclip_ray.errors import UserError
from laclip_ray.models import hub


def test_no_model_is_looked_up_if_nothing_is_rewritten() -> None:
    assert check_language_model(RewriteConfig()).outcome == "skipped"
    assert check_sentence_encoder(MeaningGateConfig(), rewrites=False).outcome == "skipped"
    assert check_sentence_encoder(None, rewrites=True).outcome == "skipped"


def test_the_demo_rewriter_comes_with_the_package() -> None:
    assert check_language_model(RewriteConfig(model=DEMO_REWRITER)).outcome == "passed"


def test_a_directory_with_a_model_passes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert check_language_model(RewriteConfig(model=str(tmp_path))).outcome == "passed"


def test_a_directory_without_a_model_fails(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        found = check_language_model(RewriteConfig(model=str(directory)))
        assert found.outcome == "failed"
        assert found.detail == f"rewrite.model: {directory} is not a directory with a model (no config.json)"


def test_a_name_that_the_hub_does_not_know_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: str, *_: object) -> None:
        raise UserError(f"rewrite.model: the hub has no model {model!r}")

    monkeypatch.setattr(hub, "look_up", refuse)
    found = check_language_model(RewriteConfig(model="no/such"))
    assert (found.outcome, found.detail) == ("failed", "rewrite.model: the hub has no model 'no/such'")


def test_on_a_cluster_only_the_nodes_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda model, *_, **__: looked.append(model))
    assert check_language_model(RewriteConfig(model="some/model")).outcome == "skipped"
    assert check_sentence_encoder(MeaningGateConfig(), rewrites=True).outcome == "skipped"
    assert looked == []
    assert model_problem("some/model", None) is None  # as the task on a node asks
    assert looked == ["some/model"]
    assert os.environ["RAY_ADDRESS"] == "192.0.2.1:6379"


def test_an_encoder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no directory"):
        check_sentence_encoder(MeaningGateConfig(model=f"{tmp_path}/none"), rewrites=True)


def test_the_clip_model_must_be_known() -> None:
    assert check_clip("ViT-B-16").outcome == "passed"
    with pytest.raises(UserError, match=r"ViT-B-161"):
        check_clip("ViT-B-161")
