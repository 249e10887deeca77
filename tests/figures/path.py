"""Figures of the whole path: the demo, a real data set, a kill, the export, and two processes against one."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from laclip_ray import storage
from laclip_ray.config import load_experiment, parse_experiment
from laclip_ray.demo.world import write_world
from laclip_ray.training.checkpoint import newest_checkpoint
from tests.figures.figure import Figure
from tests.integration.procedures import (
    REPOSITORY,
    export_differences,
    kill_and_resume,
    real_data,
)
from tests.unit.training.worlds import Case, differences, steps_in_world, take_step, write_model

_GIB = 2**30


@dataclass(frozen=True)
class Run:
    """A finished program."""

    exit_code: int
    elapsed_s: float
    peak_memory_gib: float
    """The most memory that the machine had in use beyond what it had before, shared memory included."""


def run(command: Sequence[str]) -> Run:
    """Run a program and watch the machine's memory."""
    before = psutil.virtual_memory()
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.5):
            peak = max(peak, before.available - psutil.virtual_memory().available)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started_s = time.monotonic()
    try:
        finished = subprocess.run(command, cwd=REPOSITORY, check=False)
    finally:
        done.set()
        watcher.join()
    return Run(finished.returncode, time.monotonic() - started_s, peak / _GIB)


def laclip(*arguments: str) -> Run:
    """Run the command line."""
    return run([sys.executable, "-m", "laclip_ray", *arguments])


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Those of the numbered shows, or all."""
    measure = {demo: {1}, fluent_emoji: {2, 4}, kill: {3, 6}, gloo: {5}, test_suite: {1, 7}}
    for each, numbers in measure.items():
        if not shows or numbers & {*shows}:
            with tempfile.TemporaryDirectory() as name:
                yield from each(Path(name))


def demo(directory: Path) -> Iterator[Figure]:
    """Show 1: the demo's time and memory."""
    finished = laclip("demo", "--output", str(directory / "demo"))
    yield Figure(1, "demo exit code", finished.exit_code, "", at_most=0)
    yield Figure(1, "demo time", finished.elapsed_s, "s", at_most=600)
    yield Figure(1, "demo peak memory", finished.peak_memory_gib, "GiB", at_most=10e9 / _GIB)


def fluent_emoji(directory: Path) -> Iterator[Figure]:
    """Shows 2 and 4: rewrite, train, evaluate real pictures from their config; the export in open_clip's hands."""
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the figures on fluent-emoji (shows 2 and 4) are left out")
        return
    os.environ["LACLIP_TEST_DATA"] = str(data)
    config = "configs/fluent_emoji.yaml"
    output = f"output={directory / 'emoji'}"
    # The model has learned its training pairs; on the config's held-out ones it is little better than chance.
    pairs = f"evaluate.retrieval=[{{name: training, data: {{path: {data}/fluent-emoji/00001.tar}}}}]"
    for verb, overrides in (("rewrite", []), ("train", []), ("evaluate", [pairs])):
        yield Figure(2, f"{verb} exit code", laclip(verb, config, output, *overrides).exit_code, "", at_most=0)
    experiment = load_experiment(config, [output])
    (result,) = storage.read_json(storage.join(experiment.evaluate_output, "results.json"))["results"]
    yield Figure(2, "image to text R@10, 500 training pairs", result["image_to_text_r10"], "share", at_least=0.2)
    checkpoint = newest_checkpoint(experiment.train_output)
    assert checkpoint is not None
    export = storage.join(experiment.train_output, "export")
    for part, difference in export_differences(experiment, checkpoint, export, directory).items():
        yield Figure(4, f"largest difference of {part}", difference, "", at_most=1e-5)


def kill(directory: Path) -> Iterator[Figure]:
    """Shows 3 and 6: a killed rewriting run, finished as a job."""
    shards, captions = 8, 25
    world = directory / "world"
    write_world(world, train_count=shards * captions, test_count=1, retrieval_count=1, samples_per_shard=captions)
    experiment = parse_experiment(
        {
            "name": "kill",
            "output": str(directory / "kill"),
            "data": {"path": str(world / "train")},
            "rewrite": {"model": "demo-rewriter", "engine": {"shards_in_flight": 1}},
        }
    )
    found = kill_and_resume(experiment, [f"train-{number:06d}" for number in range(shards * captions)], directory)
    again = found.committed_before + found.committed_after - found.units
    yield Figure(3, "committed before the kill", found.committed_before, "shard x set")
    yield Figure(3, "committed after it", found.committed_after, "shard x set")
    yield Figure(3, "done again", again, "shard x set", at_most=0)
    yield Figure(3, "missing ids", found.missing_ids, "ids", at_most=0)
    yield Figure(3, "repeated ids", found.repeated_ids, "ids", at_most=0)
    yield Figure(6, "submitted job's exit code", found.job_exit_code, "", at_most=0)
    yield Figure(6, "engine processes left", found.engine_processes_left, "processes", at_most=0)


def gloo(directory: Path) -> Iterator[Figure]:
    """Show 5: two gloo processes against one."""
    one = take_step(write_model(directory), Case(), slice(None))
    world = [steps[0] for steps in steps_in_world(2, [Case()], directory)]
    for part, difference in differences(one, world).items():
        yield Figure(5, f"largest difference of {part}", difference, "", at_most=1e-5)


def test_suite(directory: Path) -> Iterator[Figure]:
    """Shows 1 and 7: the tests, those of bad input first."""
    bad_input = "tests/integration/test_bad_input.py"
    first = run([sys.executable, "-m", "pytest", "-q", bad_input])
    yield Figure(7, "bad-input tests' exit code", first.exit_code, "", at_most=0)
    rest = run([sys.executable, "-m", "pytest", "-q", "tests", f"--ignore={bad_input}"])
    yield Figure(1, "other tests' exit code", rest.exit_code, "", at_most=0)
    yield Figure(1, "time of all tests", first.elapsed_s + rest.elapsed_s, "s", at_most=1200)
