"""Figures of signals: verbs x signals x ways to run, each with exit code, sentence, and what is left.

Each run is interrupted when it has saved something and has work left. The same command then finishes it, and the result
is compared with that of a run that nobody disturbed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from ray._private.utils import read_ray_address
from safetensors.numpy import load_file

from laclip_ray.cli.interruptions import interruption_message
from laclip_ray.config import DEMO_REWRITER, Experiment, parse_experiment, to_yaml, with_overrides
from laclip_ray.training.checkpoint import newest_checkpoint
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.stages import read_stages
from tests.figures.figure import Figure, exit_code
from tests.integration.chaos import contents
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import (
    REPOSITORY,
    child_environment,
    engine_processes,
    head_node,
    submit_job,
    wait_for,
)

VERBS = ("rewrite", "train", "run", "tune")
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
WAYS = ("local Ray", "RAY_ADDRESS", "submitted job")
SHARDS, SAMPLES = 8, 40
PACE_S = 0.03
"""Of an answer: a shard takes a second or two."""
TIMEOUT_S = 240
_MODULE = "tests.integration.signalled"
_RAYS_OWN = tuple(
    f"ray::{name}"
    for name in (
        *("IDLE", "JobSupervisor", "SPILL", "DashboardAgent", "RuntimeEnvAgent"),
        *("ActorLocationTracker", "_AutoscalingCoordinatorActor", "_StatsActor"),  # Ray Data's, one each for a cluster
    )
)
"""Titles of processes that belong to a cluster, and stay when a job ends."""
_MARK = "LACLIP_SIGNALLED_RUN"
"""Environment variable of a run's driver, and of each process of its local Ray."""


def signals(show: int) -> Iterator[Figure]:
    """One interrupted run of each verb, with each signal, in each way, and its resumption."""
    with tempfile.TemporaryDirectory() as scratch, head_node(Path(scratch, "head.log"), cpus=8) as jobs:
        base = _experiment(Path(scratch))
        place = Place(Path(scratch), jobs, str(read_ray_address()))
        undisturbed = {verb: _undisturbed(place, base, verb) for verb in VERBS}
        for verb in VERBS:
            for number, code in SIGNALS.items():
                for way in WAYS:
                    experiment = _at(base, f"{verb}-{number.name}-{WAYS.index(way)}")
                    case = f"{verb}, {number.name}, {way}"
                    print(case, file=sys.stderr, flush=True)
                    ended = interrupt(place, experiment, verb, number, way)
                    yield exit_code(show, f"exit code: {case}", ended.code, code)
                    yield Figure(show, f"sentences: {case}", ended.sentences, "", 1, 1)
                    yield Figure(show, f"processes left: {case}", ended.processes_left, "", at_most=0)
                    yield exit_code(show, f"exit code of the same command: {case}", run(place, experiment, verb, way))
                    difference = compare(undisturbed[verb], result_of(experiment, verb))
                    yield Figure(show, f"difference from an undisturbed run: {case}", difference, "", at_most=1e-6)


@dataclass(frozen=True)
class Place:
    """Where runs happen."""

    directory: Path
    jobs: str
    """Address of the job server."""
    cluster: str
    """Value of `RAY_ADDRESS`."""

    def environment(self, way: str) -> dict[str, str]:
        """The environment of a driver."""
        environment = child_environment()
        return {**environment, "RAY_ADDRESS": self.cluster} if way == "RAY_ADDRESS" else environment


@dataclass(frozen=True)
class Ended:
    """How an interrupted run ended."""

    code: int
    sentences: int
    """How often its output has the verb's sentence."""
    processes_left: int


def _experiment(directory: Path) -> Experiment:
    """Small data, a tiny model, and runs that take ten to thirty seconds."""
    for number in range(SHARDS):
        write_shard(directory / "data" / f"{number}.tar", good_samples(number * SAMPLES, SAMPLES))
    model = directory / "model.json"
    model.write_text(json.dumps(MODEL))
    return parse_experiment(
        {
            "name": "signalled",
            "output": str(directory / "base"),
            "data": {"path": str(directory / "data")},
            "model": {"name": str(model)},
            "text": {"p": 0.5},
            "rewrite": {
                "model": DEMO_REWRITER,  # its tokeniser; the scripted engine answers
                "prompt_sets": ["crowd"],
                "gate": {"min_shared_words": 0},
                "delivery": "inline",
                "engine": {"shards_in_flight": 1, "cpus_per_actor": 0.5},
            },
            "stream": {"rows_per_block": 16, "order": "exact", "shuffle_buffer_rows": 64},
            "train": {
                "epochs": 12,
                "batch_size": 16,
                "workers": 1,
                "log_every_steps": 4,
                "checkpoint": {"every_steps": 16, "keep": 2},
            },
            "tune": {"p": [0.0, 0.5], "seeds": [0]},
            "evaluate": {"retrieval": [{"name": "itself", "data": {"path": str(directory / "data")}}]},
            "ray": {"local_cpus": 8},
        }
    )


def _at(base: Experiment, name: str) -> Experiment:
    """The experiment with outputs of its own."""
    return with_overrides(base, {"output": str(Path(base.output).parent / name)})


def _command(place: Place, experiment: Experiment, verb: str) -> list[str]:
    """The words after `python`. Training alone trains on captions, so it needs no rewriting before."""
    config = Path(f"{experiment.output}-{verb}.yaml")
    changes = {"text.p": 0.0} if verb == "train" else {"train.epochs": 4} if verb == "tune" else {}
    config.write_text(to_yaml(with_overrides(experiment, changes)))
    return ["-m", _MODULE, str(PACE_S), verb, str(config)]


def run(place: Place, experiment: Experiment, verb: str, way: str) -> int:
    """Run a verb to its end; its exit code."""
    words = _command(place, experiment, verb)
    if way == "submitted job":
        return submit_job(place.jobs, *words).returncode
    with Path(f"{experiment.output}-{verb}.log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, *words],
            env=place.environment(way),
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            timeout=2 * TIMEOUT_S,
            check=False,
        )
    return done.returncode


def _undisturbed(place: Place, base: Experiment, verb: str) -> Any:
    experiment = _at(base, f"{verb}-undisturbed")
    code = run(place, experiment, verb, "local Ray")
    assert code == 0, Path(f"{experiment.output}-{verb}.log").read_text()[-3000:]
    return result_of(experiment, verb)


def interrupt(place: Place, experiment: Experiment, verb: str, number: signal.Signals, way: str) -> Ended:
    """Start a verb, send its driver the signal when it has saved something, and wait for its end."""
    words = _command(place, experiment, verb)
    mark = uuid.uuid4().hex
    start = _submit if way == "submitted job" else _start
    driver = start(place, experiment, verb, words, way, mark)
    wait_for(lambda: _has_saved(experiment, verb) or driver.poll() is not None, TIMEOUT_S, f"a result of {verb}")
    assert driver.poll() is None, f"{verb} ended with {driver.poll()} before the signal: {driver.output()[-3000:]}"
    os.kill(driver.pid(), number)
    wait_for(lambda: driver.poll() is not None, 60, f"the end of {verb} after the signal")
    sentence = interruption_message(number, [verb])
    left: list[str] = []

    def look() -> bool:
        left[:] = _processes_left(mark, place) if way == "local Ray" else _workers_left()
        return not left

    with suppress(AssertionError):
        wait_for(look, 30, "the end of the processes")
    print(*left, sep="\n", file=sys.stderr)
    code = driver.poll()
    assert code is not None
    return Ended(code, driver.output().count(sentence), len(left))


@dataclass(frozen=True)
class Driver:
    """A running driver."""

    pid: Callable[[], int]
    poll: Callable[[], int | None]
    """Its exit code; None while it runs."""
    output: Callable[[], str]


def _start(place: Place, experiment: Experiment, verb: str, words: list[str], way: str, mark: str) -> Driver:
    log = Path(f"{experiment.output}-{verb}.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**place.environment(way), _MARK: mark},
            cwd=REPOSITORY,
            stdout=file,
            stderr=file,
        )
    return Driver(lambda: process.pid, process.poll, log.read_text)


_ASK_JOB = """
import json, sys
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[1])
info = client.get_job_info(sys.argv[2])
ended = info.status in ("SUCCEEDED", "FAILED", "STOPPED")
logs = client.get_job_logs(sys.argv[2]) or f"{info.status}: {info.message}"
print(json.dumps({"ended": ended, "code": info.driver_exit_code, "logs": logs}))
"""


def _submit(place: Place, experiment: Experiment, verb: str, words: list[str], way: str, mark: str) -> Driver:
    assert way == "submitted job"
    submitted = submit_job(place.jobs, *words, options=("--no-wait", f"--submission-id={mark}"))
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr

    def pid() -> int:
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] and process.info["cmdline"][1:] == words:
                return int(process.pid)
        raise AssertionError("the job's driver is not found")

    def ask() -> dict[str, Any]:
        command = [sys.executable, "-c", _ASK_JOB, place.jobs, mark]
        answer = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)
        content: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        return content

    def poll() -> int | None:
        with suppress(AssertionError):
            pid()
            return None  # asking the job server takes seconds
        time.sleep(1)
        content = ask()
        return None if not content["ended"] else int(content["code"]) if content["code"] is not None else -1

    return Driver(pid, poll, lambda: str(ask()["logs"]))


def _has_saved(experiment: Experiment, verb: str) -> bool:
    """Whether a run has saved something that its resumption uses."""
    if verb == "rewrite":
        return len(list(Path(experiment.rewrite_output).glob("*/verdicts/**/*.parquet"))) >= 2
    if verb == "tune":
        return bool(list(Path(experiment.tune_output).glob("trials/*/*/train/ray/checkpoint-*/state.json")))
    return newest_checkpoint(experiment.train_output) is not None


def _processes_left(mark: str, place: Place) -> list[str]:
    """Processes with a run's mark in their environment."""
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def _workers_left() -> list[str]:
    """Processes that run tasks or actors of a job on the head, and engines."""
    found = [f"engine {pid}" for pid in engine_processes()]
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith("ray::") and not title.startswith(_RAYS_OWN):
            found.append(title)
    return found


def result_of(experiment: Experiment, verb: str) -> Any:
    """What a finished run made: rewrites, weights, or metrics."""
    if verb == "rewrite":
        return {"rewrites": contents(experiment)}
    if verb == "tune":
        stages = read_stages(SweepPaths(experiment.tune_output))
        return {
            f"{stage.point}/{stage.seed}/{stage.epoch}": np.array([stage.images, *stage.metrics.values()])
            for stage in stages
        }
    weights = dict(load_file(Path(experiment.train_output, "export", "open_clip_model.safetensors")))
    return {**weights, **({"rewrites": contents(experiment)} if verb == "run" else {})}


def compare(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference between two results; infinite where other things were made."""
    if one.keys() != other.keys():
        return float("inf")
    differences = [0.0]
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            same = value.shape == other[name].shape
            differences.append(float(np.abs(value - other[name]).max()) if same else float("inf"))
        elif value != other[name]:
            differences.append(float("inf"))
    return max(differences)
