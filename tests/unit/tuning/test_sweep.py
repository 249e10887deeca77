"""What a sweep checks before its first run, and when it has nothing to do."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.rewriting.transfer.import_texts import import_rewrites
from laclip_ray.tuning.comparison import best_point
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import Point, listed_points
from laclip_ray.tuning.stages import Stage
from laclip_ray.tuning.sweep import _finished_sweep, _make_rewrites, _readers, run_sweep
from laclip_ray.tuning.trial import run_experiment
from tests.unit.conftest import picture, write_tar


def test_a_point_by_a_score_that_no_rewrite_has_is_refused(tmp_path: Path) -> None:
    captions, texts = tmp_path / "captions.csv", tmp_path / "texts.txt"
    captions.write_text("".join(f"{row}.jpg,a dog number {row}\n" for row in range(4)))
    texts.write_text("".join(f"dog number {row} on the grass\n" for row in range(4)))
    by_score = {"by": "log_probability", "low": -2, "high": -1, "p_low": 0.2, "p_high": 0.8, "unscored": 0.5}
    content = {
        "name": "sweep",
        "output": str(tmp_path / "out"),
        "data": {"path": str(captions), "columns": ["path", "caption"], "image_column": "path"},
        "rewrite": {"gate": {"meaning": None}},
        "text": {"rewrites": [str(tmp_path / "out" / "rewrites" / "texts")]},
    }
    import_rewrites(parse_experiment(content), str(captions), [str(texts)])
    for ps, is_refused in (([0.5, 0.8], False), ([0.5, by_score], True)):
        swept = parse_experiment({**content, "tune": {"p": ps}})
        runs = [run_experiment(swept, point, 0) for point in listed_points(swept.tune, swept.seed)]
        if is_refused:
            with pytest.raises(
                UserError, match=r"text\.p\.by: no accepted rewrite in .* has the score log_probability"
            ):
                _make_rewrites(swept, _readers(swept.tune, runs))
        else:
            assert len(_make_rewrites(swept, _readers(swept.tune, runs))) == 2


def swept(tmp_path: Path, *ps: float) -> Experiment:
    """A sweep over p on imported rewrites of four captions."""
    captions, texts = tmp_path / "captions.csv", tmp_path / "texts.txt"
    captions.write_text("".join(f"{row}.jpg,a dog number {row}\n" for row in range(4)))
    texts.write_text("".join(f"dog number {row} on the grass\n" for row in range(4)))
    experiment = parse_experiment(
        {
            "name": "sweep",
            "output": str(tmp_path / "out"),
            "data": {"path": str(captions), "columns": ["path", "caption"], "image_column": "path"},
            "rewrite": {"gate": {"meaning": None}},
            "text": {"rewrites": [str(tmp_path / "out" / "rewrites" / "texts")]},
            "train": {"epochs": 2},
            "evaluate": {"labelled": [{"name": "dogs", "path": "dogs"}]},
            "tune": {"p": list(ps), "seeds": [0]},
        }
    )
    import_rewrites(experiment, str(captions), [str(texts)])
    return experiment


def store_stage(experiment: Experiment, p: float, epoch: int) -> None:
    values = {"text.p": p}
    stage = Stage(Point(values).name, values, 0, epoch, {"zero-shot/dogs/top1": p}, p, 4, 0.1, None)
    storage.write_json(SweepPaths(experiment.tune_output).stage(stage.point, 0, epoch), vars(stage))


def test_a_sweep_is_finished_once_every_point_is_trained_to_its_end(tmp_path: Path) -> None:
    experiment = swept(tmp_path, 0.0, 0.5)
    points = listed_points(experiment.tune, experiment.seed)
    readers = _readers(experiment.tune, [run_experiment(experiment, point, 0) for point in points])
    store_stage(experiment, 0.0, 2)
    store_stage(experiment, 0.5, 1)
    assert _finished_sweep(experiment, points, readers) is None
    store_stage(experiment, 0.5, 2)
    sweep = _finished_sweep(experiment, points, readers)
    assert sweep is not None
    assert (sweep.was_finished, sweep.rewrites, best_point(sweep.values(sweep.metric))) == (True, 1, "p0.5")
    # A search is asked for points, and then it is finished or not.
    assert _finished_sweep(experiment, (), readers) is None


def test_a_sweep_without_all_its_rewrites_is_not_finished(tmp_path: Path) -> None:
    experiment = with_overrides(
        swept(tmp_path, 0.5),
        {"text.rewrites": None, "rewrite.model": "demo-rewriter", "rewrite.prompt_sets": ["crowd"]},
    )
    points = listed_points(experiment.tune, experiment.seed)
    store_stage(experiment, 0.5, 2)
    assert _finished_sweep(experiment, points, [run_experiment(experiment, points[0], 0)]) is None


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"seeds": [0, 1, 0]}, r"^tune\.seeds: the same seed is given twice, in \[0, 1, 0\]; remove one$"),
        ({"budget": {"money": 5.0}}, r"^tune\.budget\.money needs train\.price, a name of the price list \(\w.*\)$"),
    ],
)
def test_seeds_and_a_budget_that_mean_nothing_are_refused(tune: dict[str, Any], message: str, tmp_path: Path) -> None:
    members = [
        (f"{n}.{kind}", content) for n in range(4) for kind, content in (("jpg", picture("JPEG")), ("txt", b"a"))
    ]
    path = str(write_tar(tmp_path / "data" / "0.tar", members))
    content = {
        "name": "sweep",
        "output": str(tmp_path / "out"),
        "data": {"path": path},
        "train": {"batch_size": 2, "workers": 1},
        "evaluate": {"retrieval": [{"name": "itself", "data": {"path": path}}]},
        "tune": {"p": [0.0], **tune},
    }
    with pytest.raises(UserError, match=message):
        run_sweep(parse_experiment(content))
    assert not (tmp_path / "out").exists()
