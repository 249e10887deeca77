"""A sweep on a real Ray."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.rewriting.pipeline import run_rewriting
from laclip_ray.tuning import run_sweep
from tests.integration.conftest import good_samples, write_shard
from tests.integration.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_a_sweep_trains_each_p_on_the_same_rewrites_and_a_rerun_trains_none(
    tmp_path: Path, make_experiment: Callable[..., Experiment]
) -> None:
    for number in range(2):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * 16, 16))
    experiment = make_experiment(
        train={"workers": 1, "epochs": 1},
        tune={"p": [0.0, 1.0]},
        evaluate={"retrieval": [{"name": "itself", "data": {"path": str(tmp_path / "data")}}]},
    )
    run_rewriting(experiment, ScriptedEngine)
    sweep = run_sweep(experiment)
    assert [(result.trial.p, result.p_effective, result.error) for result in sweep.results] == [
        (0.0, 0.0, None),
        (1.0, 1.0, None),
    ]
    assert "retrieval/itself/image_to_text_r10" in sweep.metrics
    output = experiment.tune_output
    rows = list(csv.DictReader(io.StringIO(storage.read_bytes(storage.join(output, "sweep.csv")).decode())))
    assert [row["p"] for row in rows] == ["0.0", "1.0"]
    plot = storage.read_bytes(storage.join(output, "sweep-retrieval-itself-image_to_text_r10.svg"))
    assert b"<svg" in plot
    summaries = {path: path.stat().st_mtime_ns for path in Path(output).glob("trials/*/train/summary.json")}
    assert len(summaries) == 2
    again = run_sweep(experiment)
    assert again.results == sweep.results
    assert {path: path.stat().st_mtime_ns for path in summaries} == summaries
