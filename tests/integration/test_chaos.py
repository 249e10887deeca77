"""After kills of engines, actors and drivers, the run or its rerun ends with the same set and leaves no process."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laclip_ray import storage
from laclip_ray.cli.interruptions import interruption_message
from laclip_ray.config import Experiment, to_yaml, with_overrides
from laclip_ray.errors import IncompleteError
from laclip_ray.lease import LEASE_FILE
from laclip_ray.rewriting.running.pipeline import run_rewriting
from tests.cases import case
from tests.integration.chaos import contents, run_chaos
from tests.integration.procedures import REPOSITORY, child_environment, engine_owners, engine_processes, wait_for
from tests.integration.scripted_engine import ProcessEngine, SeededEngine

pytestmark = pytest.mark.ray

SHARDS, CAPTIONS = 12, 60


@pytest.fixture
def experiment(tmp_path: Path, make_experiment: Callable[..., Experiment]) -> Experiment:
    (tmp_path / "data").mkdir()
    for shard in range(SHARDS):
        captions = [f"picture {shard} of thing {number}" for number in range(CAPTIONS)]
        pq.write_table(pa.table({"caption": captions}), tmp_path / "data" / f"{shard:02d}.parquet")
    return make_experiment(rewrite={"prompt_sets": ["crowd"], "engine": {"shards_in_flight": 1}})


def test_a_run_with_killed_engine_actor_and_driver_ends_with_the_same_set(
    local_ray: Any, tmp_path: Path, experiment: Experiment
) -> None:
    victims = ["engine", "actor", "driver"]
    chaos = run_chaos(experiment, victims, 1.2, 1, tmp_path, "process:0.015", local_ray.address)
    assert (chaos.exit_code, chaos.processes_left, chaos.kills.total()) == (0, 0, 3), chaos.output[-3000:]
    undisturbed = with_overrides(experiment, {"rewrite.output": str(tmp_path / "undisturbed")})
    run_rewriting(undisturbed, SeededEngine)
    assert contents(experiment) == contents(undisturbed)


@case("How a run ends", "SIGTERM while rewriting", "shards in flight are dropped; one sentence", exit_code=143)
def test_sigterm_drops_the_shards_in_flight_and_the_message_says_what_is_saved(
    local_ray: Any, tmp_path: Path, experiment: Experiment
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(experiment))
    # So slow that the first shard would be committed only after 30 s.
    command = [sys.executable, "-m", "tests.integration.signalled", "0.5", "rewrite", str(config)]
    log = tmp_path / "log"
    with log.open("wb") as file:
        environment = child_environment(local_ray.address)
        run = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=file, stderr=file)
    wait_for(lambda: engine_owners(0.5) or run.poll() is not None, 120, "the engine's start")
    assert run.poll() is None, log.read_text()[-3000:]
    # First a shard is in flight, then the signal comes, then the run stops, then it exits.
    assert list(Path(experiment.rewrite_output).glob("*/attempts/*.json")), "no shard is in flight before the signal"
    assert "stopped by" not in log.read_text()
    run.send_signal(signal.SIGTERM)
    run.wait(timeout=60)
    assert run.returncode == 143, log.read_text()[-3000:]
    assert log.read_text().count(interruption_message(signal.SIGTERM, ["rewrite"])) == 1
    assert contents(experiment) == {"crowd": {}}, "a shard was committed between the signal and the exit"
    wait_for(lambda: not engine_processes(), 10, "the end of the engine's processes")
    assert not Path(experiment.rewrite_output, LEASE_FILE).exists()


@pytest.fixture
def gpu_node(local_ray: Any) -> Iterator[None]:
    """The shared Ray with a node that says it has a GPU, which Ray does not check."""
    node = local_ray.add_node(num_cpus=2, num_gpus=1)
    local_ray.wait_for_nodes()
    yield
    local_ray.remove_node(node)


@pytest.mark.usefixtures("gpu_node")
def test_a_run_that_reaches_its_budget_ends_as_incomplete_and_a_larger_one_continues(
    tmp_path: Path, experiment: Experiment
) -> None:
    on_gpu = {"rewrite.engine.gpus_per_actor": 1.0, "ray.shared_paths": [str(tmp_path)]}
    engine = partial(ProcessEngine, pace_s=0.005)
    with pytest.raises(IncompleteError, match="budget"):
        run_rewriting(with_overrides(experiment, {**on_gpu, "rewrite.budget.gpu_hours": 1 / 3600}), engine)
    small = storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))
    assert small["gpu_hours"] >= 1 / 3600
    assert 0 < small["commits"] < SHARDS
    large = run_rewriting(with_overrides(experiment, {**on_gpu, "rewrite.budget.gpu_hours": 1.0}), engine)
    assert 0 < large.commits < SHARDS
    assert large.commits + large.shards_done_before == SHARDS
    assert large.costs["gpu_hours"] > small["gpu_hours"], "the cost of earlier runs is lost"
