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
from laclip_ray.data.held_out import is_held_out
from laclip_ray.data.image_formats import IMAGE_UNREADABLE
from laclip_ray.data.records import CAPTION_EMPTY, CAPTION_MISSING, Sample
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.results import IncompleteEvaluationError
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.models.building import create_model
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, save_model
from laclip_ray.models.specs import load_model_spec
from tests.cases import case
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

    def experiment(data_held_out: float = 0.0, **evaluate: Any) -> Experiment:
        sets = {
            "labelled": [{"name": "animals", "path": str(tmp_path / "set")}],
            "retrieval": [{"name": "itself", "data": {"path": str(tmp_path / "set" / "test")}}],
        }
        return parse_experiment(
            {
                "name": "test",
                "output": str(tmp_path / "out"),
                "data": {"path": str(tmp_path / "set" / "test"), "held_out": data_held_out},
                "evaluate": {**sets, "max_skipped": 1.0, **evaluate},
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
        assert result["skipped_reasons"] == {IMAGE_UNREADABLE: BROKEN}
        assert result["skipped_names"] == [f"broken{number:02}" for number in range(20)]


def test_held_out_samples_of_the_training_data_are_a_set(experiment_with: Experiments) -> None:
    experiment = experiment_with(labelled=[], retrieval=[{"name": "held-out", "held_out": True}], data_held_out=0.5)
    (result,) = run_evaluation(experiment)["results"]
    names = {f"k{number}" for number in range(IMAGES)} | {f"broken{number:02}" for number in range(BROKEN)}
    held_out = {name for name in names if is_held_out(Sample(0, name, "", None), experiment.data)}
    assert result["dataset"] == "held-out"
    assert result["images"] == sum(name.startswith("k") for name in held_out)
    assert result["skipped"] == sum(name.startswith("broken") for name in held_out)


def test_a_share_that_holds_no_sample_is_told(experiment_with: Experiments) -> None:
    sets = [{"name": "held-out", "held_out": True}]
    experiment = experiment_with(labelled=[], retrieval=sets, data_held_out=1e-9)
    message = (
        r"retrieval, held-out: no sample could be used; data\.held_out: 1e-09 of so few samples holds none; raise it"
    )
    with pytest.raises(IncompleteEvaluationError, match=message):
        run_evaluation(experiment)


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
            assert (results["checkpoint"], results["results"]) == (checkpoint, expected)
    finally:
        memory.rm("/evaluation", recursive=True)
    named = run_evaluation(experiment_with(checkpoint="vit-of-a-test", pretrained=str(tmp_path / "weights.pt")))
    assert named["checkpoint"] == f"vit-of-a-test with {tmp_path / 'weights.pt'}"
    assert named["results"] == expected


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
        ({"labelled": [], "retrieval": []}, r"^evaluate: nothing to do"),
    ],
)
def test_a_model_or_set_that_does_not_exist_is_refused(
    evaluate: dict[str, Any], message: str, experiment_with: Experiments, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run_evaluation(experiment_with(**evaluate))
    assert not (tmp_path / "out" / "evaluate").exists()


def results_of(experiment: Experiment, message: str) -> list[dict[str, Any]]:
    """Run an evaluation that is incomplete; the written results."""
    with pytest.raises(IncompleteError, match=message):
        run_evaluation(experiment)
    results: list[dict[str, Any]] = json.loads(Path(experiment.evaluate_output, "results.json").read_text())["results"]
    return results


def numbers(result: dict[str, Any]) -> list[float]:
    return [value for value in result.values() if isinstance(value, float)]


def write_captioned(root: Path, name: str, *captions: bytes | None) -> dict[str, Any]:
    """A retrieval set with these captions."""
    members = []
    for number, caption in enumerate(captions):
        members.append((f"k{number}.png", picture(width=20 + 4 * number)))
        if caption is not None:
            members.append((f"k{number}.txt", caption))
    write_tar(root / name / "0.tar", members)
    return {"name": name, "data": {"path": str(root / name)}}


def test_a_set_with_too_many_skipped_samples_has_no_result_and_the_others_have(
    experiment_with: Experiments, tmp_path: Path
) -> None:
    good = write_captioned(tmp_path, "good", b"a fox", b"an owl")
    itself = {"name": "itself", "data": {"path": str(tmp_path / "set" / "test")}}
    experiment = experiment_with(max_skipped=0.01, retrieval=[itself, good])
    animals, itself, good = results_of(
        experiment, r"^no result for 2 of 3 datasets; .*results\.json has the others\n  zero-shot, animals: 80\.6%"
    )
    assert (numbers(animals), numbers(itself), animals["skipped"]) == ([], [], BROKEN)
    assert "80.6% of the samples cannot be used" in itself["no_result"]
    assert len(numbers(good)) == 6


@pytest.mark.parametrize(
    ("name", "captions", "reason", "message"),
    [
        pytest.param(
            *("empty", [b" ", b"\n"], CAPTION_EMPTY, "caption_empty 2: k0, k1.*caption_column"),
            marks=case("Evaluation", "all captions empty", "no result and no number", 3, CAPTION_EMPTY),
        ),
        pytest.param(
            *("without", [None, None], CAPTION_MISSING, r"check evaluate\.retrieval\[0\]\.data\.caption_column"),
            marks=case("Evaluation", "no sample has a caption", "no result and no number", 3, CAPTION_MISSING),
        ),
    ],
)
def test_nothing_measured_is_no_number(
    name: str,
    captions: list[bytes | None],
    reason: str,
    message: str,
    experiment_with: Experiments,
    tmp_path: Path,
) -> None:
    retrieval = write_captioned(tmp_path, name, *captions)
    (result,) = results_of(experiment_with(labelled=[], retrieval=[retrieval]), message)
    assert (result["skipped_reasons"], numbers(result)) == ({reason: len(captions)}, [])


@case("Evaluation", "`image_column` forgotten for a table", "no result; the message names the key", exit_code=3)
def test_a_forgotten_image_column_is_named(experiment_with: Experiments, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,caption\na.png,a fox\n")
    retrieval = {"name": "table", "data": {"path": str(tmp_path / "t.csv")}}
    results_of(
        experiment_with(labelled=[], retrieval=[retrieval]), r"tables need evaluate\.retrieval\[0\]\.data\.image_c"
    )


@case(
    "Evaluation", "the exit code of an evaluation with a set that has no result", "results of the others are printed", 3
)
def test_the_verb_prints_the_results_that_exist_and_exits_with_3(
    experiment_with: Experiments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = experiment_with(retrieval=[write_captioned(tmp_path, "empty", b"", b"")])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(tmp_path / "config.yaml")])
    assert stopped.value.code == 3
    printed = capsys.readouterr()
    assert "top1" in printed.out
    assert "no result" in printed.out
    assert "no result for 1 of 2 datasets" in printed.err
    assert "_r1" not in printed.out


@case("Evaluation", "two evaluation sets of one name", "refused before anything is read", exit_code=2)
@pytest.mark.parametrize("task", ["labelled", "retrieval"])
def test_two_sets_of_one_name_are_refused(task: str, experiment_with: Experiments) -> None:
    sets: dict[str, Any] = {
        "labelled": [{"name": "one", "path": "a"}, {"name": "one", "path": "b"}],
        "retrieval": [{"name": "one", "data": {"path": "a"}}, {"name": "one", "data": {"path": "b"}}],
    }
    with pytest.raises(UserError, match=rf"evaluate: .*{task}: 2 datasets have the name 'one'"):
        experiment_with(**{task: sets[task]})
    with pytest.raises(UserError, match=r"evaluate\.retrieval\[0\]\.name"):
        experiment_with(retrieval=[{"name": "", "data": {"path": "a"}}])


def test_a_labelled_set_and_a_captioned_one_may_share_a_name(experiment_with: Experiments, tmp_path: Path) -> None:
    retrieval = write_captioned(tmp_path, "animals", b"a fox", b"an owl")
    results = run_evaluation(experiment_with(retrieval=[retrieval]))["results"]
    assert [(result["task"], result["dataset"]) for result in results] == [
        ("zero-shot", "animals"),
        ("retrieval", "animals"),
    ]


@case("Evaluation", "an evaluation set within the training data", "a warning names the files")
def test_a_set_within_the_training_data_is_named(
    experiment_with: Experiments, caplog: pytest.LogCaptureFixture
) -> None:
    run_evaluation(experiment_with())
    for setting in ("evaluate.labelled: animals", "evaluate.retrieval[0].data"):
        assert f"{setting}: 1 of its 1 files are also in data.path (0.tar)" in caplog.text


def test_a_set_in_clip_benchmarks_layout_is_measured_by_its_rule(experiment_with: Experiments, tmp_path: Path) -> None:
    retrieval = write_captioned(tmp_path, "captioned", b"a fox", b"a fox", b"an owl")
    (by_text,) = run_evaluation(experiment_with(labelled=[], retrieval=[retrieval]))["results"]
    (tmp_path / "captioned" / "dataset_type.txt").write_text("retrieval\n")
    (as_benchmark,) = run_evaluation(experiment_with(labelled=[], retrieval=[retrieval]))["results"]
    assert (by_text["equal_captions"], as_benchmark["equal_captions"]) == ("match", "differ")
    assert by_text["repeated_captions"] == as_benchmark["repeated_captions"] == 2


@case("Evaluation", "the storage refuses a shard with a signed URL", "the message has no secret", exit_code=3)
def test_a_reason_repeats_no_secret(
    experiment_with: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("https://host/0.tar?X-Amz-Signature=5e1f0000a7: denied")

    retrieval = write_captioned(tmp_path, "set2", b"a fox", b"an owl")
    monkeypatch.setattr("laclip_ray.evaluation.captioned.read_or_report", refuse)
    (result,) = results_of(experiment_with(labelled=[], retrieval=[retrieval]), "the storage refuses 0.tar")
    assert "denied" in result["no_result"]
    assert "5e1f0000a7" not in json.dumps(result)


def test_two_outputs_are_compared_by_their_images(
    experiment_with: Experiments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_evaluation(experiment_with())
    output = str(tmp_path / "out" / "evaluate")
    main(["evaluate", "--compare", output, output])
    printed = capsys.readouterr().out
    assert "animals" in printed
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--compare", output, str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {tmp_path}/out/results.json does not exist; give the output of a `laclip evaluate`, such as "
        "RUN/evaluate"
    )
