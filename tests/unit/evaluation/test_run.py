"""An evaluation measures any model that the picture gate loads, or refuses it before anything starts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import open_clip
import pytest
import torch
import yaml

from laclip_ray.cli import main
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.models.building import create_model
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, save_model
from laclip_ray.models.specs import load_model_spec
from tests.unit.conftest import picture, write_tar
from tests.unit.models.examples import VIT

Experiments = Callable[..., Experiment]
IMAGES, BROKEN = 6, 25


@pytest.fixture
def experiment_with(tmp_path: Path) -> Experiments:
    """Build experiments with an export, a labelled set and captioned images; takes settings of `evaluate`."""
    (tmp_path / "vit-of-a-test.json").write_text(json.dumps(VIT))
    spec = load_model_spec(str(tmp_path / "vit-of-a-test.json"))
    export = tmp_path / "out" / "train" / "export"
    export.mkdir(parents=True)
    save_model(export, create_model(spec, seed=3), spec)
    members = []
    for number in range(IMAGES):
        image = picture(width=20 + 4 * number)
        members += [(f"k{number}.png", image), (f"k{number}.txt", b"picture %d" % number), (f"k{number}.cls", b"0")]
    for number in range(BROKEN):
        key = f"broken{number:02}"
        members += [(f"{key}.png", b"no image"), (f"{key}.txt", b"a"), (f"{key}.cls", b"0")]
    write_tar(tmp_path / "set" / "test" / "0.tar", members)
    (tmp_path / "set" / "classnames.txt").write_text("fox\nowl\n")
    (tmp_path / "set" / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    (tmp_path / "set" / "test" / "nshards.txt").write_text("1")

    def experiment(**evaluate: Any) -> Experiment:
        sets = {
            "zero_shot": [{"name": "animals", "path": str(tmp_path / "set")}],
            "retrieval": [{"name": "itself", "data": {"path": str(tmp_path / "set" / "test")}}],
        }
        return parse_experiment(
            {
                "name": "test",
                "output": str(tmp_path / "out"),
                "data": {"path": str(tmp_path / "set" / "test")},
                "evaluate": {**sets, **evaluate},
            }
        )

    return experiment


def test_results_name_the_model_the_metrics_and_the_first_skipped_samples(
    experiment_with: Experiments, tmp_path: Path
) -> None:
    results = run_evaluation(experiment_with())
    assert json.loads((tmp_path / "out" / "evaluate" / "results.json").read_text()) == results
    assert results["checkpoint"] == str(tmp_path / "out" / "train" / "export")
    zero_shot, retrieval = results["results"]
    assert (zero_shot["task"], zero_shot["dataset"], zero_shot["images"]) == ("zero-shot", "animals", IMAGES)
    assert (retrieval["task"], retrieval["dataset"], retrieval["samples"]) == ("retrieval", "itself", IMAGES)
    for result in (zero_shot, retrieval):
        assert result["skipped"] == BROKEN
        assert result["skipped_names"] == [f"broken{number:02}" for number in range(20)]


def test_every_form_of_a_models_name_gives_the_same_metrics(experiment_with: Experiments, tmp_path: Path) -> None:
    export = tmp_path / "out" / "train" / "export"
    memory = fsspec.filesystem("memory")
    memory.put(f"{export}/", "/evaluation/export", recursive=True)
    open_clip.add_model_config(tmp_path / "vit-of-a-test.json")
    torch.save(open_clip.create_model(f"local-dir:{export}").state_dict(), tmp_path / "weights.pt")
    expected = run_evaluation(experiment_with())["results"]
    try:
        for checkpoint in (str(export), f"local-dir:{export}", f"file://{export}", "memory://evaluation/export"):
            results = run_evaluation(experiment_with(checkpoint=checkpoint))
            assert results == {"checkpoint": checkpoint, "results": expected}
    finally:
        memory.rm("/evaluation", recursive=True)
    named = run_evaluation(experiment_with(checkpoint="vit-of-a-test", pretrained=str(tmp_path / "weights.pt")))
    assert named == {"checkpoint": f"vit-of-a-test with {tmp_path / 'weights.pt'}", "results": expected}


def test_the_command_line_takes_a_relative_directory_with_open_clips_prefix(
    experiment_with: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(experiment_with().model_dump(mode="json")))
    monkeypatch.chdir(tmp_path / "out" / "train")
    main(["evaluate", str(tmp_path / "config.yaml"), "evaluate.checkpoint=local-dir:export"])
    results = json.loads((tmp_path / "out" / "evaluate" / "results.json").read_text())
    assert results["checkpoint"] == f"local-dir:{tmp_path / 'out' / 'train' / 'export'}"


@pytest.mark.parametrize("missing", [CONFIG_FILE, MODEL_FILE, "export"])
def test_a_missing_export_is_refused_with_the_advice_to_train(
    missing: str, experiment_with: Experiments, tmp_path: Path
) -> None:
    export = tmp_path / "out" / "train" / "export"
    if missing == "export":
        shutil.rmtree(export)
    else:
        (export / missing).unlink()
    with pytest.raises(UserError, match=r"^evaluate\.checkpoint: .*/train/export has no .*run `laclip train` first"):
        run_evaluation(experiment_with())
    assert not (tmp_path / "out" / "evaluate").exists()


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"checkpoint": "/no/such"}, r"^evaluate\.checkpoint: .*no open_clip_config\.json.*`laclip train`"),
        ({"checkpoint": "ViT-B-32"}, r"^evaluate\.pretrained: ViT-B-32 has no weights without it"),
        ({"checkpoint": "/no/such", "pretrained": "openai"}, r"^evaluate\.pretrained: .*bring their weights"),
        ({"pretrained": "openai"}, r"^evaluate\.pretrained: .*bring their weights"),
        ({"zero_shot": [], "retrieval": []}, r"^evaluate: nothing to do"),
    ],
)
def test_a_model_or_set_that_does_not_exist_is_refused(
    evaluate: dict[str, Any], message: str, experiment_with: Experiments, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run_evaluation(experiment_with(**evaluate))
    assert not (tmp_path / "out" / "evaluate").exists()
