"""A run whose worker and driver are killed trains on each sample once an epoch; exact order gives the same weights."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from laclip_ray.config import Experiment, with_overrides
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run import run_training
from tests.integration.conftest import good_samples, write_shard
from tests.integration.training_chaos import run_chaos, trained_samples

pytestmark = [pytest.mark.ray, pytest.mark.long]

SHARDS, SAMPLES, EPOCHS = 4, 40, 2


@pytest.fixture
def experiment(tmp_path: Path, make_experiment: Callable[..., Experiment]) -> Experiment:
    for number in range(SHARDS):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * SAMPLES, SAMPLES))
    return make_experiment(
        text={"p": 0.0},
        stream={"order": "exact", "rows_per_block": 16},
        train={"epochs": EPOCHS, "max_failures": 10, "checkpoint": {"every_steps": 3}},
    )


@pytest.mark.usefixtures("local_ray")
def test_a_killed_run_trains_on_each_sample_once_an_epoch_and_ends_with_the_same_weights(
    tmp_path: Path, experiment: Experiment
) -> None:
    result = run_chaos(experiment, ["worker", "driver"], [2], 1.0, 1, tmp_path)
    assert (result.exit_code, result.kills.total()) == (0, 2), result.output[-3000:]
    everything = Counter(f"s{number:05d}" for number in range(SHARDS * SAMPLES))
    assert trained_samples(experiment.output) == [everything] * EPOCHS
    undisturbed = with_overrides(experiment, {"output": str(tmp_path / "undisturbed")})
    run_training(undisturbed)
    weights, expected = (
        load_file(f"{RunPaths(each.train_output).export}/open_clip_model.safetensors")
        for each in (experiment, undisturbed)
    )
    assert max(float((weights[name] - expected[name]).abs().max()) for name in expected) <= 1e-5
