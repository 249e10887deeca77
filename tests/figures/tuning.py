"""Figures of sweeps."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, to_yaml, with_overrides
from laclip_ray.demo.run import SWEPT, Size, demo_experiment, sweep_settings
from laclip_ray.demo.world import write_world
from laclip_ray.models.files import STATE_FILE
from laclip_ray.training.checkpoint import newest_checkpoint
from laclip_ray.training.metrics import read_metrics
from laclip_ray.tuning.comparison import differences
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.results import Sweep, pairing, rankings
from laclip_ray.tuning.stages import read_stages
from tests.figures.figure import Figure, exit_code
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, wait_for

SEEDS = 3


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Those of the numbered shows, or all."""
    measure = ((demo, {1, 2}), (killed, {3}), (steered, {4}), (on_a_cluster, {5}))
    for show, numbers in measure:
        if not shows or numbers & set(shows):
            with tempfile.TemporaryDirectory() as name:
                yield from show(Path(name))


def demo(directory: Path) -> Iterator[Figure]:
    """Shows 1 and 2: six p with three seeds on the demo's world by one command, and what pairs are worth."""
    started_s = time.monotonic()
    arguments = ["demo", "--sweep", "--seeds", str(SEEDS), "--output", str(directory)]
    command = [sys.executable, "-m", "laclip_ray", *arguments]
    finished = subprocess.run(
        command, cwd=REPOSITORY, env=child_environment(), check=False, stdout=subprocess.PIPE, text=True
    )
    print(finished.stdout[-5000:])
    yield exit_code(1, "exit code", finished.returncode)
    yield Figure(1, "time of the sweep", (time.monotonic() - started_s) / 60, "min", at_most=40)
    experiment = with_overrides(demo_experiment(str(directory)), sweep_settings(SEEDS, Size()))
    sweep = Sweep(experiment, tuple(read_stages(SweepPaths(experiment.tune_output))), rewrites=4)
    kept = REPOSITORY / "build" / "demo_sweep"
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("sweep.csv", "sweep.svg", "sweep.html"):
        shutil.copy(Path(experiment.tune_output, name), kept)
    yield Figure(1, "complete points", len(sweep.values(sweep.metric)), "points", at_least=len(SWEPT))
    for sentence in sweep.verdicts():
        print(sentence)
    for metric in sweep.metrics:
        for point, values in sweep.values(metric).items():
            yield Figure(1, f"{metric}, {point}, mean", sum(values.values()) / SEEDS, "share")
        found = pairing(sweep, "p0", metric)
        if found is not None and found.unpaired_variance:
            ratio = found.paired_variance / found.unpaired_variance
            yield Figure(2, f"variance of differences from p = 0, paired to unpaired, {metric}", ratio, "ratio")
    for each in differences(sweep.values(sweep.metric), "p0", sweep.begun):
        yield Figure(1, f"{sweep.metric}, {each.point} above p0", each.paired.mean, "share")
        yield Figure(1, f"half of its interval, {each.point}", each.paired.half_width or 0.0, "share")
    for ranking in rankings(sweep, sweep.metric):
        name = f"agreement of the order of p after {ranking.images} images a run with that at the end"
        yield Figure(1, name, ranking.agreement, "tau")
    # Before the sweep the demo rewrites, and says so; the sweep then finds it done.
    engines = sum(map(int, re.findall(r"committed now by (\d+) engine", finished.stdout)))
    engines += storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))["engines"]
    yield Figure(2, "engines that were started", engines, "engines", at_least=1, at_most=1)


def _experiment(directory: Path, name: str, **changes: Any) -> Experiment:
    model = directory / "model.json"
    model.write_text(json.dumps(MODEL))
    return with_overrides(
        parse_experiment(
            {
                "name": name,
                "output": str(directory / name),
                "data": {"path": str(directory / "data")},
                "rewrite": {
                    "model": "demo-rewriter",
                    "prompt_sets": ["crowd"],
                    "gate": {"min_shared_words": 0},
                },
                "model": {"name": str(model)},
                "stream": {"rows_per_block": 16, "shuffle_buffer_rows": 64, "order": "exact"},
                "train": {
                    "epochs": 4,
                    "batch_size": 16,
                    "workers": 1,
                    "log_every_steps": 2,
                    "checkpoint": {"every_steps": 1_000},
                },
                "evaluate": {"retrieval": [{"name": "itself", "data": {"path": str(directory / "data")}}]},
                "tune": {"p": [0.0, 0.5, 1.0]},
                "ray": {"local_cpus": 4, "shared_paths": [str(directory)]},
            }
        ),
        changes,
    )


def _write_data(directory: Path, shards: int = 4, samples: int = 40) -> None:
    for number in range(shards):
        write_shard(directory / "data" / f"{number}.tar", good_samples(number * samples, samples))


def _start(experiment: Experiment, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    config = Path(experiment.output).parent / f"{experiment.name}.yaml"
    config.write_text(to_yaml(experiment))
    command = [sys.executable, "-m", "tests.figures.tuning_run", str(config)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env={**child_environment(), **(environment or {})}, stderr=subprocess.PIPE, text=True
    )


def _rows(experiment: Experiment) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(experiment.tune_output, "sweep.csv").read_text().splitlines()))


def killed(directory: Path) -> Iterator[Figure]:
    """Show 3: Ctrl-C after the first run; then the driver is killed beside a run that has a checkpoint."""
    _write_data(directory)
    experiment = _experiment(
        directory, "killed", **{"tune.seeds": [0, 1], "train.epochs": 6, "train.checkpoint.every_steps": 10}
    )
    root = Path(experiment.tune_output)

    def done() -> dict[Path, int]:
        """When what was measured was written."""
        return {path: path.stat().st_mtime_ns for path in root.glob("trials/*/*/stages/*")}

    def half_done() -> dict[Path, int]:
        """Runs that have a checkpoint and are not done, by its step."""
        runs = [path for path in root.glob("trials/*/seed*") if not list(path.glob("stages/*"))]
        return {path: _checkpoint_step(path) for path in runs if newest_checkpoint(str(path / "train"))}

    driver = _start(experiment)
    wait_for(done, 300, "a run that is done")
    driver.send_signal(signal.SIGINT)
    driver.communicate()
    yield exit_code(3, "exit code after Ctrl-C", driver.returncode, 3)
    rows = len(_rows(experiment))
    yield Figure(3, "rows of the table after Ctrl-C, of 6", rows, "rows", at_least=1, at_most=5)
    before = done()

    driver = _start(experiment)
    wait_for(lambda: len(done()) > len(before) and half_done(), 300, "a run half done beside a new one that is done")
    driver.kill()
    driver.wait()
    killed_s = time.time()
    before, begun = done(), half_done()
    yield Figure(3, "runs done when the driver was killed", len(before), "runs", at_least=2)
    yield Figure(3, "runs half done then", len(begun), "runs", at_least=1)
    again = _start(experiment)
    again.communicate()
    yield exit_code(3, "exit code of the same command", again.returncode)
    after = done()
    touched = sum(after[path] != written for path, written in before.items())
    yield Figure(3, "done runs that were done again", touched, "runs", at_most=0)
    from_zero = sum(
        any(row["unix_time_s"] > killed_s for row in read_metrics(str(path / "train")) if row["step"] <= step)
        for path, step in begun.items()
    )
    yield Figure(3, "half done runs that began from zero", from_zero, "runs", at_most=0)
    missing = 3 * 2 - len(_rows(experiment))
    yield Figure(3, "rows that the table lacks", abs(missing), "rows", at_most=0)


def _checkpoint_step(run: Path) -> int:
    newest = newest_checkpoint(str(run / "train"))
    assert newest is not None
    return int(storage.read_json(storage.join(newest, STATE_FILE))["step"])


def steered(directory: Path) -> Iterator[Figure]:
    """Show 4: ASHA, Optuna, and a point that cannot be trained."""
    halved = _learnable(directory)
    done = _start(halved)
    done.communicate()
    yield exit_code(4, "exit code, ASHA", done.returncode)
    ended = list(Path(halved.tune_output).glob("trials/*/ended_early.json"))
    yield Figure(4, "points ended early of 4, three of which cannot learn, ASHA", len(ended), "points", at_least=1)
    learning = [path for path in ended if path.parent.name.endswith("learning_rate0.001")]
    yield Figure(4, "points ended early that learn", len(learning), "points", at_most=0)
    last = {stage.point: stage.epoch for stage in read_stages(SweepPaths(halved.tune_output))}  # in the order of epochs
    most = 4 * halved.train.epochs
    yield Figure(4, f"epochs trained of {most}, ASHA", sum(last.values()), "epochs", at_most=most - 1)

    _write_data(directory)
    space = {"text.p": {"uniform": [0.0, 1.0]}, "train.learning_rate": {"log_uniform": [1e-5, 1e-2]}}
    searched = _experiment(
        directory,
        "searched",
        **{"tune.p": None, "tune.space": space, "tune.search": "optuna", "tune.points": 4, "train.epochs": 2},
    )
    done = _start(searched)
    done.communicate()
    yield exit_code(4, "exit code, Optuna over p and the learning rate", done.returncode)
    yield Figure(4, "points that Optuna chose", len({row["point"] for row in _rows(searched)}), "points", at_least=4)

    rates = {"train.learning_rate": {"grid": [1e-3, 1e30]}}
    crashing = _experiment(directory, "crashing", **{"tune.p": [0.5], "tune.space": rates, "train.epochs": 2})
    done = _start(crashing)
    _, errors = done.communicate()
    yield exit_code(4, "exit code with a point that cannot be trained", done.returncode, 3)
    named = re.search(r"not complete: 1;.*\n  p0.5-learning_rate1e\+30: ", errors) is not None
    yield Figure(4, "points that are named as failed", int(named), "points", at_least=1)
    yield Figure(4, "points in the table beside it", len(_rows(crashing)), "points", at_least=1)


def _learnable(directory: Path) -> Experiment:
    """A sweep over learning rates on a little of the demo's world, one of which is large enough to learn at all."""
    place = directory / "halved"
    size = Size(train_count=1_000, test_count=300, retrieval_count=10, epochs=8, batch_size=32)
    experiment = demo_experiment(str(place), size=size)
    write_world(
        place / "world",
        seed=experiment.seed,
        train_count=size.train_count,
        test_count=size.test_count,
        retrieval_count=size.retrieval_count,
        samples_per_shard=size.samples_per_shard,
    )
    changes = {
        "name": "halved",
        "text.p": 0.0,
        "train.workers": 1,
        "tune.p": None,
        "tune.space": {"train.learning_rate": {"grid": [1e-3, 1e-9, 2e-9, 4e-9]}},
        "tune.halving": {"first_epochs": 4, "reduction": 2},
    }
    return with_overrides(experiment, changes)


_CLUSTER = """
import os, subprocess, sys, time
from ray.cluster_utils import Cluster
head_cpus, nodes, after_s = map(int, sys.argv[1:4])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head_cpus})
try:
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    sweep = subprocess.Popen([sys.executable, "-m", "tests.figures.tuning_run", sys.argv[4]], env=environment)
    time.sleep(after_s)
    for _ in range(nodes):
        cluster.add_node(num_cpus=4)
    code = sweep.wait()
finally:
    cluster.shutdown()
sys.exit(code)
"""
_NODE_AFTER_S = 40


def on_a_cluster(directory: Path) -> Iterator[Figure]:
    """Show 5: more nodes hold more runs at once; a sweep waits for a node that will come, else it is refused."""
    _write_data(directory)

    def sweep(name: str, *cluster: int, **changes: Any) -> tuple[int, Experiment]:
        """Its exit code on such a cluster."""
        experiment = _experiment(directory, name, **changes)
        config = directory / f"{name}.yaml"
        config.write_text(to_yaml(experiment))
        command = [sys.executable, "-c", _CLUSTER, *map(str, cluster), str(config)]
        return subprocess.run(command, cwd=REPOSITORY, env=child_environment(), check=False).returncode, experiment

    for nodes in (1, 3):
        code, experiment = sweep(f"nodes{nodes}", 4, nodes - 1, 0, **{"train.epochs": 50})
        yield Figure(5, f"exit code on {nodes} nodes", code, "", at_most=0)
        bars = {"at_most": 1} if nodes == 1 else {"at_least": 2}
        yield Figure(5, f"runs at once on {nodes} nodes", _at_once(experiment), "runs", **bars)

    started_s = time.time()
    growing = {"ray.autoscaling": True, "train.gpus_per_worker": 0}
    code, experiment = sweep(
        "waits", 2, 1, _NODE_AFTER_S, **{"tune.p": [0.0], "tune.max_concurrent_runs": 1, **growing}
    )
    yield Figure(5, "exit code of a sweep that needs a node which comes later", code, "", at_most=0)
    (run,) = Path(experiment.tune_output).glob("trials/*/seed*")
    waited_s = read_metrics(str(run / "train"))[0]["unix_time_s"] - started_s
    yield Figure(5, f"its first steps, the node coming after {_NODE_AFTER_S} s", waited_s, "s", at_least=_NODE_AFTER_S)

    large = directory / "large.yaml"
    large.write_text(to_yaml(_experiment(directory, "large", **{"train.workers": 8, "train.batch_size": 64})))
    started_s = time.monotonic()
    command = [sys.executable, "-m", "laclip_ray", "tune", str(large)]
    refused = subprocess.run(
        command, cwd=REPOSITORY, env=child_environment(), check=False, stderr=subprocess.PIPE, text=True
    )
    print(refused.stderr)
    yield exit_code(5, "exit code of a sweep that cannot fit", refused.returncode, 2)
    yield Figure(5, "refused after", time.monotonic() - started_s, "s", at_most=5)


def _at_once(experiment: Experiment) -> int:
    """The most runs that were being trained at one time."""
    spans: list[tuple[float, float]] = []
    for run in Path(experiment.tune_output).glob("trials/*/seed*"):
        times = [row["unix_time_s"] for row in read_metrics(str(run / "train"))]
        spans.append((min(times), max(times)))
    return max(sum(first <= start <= last for first, last in spans) for start, _ in spans)
