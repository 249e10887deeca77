"""A model of the hub is looked up before Ray starts."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from laclip_ray.config import MeaningGateConfig
from laclip_ray.endings.report import report_of
from laclip_ray.errors import UserError
from laclip_ray.models.hub import check_encoder, check_hub_model
from tests.cases import case


def answer_of_hub(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[tuple[Any, ...]]:
    """Let the hub answer with an error; the list gets the files that are asked for."""
    asked: list[tuple[Any, ...]] = []

    def download(*names: str, revision: str | None) -> str:
        asked.append((*names, revision))
        if error is not None:
            raise error
        return "path"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def without_answer(kind: Any) -> Exception:
    """An error of the hub's client, which asks for the server's answer."""
    error: Exception = kind.__new__(kind)
    error.args = ("refused",)
    return error


def test_a_model_that_the_hub_knows_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_of_hub(monkeypatch, None)
    check_hub_model("org/model-1.5B", "main")
    assert asked == [("org/model-1.5B", "config.json", "main")]
    answer_of_hub(monkeypatch, without_answer(EntryNotFoundError))  # another layout of files
    check_hub_model("org/model", None)


@case("How a run ends", "a language model's name that the hub does not know", "refused before Ray starts", exit_code=2)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (RepositoryNotFoundError, "rewrite.model: the hub has no model 'org/model'; a private one needs HF_TOKEN"),
        (HFValidationError, "rewrite.model: the hub has no model 'org/model'; a private one needs HF_TOKEN"),
        (RevisionNotFoundError, "rewrite.revision: 'org/model' has no revision 'v2'"),
    ],
)
def test_a_name_that_the_hub_does_not_know_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], message: str
) -> None:
    answer_of_hub(monkeypatch, without_answer(kind))
    with pytest.raises(UserError) as refused:
        check_hub_model("org/model", "v2")
    report = report_of(refused.value, {})
    assert (report.message, report.exit_code) == (message, 2)


@case("How a run ends", "a language model of the hub, without a network", "refused before Ray starts", exit_code=4)
def test_a_hub_out_of_reach_is_a_problem_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    error = LocalEntryNotFoundError("we cannot find the requested files in the local cache")
    error.__cause__ = ConnectionError("[Errno -2] Name or service not known")
    answer_of_hub(monkeypatch, error)
    with pytest.raises(UserError) as refused:
        check_hub_model("org/model", None)
    report = report_of(refused.value, {"rewrite.model": "org/model"})
    assert report.exit_code == 4
    assert report.message.startswith("rewrite.model: org/model: the Hugging Face hub cannot be reached. Connect this")


def test_a_model_behind_conditions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_of_hub(monkeypatch, without_answer(GatedRepoError))
    message = r"^rewrite\.model: 'org/model' may not be read; accept its conditions on the hub, and set HF_TOKEN$"
    with pytest.raises(UserError, match=message):
        check_hub_model("org/model", None)


def test_another_failure_of_the_lookup_is_told_with_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_of_hub(monkeypatch, PermissionError("the cache is not writable"))
    message = (
        r"^rewrite\.model: 'org/model' cannot be looked up \(PermissionError: the cache is not writable\); .*give a"
    )
    with pytest.raises(UserError, match=message):
        check_hub_model("org/model", None)


def test_an_encoder_that_is_a_path_has_to_be_a_directory_of_sentence_transformers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^rewrite\.gate\.meaning\.model: .* has no modules\.json, so it is no "):
        check_encoder(MeaningGateConfig(model=str(tmp_path)))
    with pytest.raises(UserError, match=r"^rewrite\.gate\.meaning\.model: there is no directory \./nowhere"):
        check_encoder(MeaningGateConfig(model="./nowhere"))
    (tmp_path / "modules.json").write_text("[]")
    check_encoder(MeaningGateConfig(model=str(tmp_path)))


def test_directories_and_models_for_another_machine_are_not_looked_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = answer_of_hub(monkeypatch, RuntimeError())
    (tmp_path / "model").mkdir()
    for model in (str(tmp_path), "model", "s3://bucket/model"):
        check_hub_model(model, None)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_hub_model("org/model", None)
    assert not asked
