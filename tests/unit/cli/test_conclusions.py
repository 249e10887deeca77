"""What verbs say at their end: a line with the place, whether there was nothing to do, and valid objects."""

import json
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.cli.conclusions import Conclusions, has_pictures
from laclip_ray.cli.ending import Ending
from laclip_ray.cli.json_output import to_text
from laclip_ray.config import DataConfig, parse_experiment
from laclip_ray.onejob.run import OneJobResult
from laclip_ray.rewriting.inspection import Inspection, ShownDraw
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.training.summary import TrainingResult
from laclip_ray.tuning.results import Sweep
from laclip_ray.tuning.stages import Stage


def conclusions(tmp_path: Path, *overrides: str, **sections: Any) -> Conclusions:
    content = {"name": "a", "output": str(tmp_path / "out"), "data": {"path": "data"}, **sections}
    return Conclusions.of("my a.yaml", list(overrides), parse_experiment(content))


def rewriting(commits: int) -> RewritingResult:
    return RewritingResult({"crowd": Statistics(10, 8)}, shards=2, shards_done_before=2, commits=commits)


def summary(**more: Any) -> dict[str, Any]:
    return {"steps": 40, "loss": float("nan"), **more}


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (lambda of: of.rewritten(rewriting(2)), "rewrites of 10 captions in OUT/rewrites"),
        (
            lambda of: of.trained(TrainingResult(summary(), "OUT/train/export")),
            "trained 40 steps; model: OUT/train/export",
        ),
        (
            lambda of: of.ran(OneJobResult(rewriting(2), TrainingResult(summary(), "OUT/train/export"), [])),
            "rewrites of 10 captions; model: OUT/train/export",
        ),
        (
            lambda of: of.evaluated({"checkpoint": "m", "results": [{"task": "retrieval", "dataset": "a"}]}),
            "evaluated m on 1 task; results: OUT/evaluate",
        ),
    ],
    ids=["rewrite", "train", "run", "evaluate"],
)
def test_the_last_line_says_what_was_done_and_where(tmp_path: Path, ending: Any, expected: str) -> None:
    ended: Ending = ending(conclusions(tmp_path))
    assert ended.done.replace(str(tmp_path / "out"), "OUT").endswith(expected)
    assert not ended.nothing_to_do
    assert "'my a.yaml'" in " ".join(step.command for step in ended.next)
    assert isinstance(json.loads(to_text(vars(ended))), dict)


def finished_sweep(of: Conclusions, was_finished: bool) -> Sweep:
    stages = tuple(
        Stage(f"p{p:g}", {"text.p": p}, 0, of.experiment.train.epochs, {"zero-shot/a/top1": p}, p, 4, 0.1, None)
        for p in (0.0, 0.5)
    )
    return Sweep(of.experiment, stages, 1, was_finished)


@pytest.mark.parametrize("was_finished", [False, True])
def test_a_finished_run_says_that_there_was_nothing_to_do(tmp_path: Path, was_finished: bool) -> None:
    of = conclusions(tmp_path, evaluate={"labelled": [{"name": "a", "path": "x"}]}, tune={"p": [0, 0.5], "seeds": [0]})
    training = TrainingResult(summary(), "model", was_finished)
    commits = 0 if was_finished else 2
    for ended in (
        of.rewritten(rewriting(commits)),
        of.trained(training),
        of.ran(OneJobResult(rewriting(commits), training, [])),
        of.swept(finished_sweep(of, was_finished)),
    ):
        assert ended.nothing_to_do == was_finished
        assert ended.done.startswith("nothing to do: ") == was_finished
        assert ended.next


def test_a_sweep_proposes_to_train_its_best_point(tmp_path: Path) -> None:
    of = conclusions(tmp_path, evaluate={"labelled": [{"name": "a", "path": "x"}]}, tune={"p": [0, 0.5], "seeds": [0]})
    ended = of.swept(finished_sweep(of, False))
    out = tmp_path / "out"
    assert ended.next[0].command == f"laclip train {out}/tune/best.yaml train.output={out}/best/train"
    assert ended.summary["best"] == "p0.5"
    assert ended.summary["points"]["p0"] == {"values": {"text.p": 0.0}, "by_seed": {0: 0.0}, "mean": 0.0}


def test_an_inspection_tells_its_samples(tmp_path: Path) -> None:
    shown = [ShownDraw("crowd", "accepted", "1", "a dog", "the dog")]
    ended = conclusions(tmp_path).inspected(Inspection({"crowd": Statistics(10, 8)}, {"crowd": 2}, shown, 1), None)
    content = json.loads(to_text(ended.summary))
    assert content["sets"]["crowd"]["shards"] == 2
    assert content["shown"] == [vars(shown[0])]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"path": "a.tar"}, True),
        ({"path": "s3://b/set/{000..100}.tar"}, True),
        ({"path": "directory"}, True),
        ({"path": "a.csv"}, False),
        ({"path": ["a.parquet", "b.parquet"]}, False),
        ({"path": "a.parquet", "image_column": "image"}, True),
        ({"path": "directory", "format": "tsv"}, False),
    ],
    ids=lambda value: str(value),
)
def test_pictures_are_known_by_settings_and_names(data: dict[str, Any], expected: bool) -> None:
    assert has_pictures(DataConfig(**data)) == expected
