"""Models go out to open_clip and transformers with their features, their lineage and a model card."""

import json
from pathlib import Path

import pytest
import timm

from laclip_ray.cli import main
from laclip_ray.config import ModelLayout
from laclip_ray.errors import UserError
from laclip_ray.models.exporting import export_checkpoint
from laclip_ray.models.files import CONFIG_FILE, LINEAGE_FILE, MODEL_FILE, STATE_FILE
from tests.unit.models.authors import Released

LINEAGE = {"experiment": {"seed": 3}, "rewrite_sets": [{"fingerprint": "abc"}]}


def test_an_export_of_an_import_has_the_features_of_the_authors_model(released: Released, tmp_path: Path) -> None:
    export_checkpoint(str(released.directory), str(tmp_path / "export"))
    released.assert_features(tmp_path / "export")


def test_an_export_that_knows_its_home_needs_open_clip_alone(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_checkpoint(str(released.directory), str(tmp_path / "export"), home=f"local-dir:{tmp_path / 'export'}")
    monkeypatch.delitem(timm.models._registry._model_entrypoints, "laclip_vit_s16")  # as if this package were not here
    released.assert_features(tmp_path / "export")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_target_that_is_not_empty_is_left_alone(kind: str, vit: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    inside = target if kind == "file" else target / "mine"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is not an empty directory"):
        export_checkpoint(str(vit), str(target))
    assert inside.read_text(encoding="utf-8") == "mine"


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


def test_the_command_line_says_when_a_lineage_is_not_known(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["checkpoint", "export", str(vit), "exported"])
    assert "does not say what it was made from" in capsys.readouterr().out
