"""Sweeps on a real Ray."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import Experiment, load_experiment, with_overrides
from laclip_ray.errors import IncompleteError
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.stages import read_stages
from laclip_ray.tuning.sweep import run_sweep
from tests.integration.conftest import good_samples, write_shard
from tests.integration.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


@pytest.fixture
def swept(tmp_path: Path, make_experiment: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """Makes a small experiment with a sweep."""
    for number in range(2):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * 16, 16))

    def make(**tune: Any) -> Experiment:
        return make_experiment(
            train={"workers": 1, "epochs": 2, "batch_size": 8},
            tune=tune,
            evaluate={"retrieval": [{"name": "itself", "data": {"path": str(tmp_path / "data")}}]},
        )

    return make


def test_a_sweep_trains_each_p_on_the_same_rewrites_a_rerun_trains_none_and_a_failing_point_is_named(
    swept: Callable[..., Experiment],
) -> None:
    experiment = swept(p=[0.0, 1.0], evaluate_every_epochs=1, max_failures=0)
    run_rewriting(experiment, ScriptedEngine)
    sweep = run_sweep(experiment)
    assert [(stage.point, stage.epoch, stage.p_effective, stage.images) for stage in sweep.stages] == [
        *(("p0", 1, 0.0, 32), ("p0", 2, 0.0, 64)),
        *(("p1", 1, 1.0, 32), ("p1", 2, 1.0, 64)),
    ]
    assert sweep.metric == "retrieval/itself/image_to_text_r1"
    output = Path(experiment.tune_output)
    rows = list(csv.DictReader((output / "sweep.csv").read_text().splitlines()))
    assert [(row["point"], row["epoch"]) for row in rows] == [(name, epoch) for name in ("p0", "p1") for epoch in "12"]
    assert b"<svg" in (output / "sweep.svg").read_bytes()
    assert sweep.verdicts()[0] in (output / "sweep.html").read_text()
    assert load_experiment(str(output / "best.yaml")).text.p in (0.0, 1.0)
    written = {path: path.stat().st_mtime_ns for path in output.glob("trials/*/*/*/*") if path.is_file()}
    assert run_sweep(experiment).stages == sweep.stages
    assert {path: path.stat().st_mtime_ns for path in written} == written

    # A point whose loss is not finite, added later, is named with the samples of its batch, and the others stand.
    rates = {"train.learning_rate": {"grid": [1e30]}}
    larger = with_overrides(experiment, {"tune.p": [0.0], "tune.space": rates})
    ids = r"s000\d\d(, s000\d\d){7}"
    reason = rf"p0-learning_rate1e\+30: .*the loss of step \d is not finite; its batch is {ids}"
    with pytest.raises(IncompleteError, match=rf"not complete: 1; .*\n.*{reason}"):
        run_sweep(larger)
    assert read_stages(SweepPaths(experiment.tune_output)) == list(sweep.stages)
    assert not list(output.glob("trials/p0-learning_rate1e*/seed0/train/ray/checkpoint-*"))
    assert load_experiment(str(output / "best.yaml")).train.learning_rate == 1e-3
