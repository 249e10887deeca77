"""The result files of a sweep are computed from its stored stages."""

import csv
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, load_experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.results import Sweep, objective_metric, pairing, sweep_sections, write_sweep
from laclip_ray.tuning.space import Point
from laclip_ray.tuning.stages import Stage, read_stages

TOP1 = "zero-shot/world/top1"


def experiment(output: Path, **tune: Any) -> Experiment:
    return parse_experiment(
        {
            "name": "sweep",
            "output": str(output),
            "data": {"path": "data"},
            "train": {"epochs": 4},
            "evaluate": {"labelled": [{"name": "world", "path": "world"}, {"name": "cars", "path": "cars"}]},
            "tune": {"p": [0, 0.4, 0.8], "seeds": [0, 1, 2], **tune},
        }
    )


def write_stage(config: Experiment, values: dict[str, Any], seed: int, epoch: int, top1: float) -> None:
    point = Point(values).name
    stage = Stage(point, values, seed, epoch, {TOP1: top1}, 0.5, 100 * epoch, 0.1 * epoch, None)
    storage.write_json(SweepPaths(config.tune_output).stage(point, seed, epoch), vars(stage))


def read_sweep(config: Experiment) -> Sweep:
    return Sweep(config, tuple(read_stages(SweepPaths(config.tune_output))), rewrites=4)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    config = experiment(tmp_path)
    for seed, luck in enumerate((0.05, -0.04, 0.01)):
        for p, gain in ((0.0, 0.0), (0.4, 0.021), (0.8, 0.05)):
            for epoch in (2, 4):
                noise = 0.002 * ((seed + int(10 * p)) % 3)
                write_stage(config, {"text.p": p}, seed, epoch, 0.05 * epoch + gain + luck + noise)
    return read_sweep(config)


def test_the_table_has_a_row_a_run_and_stage(sweep: Sweep) -> None:
    write_sweep(sweep)
    rows = list(csv.DictReader(Path(sweep.experiment.tune_output, "sweep.csv").read_text().splitlines()))
    assert len(rows) == 3 * 3 * 2
    first = rows[0]
    assert (first["point"], first["seed"], first["epoch"], first["text.p"]) == ("p0", "0", "2", "0.0")
    assert float(first[TOP1]) == pytest.approx(0.15)
    assert float(first["gpu_hours"]) == pytest.approx(0.2)


def test_the_best_configuration_is_whole_and_can_be_run(sweep: Sweep) -> None:
    write_sweep(sweep)
    best = load_experiment(str(Path(sweep.experiment.tune_output, "best.yaml")))
    assert best.text.p == 0.8
    assert best.train == sweep.experiment.train


def test_clip_and_the_paper_s_choice_are_the_baselines(sweep: Sweep) -> None:
    assert sweep.baselines == ["p0", "p0.8"]
    against_clip, against_paper = sweep.verdicts()
    assert "p0.8 is best" in against_clip
    assert "no point is better than p0.8" in against_paper


def test_only_several_measured_epochs_are_ranked(sweep: Sweep) -> None:
    assert any(table.caption.startswith("How well") for table in sweep_sections(sweep)[0].tables)
    last = Sweep(sweep.experiment, tuple(sweep.finished), rewrites=4)
    assert not any(table.caption.startswith("How well") for table in sweep_sections(last)[0].tables)


def test_pairs_have_less_variance_if_seeds_differ_more_than_points(sweep: Sweep) -> None:
    variances = pairing(sweep, "p0", TOP1)
    assert variances is not None
    assert variances.paired_variance < 0.05 * variances.unpaired_variance


def test_a_point_without_all_its_seeds_is_in_the_table_and_in_no_mean(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    for seed in (0, 1, 2):
        write_stage(config, {"text.p": 0.0}, seed, 4, 0.2)
    write_stage(config, {"text.p": 0.8}, 0, 4, 0.9)
    write_stage(config, {"text.p": 0.4}, 0, 2, 0.9)
    partial = read_sweep(config)
    assert list(partial.values(TOP1)) == ["p0"]
    write_sweep(partial)
    assert len(Path(config.tune_output, "sweep.csv").read_text().splitlines()) == 1 + 5
    assert load_experiment(str(Path(config.tune_output, "best.yaml"))).text.p == 0.0


def test_the_baseline_has_the_best_point_s_other_values_and_p_of_0(tmp_path: Path) -> None:
    config = experiment(tmp_path, p=[0.0, 0.5], space={"train.learning_rate": {"grid": [1e-3, 2e-3]}})
    for seed in (0, 1, 2):
        for p, rate, top1 in ((0.0, 1e-3, 0.1), (0.5, 1e-3, 0.2), (0.0, 2e-3, 0.3), (0.5, 2e-3, 0.4)):
            write_stage(config, {"text.p": p, "train.learning_rate": rate}, seed, 4, top1 + 0.001 * seed * (1 + p))
    sweep = read_sweep(config)
    assert sweep.baselines == ["p0-learning_rate0.002"]
    (sentence,) = sweep.verdicts()
    assert "p0.5-learning_rate0.002 is best" in sentence
    assert "corrected for 3 comparisons" in sentence


def test_points_that_ended_early_count_as_compared(sweep: Sweep) -> None:
    config = sweep.experiment
    for number in range(1, 6):
        write_stage(config, {"text.p": number / 100}, 0, 2, 0.1)
    assert "corrected for 2 comparisons" in sweep.verdicts()[0]
    assert "corrected for 7 comparisons" in read_sweep(config).verdicts()[0]


def test_the_objective_is_the_first_metric_or_a_named_one(tmp_path: Path) -> None:
    def objective(**tune: Any) -> str:
        config = experiment(tmp_path, **tune)
        return objective_metric(config.tune, config.evaluate)

    assert objective() == TOP1
    named = "zero-shot/cars/mean_per_class"
    assert objective(metric=named) == named
    with pytest.raises(UserError, match=r"tune\.metric: there is no top1; there are zero-shot/world/top1, "):
        objective(metric="top1")


def test_stale_results_of_an_earlier_start_are_removed(sweep: Sweep) -> None:
    write_sweep(sweep)
    more = experiment(Path(sweep.experiment.output), seeds=[0, 1, 2, 3])
    write_sweep(Sweep(more, sweep.stages, rewrites=4))
    names = {path.name for path in Path(more.tune_output).iterdir()}
    assert names == {"sweep.csv", "sweep.html", "trials"}


def test_a_sweep_without_stages_writes_no_file(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    write_sweep(Sweep(config, (), rewrites=0))
    assert not Path(config.tune_output).exists()
    assert Sweep(config, (), rewrites=0).verdicts() == ["No point is complete yet."]
