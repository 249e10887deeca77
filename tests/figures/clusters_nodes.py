"""Show 4 of clusters: nodes that come and go, by the autoscaler, at random, and by notice."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray.config import Experiment, load_experiment, parse_experiment, to_yaml, with_overrides
from laclip_ray.onejob.run import run_one_job
from tests.figures.figure import Figure, exit_code
from tests.figures.node_clusters import NodeCounter, SpotCluster, autoscaling_head, set_pace, spot_cluster
from tests.integration.chaos import contents
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, wait_for
from tests.integration.scripted_engine import ProcessEngine
from tests.integration.training_chaos import NOTES, Start, missing_or_repeated, starts_of

ENGINE_NODE = {"num_cpus": 2, "num_gpus": 1}
"""Ray does not check that there is a GPU, and a scripted engine uses none."""
ACCELERATOR = "L4"
WORKER_NODE = {"num_cpus": 2, "resources": {f"accelerator_type:{ACCELERATOR}": 1}}
CAPTIONS, REWRITTEN_SHARDS = 60, 24
SAMPLES, TRAINED_SHARDS = 180, 8
"""All epochs together fill whole batches: 12 samples for up to three workers, 16 for two."""
NOTICE_S = 10
"""Of the drains."""


def nodes(show: int) -> Iterator[Figure]:
    """All figures of show 4."""
    for measure in (autoscaled, rewriting_chaos, training_chaos, drained_worker, drained_engine):
        with tempfile.TemporaryDirectory() as name:
            yield from measure(show, Path(name))


def autoscaled(show: int, directory: Path) -> Iterator[Figure]:
    """`laclip run` on a head without GPUs: the autoscaler adds nodes for engines, and removes them.

    The engines' nodes offer no CPUs: v1 knows no labels, so it would add them for training's reading tasks too. Ray
    places Train's own actors, which reserve nothing, on any node, and such a node stays until training ends.
    """
    for number in range(REWRITTEN_SHARDS):
        write_shard(directory / "data" / f"{number:03d}.tar", good_samples(number * 40, 40))
    changes = {
        "rewrite.engine.actors": {"min": 1, "max": 3},
        "rewrite.engine.cpus_per_actor": 0,
        "rewrite.delivery": "inline",
        "train.epochs": 12,
        "ray.autoscaling": True,
    }
    experiment = with_overrides(_experiment(directory, "autoscaled"), changes)
    config, seen = directory / "autoscaled.yaml", directory / "seen.json"
    config.write_text(to_yaml(experiment))
    with autoscaling_head(directory, 6, {"CPU": 0, "GPU": 1}, 3, idle_s=5.0) as address:
        done = _run(address, "tests.figures.clusters_nodes", str(config), str(seen))
    yield exit_code(show, "exit code of laclip run, autoscaler v1", done)
    told = json.loads(seen.read_text())
    counts = [count for _, count in told["nodes"]]
    began_s = told["nodes"][0][0]
    print("  nodes over time:", ", ".join(f"{time_s - began_s:.0f} s: {count}" for time_s, count in told["nodes"]))
    yield Figure(show, "nodes at the start, autoscaler v1", counts[0], "nodes", at_least=1, at_most=1)
    yield Figure(show, "most nodes, autoscaler v1", max(counts), "nodes", at_least=2)
    at_end = [count for time_s, count in told["nodes"] if time_s <= told["trained_s"]][-1]
    yield Figure(show, "nodes at the end of training, autoscaler v1", at_end, "nodes", at_most=max(counts) - 1)
    yield Figure(show, "nodes after the run, autoscaler v1", counts[-1], "nodes", at_least=1, at_most=1)
    rows = contents(experiment)["crowd"]
    lost = {f"s{number:05d}" for number in range(REWRITTEN_SHARDS * 40)} ^ {key[0] for key in rows}
    yield Figure(show, "captions without an outcome, autoscaler v1", len(lost), "captions", at_most=0)
    yield Figure(show, "samples not trained on, autoscaler v1", told["not_trained_on"], "samples", at_most=0)


def rewriting_chaos(show: int, directory: Path) -> Iterator[Figure]:
    """Rewriting while nodes of five are killed and added at random."""

    def disturb(cluster: SpotCluster, is_over: Callable[[], bool]) -> None:
        cluster.disturb(is_over, seed=4, pause_s=5.0, kills=9)

    yield from _rewriting(show, directory, "five nodes, killed and added", 4, disturb)


def drained_engine(show: int, directory: Path) -> Iterator[Figure]:
    """Rewriting while a node with an engine is drained, and then taken away."""

    def drain(cluster: SpotCluster, is_over: Callable[[], bool]) -> None:
        node = cluster.nodes[0]
        cluster.drain(node, NOTICE_S)
        time.sleep(NOTICE_S)
        assert not is_over(), "the run ended before the node went"
        cluster.kill(node)

    yield from _rewriting(show, directory, "a drained node", 2, drain)


def _rewriting(
    show: int, directory: Path, name: str, nodes: int, disturb: Callable[[SpotCluster, Callable[[], bool]], None]
) -> Iterator[Figure]:
    """Rewrite on a cluster that `disturb` disturbs, and compare the draws with those of an undisturbed run."""
    (directory / "data").mkdir()
    for shard in range(REWRITTEN_SHARDS):
        captions = [f"picture {shard} of thing {number}" for number in range(CAPTIONS)]
        pq.write_table(pa.table({"caption": captions}), directory / "data" / f"{shard:02d}.parquet")
    engine = {"rewrite.engine.actors": {"min": 1, "max": nodes}, "rewrite.engine.shards_in_flight": 1}
    experiment = with_overrides(_experiment(directory, "disturbed"), engine)
    undisturbed = with_overrides(experiment, {"output": str(directory / "undisturbed")})
    config, quiet = directory / "disturbed.yaml", directory / "undisturbed.yaml"
    config.write_text(to_yaml(experiment))
    quiet.write_text(to_yaml(undisturbed))
    log = directory / "driver.log"
    with spot_cluster({"num_cpus": 3}, ENGINE_NODE, nodes) as cluster:
        cluster.start(log, "tests.integration.chaos", str(quiet), "process:0.0").wait(600)
        with cluster.start(log, "tests.integration.chaos", str(config), "process:0.05") as driver:
            wait_for(lambda: _commits(experiment) or driver.poll() is not None, 180, "the first commit")
            disturb(cluster, lambda: driver.poll() is not None)
            code = driver.wait(600)
    if code:
        print(log.read_text()[-3000:])
    for event, count in cluster.events.items():
        yield Figure(show, f"nodes {event} while rewriting, {name}", count, "nodes", at_least=1)
    yield exit_code(show, f"exit code of rewriting, {name}", code)
    found, expected = contents(experiment)["crowd"], contents(undisturbed)["crowd"]
    assert expected, log.read_text()[-3000:]
    differing = len(found.items() ^ expected.items())
    yield Figure(show, f"draws that differ from an undisturbed run, {name}", differing, "draws", at_most=0)
    lost = REWRITTEN_SHARDS * CAPTIONS - len({key[0] for key in found})
    yield Figure(show, f"captions without an outcome, {name}", lost, "captions", at_most=0)
    died = sum(reason == "engine_died" for _, reason in found.values())
    yield Figure(show, f"captions blamed for a lost engine, {name}", died, "captions", at_most=0)


def _commits(experiment: Experiment) -> int:
    return len(list(Path(experiment.rewrite_output).glob("*/draws/*/*.parquet")))


def training_chaos(show: int, directory: Path) -> Iterator[Figure]:
    """Training while nodes of five are killed and added at random."""
    workers = {
        "train.workers": {"min": 1, "max": 3},
        "train.batch_size": 12,
        "train.epochs": 2,
        "train.checkpoint": {"every_steps": 5},
    }

    def disturb(cluster: SpotCluster, notes: Path, is_over: Callable[[], bool]) -> None:
        _wait_for_steps(notes, 1, 5, is_over)
        cluster.disturb(is_over, seed=3, pause_s=12.0, kills=4)

    yield from _training(show, directory, "five nodes, killed and added", workers, 4, disturb)


def drained_worker(show: int, directory: Path) -> Iterator[Figure]:
    """Training with two workers, one of them on a node that is drained and replaced. No checkpoint is due before."""
    workers = {"train.workers": 2, "train.checkpoint": {"every_steps": 1_000_000}, "train.epochs": 3}

    def drain(cluster: SpotCluster, notes: Path, is_over: Callable[[], bool]) -> None:
        _wait_for_steps(notes, 1, 20, is_over)
        node = cluster.nodes[0]
        cluster.drain(node, NOTICE_S)
        told_s = time.monotonic()
        cluster.add()
        time.sleep(max(0.0, NOTICE_S - (time.monotonic() - told_s)))
        cluster.kill(node)

    yield from _training(show, directory, "a drained node", workers, 2, drain)
    starts = starts_of(directory / "trained" / NOTES)
    yield Figure(show, "starts of the workers, a drained node", len(starts), "starts", at_least=2, at_most=2)
    kept = min(starts[-1].steps)
    yield Figure(show, "steps kept, a drained node", kept, "steps", at_least=20)
    yield Figure(show, "steps lost, a drained node", _repeated(starts), "steps", at_most=0)


def _repeated(starts: list[Start]) -> int:
    """Steps that were made more than once."""
    made = Counter(step for start in starts for step in start.steps)
    return sum(count - 1 for count in made.values())


def _wait_for_steps(notes: Path, starts: int, steps: int, is_over: Callable[[], bool]) -> None:
    def is_reached() -> bool:
        found = starts_of(notes)
        return is_over() or (len(found) >= starts and len(found[-1].steps) >= steps)

    wait_for(is_reached, 240, f"{steps} steps")


def _training(
    show: int,
    directory: Path,
    name: str,
    changes: dict[str, Any],
    nodes: int,
    disturb: Callable[[SpotCluster, Path, Callable[[], bool]], None],
) -> Iterator[Figure]:
    """Train on a cluster that `disturb` disturbs, and count what was trained on."""
    for number in range(TRAINED_SHARDS):
        write_shard(directory / "data" / f"{number}.tar", good_samples(number * SAMPLES, SAMPLES))
    everything = Counter(f"s{number:05d}" for number in range(TRAINED_SHARDS * SAMPLES))
    fixed = {"text.p": 0.0, "train.accelerator_type": ACCELERATOR}
    experiment = with_overrides(_experiment(directory, "trained"), {**fixed, **changes})
    config, log, notes = directory / "trained.yaml", directory / "driver.log", Path(experiment.output, NOTES)
    notes.mkdir(parents=True)
    config.write_text(to_yaml(experiment))
    set_pace(0.15)
    with (
        spot_cluster({"num_cpus": 3}, WORKER_NODE, nodes) as cluster,
        cluster.start(log, "tests.integration.training_chaos", str(config)) as driver,
    ):
        disturb(cluster, notes, lambda: driver.poll() is not None)
        code = driver.wait(900)
    if code:
        print(log.read_text()[-3000:])
    for event, count in cluster.events.items():
        yield Figure(show, f"nodes {event} while training, {name}", count, "nodes", at_least=1)
    yield exit_code(show, f"exit code of training, {name}", code)
    starts = starts_of(notes)
    sizes = ", ".join(str(start.workers) for start in starts)
    print(f"  workers of each start: {sizes}; steps made again: {_repeated(starts)}")
    wrong = missing_or_repeated(experiment.output, everything, experiment.train.epochs)
    yield Figure(show, f"samples missing or repeated, {name}", wrong, "samples", at_most=0)


def _experiment(directory: Path, name: str) -> Experiment:
    model = directory / "model.json"
    model.write_text(json.dumps(MODEL))
    return parse_experiment(
        {
            "name": name,
            "output": str(directory / name),
            "data": {"path": str(directory / "data")},
            "text": {"p": 0.8},
            "rewrite": {
                "model": "demo-rewriter",
                "prompt_sets": ["crowd"],
                "gate": {"min_shared_words": 0},
                "engine": {"gpus_per_actor": 1},
            },
            "model": {"name": str(model)},
            "stream": {"rows_per_block": 16},
            "train": {"epochs": 4, "batch_size": 16, "workers": 1, "gpus_per_worker": 0, "max_failures": 100},
            "ray": {"shared_paths": [str(directory)]},
        }
    )


def _run(address: str, *program: str) -> int:
    environment = {**child_environment(), "RAY_ADDRESS": address}
    return subprocess.run([sys.executable, "-m", *program], env=environment, cwd=REPOSITORY, check=False).returncode


def main() -> None:
    """A driver of `laclip run` with a scripted engine that counts the cluster's nodes: CONFIG SEEN."""
    config, seen = sys.argv[1:]
    counter = NodeCounter()
    counter.start()
    result = run_one_job(load_experiment(config, []), partial(ProcessEngine, pace_s=0.02))
    trained_s = time.time()
    with suppress(AssertionError):
        wait_for(lambda: counter.counts[-1][1] == 1, 60, "the end of the engines' nodes")
    told = {
        "nodes": counter.counts,
        "trained_s": trained_s,
        "not_trained_on": result.training.summary["not_trained_on"],
    }
    Path(seen).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
