"""Every kind of bad input: a clear message, exit code 2, nothing started and nothing written.

These run the real command line in this process. That no Ray was started is checked by refusing to start one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from laclip_ray.cli import main
from tests.integration.conftest import MODEL, good_samples, write_shard

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a verb that must be refused, and return its message."""
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 4))
    (tmp_path / "model.json").write_text(json.dumps(MODEL))

    def no_ray(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started before the input was checked")

    def run(verb: str, *overrides: str, **changes: Any) -> str:
        content = {
            "name": "test",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "model": {"name": str(tmp_path / "model.json")},
            "text": {"p": 0.0},
            "train": {"batch_size": 2},
            **changes,
            "rewrite": {"model": "demo-rewriter", **changes.get("rewrite", {})},
        }
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(content))
        import ray

        monkeypatch.setattr(ray, "init", no_ray)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stopped:
            main([verb, str(config), *overrides])
        assert stopped.value.code == 2
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("verb", ["rewrite", "train", "evaluate", "tune"])
def test_unknown_key(refused: Refused, verb: str) -> None:
    assert "rewrite.engine.actor: unknown key" in refused(verb, rewrite={"engine": {"actor": 2}})


def test_wrong_type(refused: Refused) -> None:
    assert "train.epochs: input should be a valid integer, got 'three'" in refused("train", "train.epochs=three")


def test_config_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["rewrite", "no/such/config.yaml"])
    assert stopped.value.code == 2
    assert "there is no such config file" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["rewrite", "train"])
def test_path_that_does_not_exist(refused: Refused, verb: str) -> None:
    assert "data.path: '/no/such/place' does not exist" in refused(verb, "data.path=/no/such/place")


@pytest.mark.parametrize("verb", ["rewrite", "train"])
def test_no_shards(refused: Refused, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no shards here")
    assert "holds no shards" in refused(verb, f"data.path={tmp_path / 'empty'}")


@pytest.mark.parametrize("verb", ["rewrite", "train"])
def test_caption_column_that_is_not_there(refused: Refused, tmp_path: Path, verb: str) -> None:
    pq.write_table(pa.table({"text": ["a"], "image": [b"b"]}), tmp_path / "table.parquet")
    message = refused(verb, f"data.path={tmp_path / 'table.parquet'}")
    assert "data.caption_column" in message
    assert "has no column 'caption'; it has text, image" in message


def test_model_that_open_clip_does_not_know(refused: Refused) -> None:
    message = refused("train", "model.name=ViT-B-33")
    assert "open_clip knows no model 'ViT-B-33'" in message
    assert "ViT-B-32" in message


def test_captions_without_images(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("caption\nonly words\n")
    assert "captions without images" in refused("train", f"data.path={tmp_path / 'table.csv'}")


def test_rewriter_that_is_not_there(refused: Refused) -> None:
    assert "rewrite.model: '/no/model' is not a directory with a model" in refused("rewrite", "rewrite.model=/no/model")


def test_prompt_set_that_is_not_there(refused: Refused) -> None:
    message = refused("rewrite", "rewrite.prompt_sets=[crowd, poetry]")
    assert "'poetry' is neither a built-in prompt set (assistant_concise, " in message


def test_engine_argument_that_vllm_does_not_know(refused: Refused) -> None:
    message = refused("rewrite", rewrite={"engine": {"args": {"max_model_length": 512}}})
    assert (
        "rewrite.engine.args.max_model_length: vLLM has no such engine argument; did you mean max_model_len?" in message
    )


def test_rewrites_that_do_not_exist(refused: Refused) -> None:
    assert "there is no rewrite set at" in refused("train", "text.p=0.5")


@pytest.mark.parametrize(("verb", "place"), [("rewrite", "out/rewrites/crowd"), ("train", "out/train")])
def test_a_place_that_holds_something_else(refused: Refused, tmp_path: Path, verb: str, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "thesis.tex").write_text("precious")
    assert "choose another directory" in refused(verb)
    assert (tmp_path / place / "thesis.tex").read_text() == "precious"


def test_a_place_that_holds_another_recipe(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "out/rewrites/crowd").mkdir(parents=True)
    recipe = {"fingerprint": "0" * 16, "recipe": {"model": "another"}}
    (tmp_path / "out/rewrites/crowd/recipe.json").write_text(json.dumps(recipe))
    message = refused("rewrite")
    assert "holds another rewrite set" in message
    assert "model" in message


@pytest.mark.parametrize(
    ("verb", "changes", "needs"),
    [
        ("rewrite", ["rewrite.engine.actors={min: 2, max: 2}"], "3 CPUs: 2 engines x 1 reserved, and 1"),
        ("train", ["train.workers=2"], "3 CPUs: 2 workers x 1 reserved, and 1"),
        ("run", ["rewrite.delivery=inline", "text.p=0.5"], "6 CPUs: 1 engines x 1 + 1 workers x 1 reserved, and 4"),
    ],
)
def test_a_plan_that_leaves_ray_data_no_cpu(refused: Refused, verb: str, changes: list[str], needs: str) -> None:
    message = refused(verb, *changes, "ray.local_cpus=2")
    assert f"needs {needs} for Ray Data's tasks" in message
    assert "ray.local_cpus has 2" in message


@pytest.mark.parametrize("verb", ["rewrite", "train"])
def test_a_relative_output_in_a_ray_job(refused: Refused, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "in a Ray job it would be lost with the job's package directory" in refused(verb, "output=relative/out")


def test_evaluation_of_nothing(refused: Refused) -> None:
    assert "evaluate: nothing to do" in refused("evaluate")


def test_evaluation_set_that_is_not_there(refused: Refused) -> None:
    message = refused("evaluate", evaluate={"labelled": [{"name": "x", "path": "/no/such/set"}]})
    assert "evaluate.labelled[x].path: '/no/such/set' does not exist" in message


def test_checkpoint_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    sets = [{"name": "x", "data": {"path": str(tmp_path / "data")}}]
    assert "run `laclip train` first" in refused("evaluate", evaluate={"retrieval": sets})


def test_an_override_that_is_none(refused: Refused) -> None:
    assert "expected key=value" in refused("train", "train.epochs")


def test_an_option_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--epochs", "3", "config.yaml"])
    assert stopped.value.code == 2
