"""Kill workers and drivers of a training run at random, restart it until it ends, and find out what it trained on.

Each worker notes the samples of a step before it makes the step, in one file per start of the worker group. The steps
that lead to the final weights are the ones that no later start repeated.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from ray._common.utils import reset_ray_address
from torch import distributed

from laclip_ray.config import Experiment, load_experiment, to_yaml, with_overrides
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.onejob.run import run_one_job
from laclip_ray.training import run, trainer
from laclip_ray.training.loop import LoopInput, train_worker
from laclip_ray.training.step import Stepper
from tests.integration.chaos import engine_processes_of
from tests.integration.procedures import REPOSITORY, child_environment, engine_owners, wait_for
from tests.integration.scripted_engine import ProcessEngine

NOTES = "notes"


def train_and_note(config: dict[str, LoopInput]) -> None:
    """Train at a set pace, and note the samples of each step."""
    inputs = config["input"]
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    started = [time.time_ns()]
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        distributed.broadcast_object_list(started, src=0)
    directory = Path(inputs.experiment.output) / NOTES
    directory.mkdir(exist_ok=True)
    step = Stepper.step
    with (directory / f"{started[0]}-{rank}.jsonl").open("a") as file:

        def noting_step(self: Stepper, batch: Mapping[str, Any], number: int) -> Any:
            epochs = (batch["schedule_index"] // inputs.shard_count).tolist()
            note = {"step": number, "samples": list(zip(epochs, batch["id"].tolist(), strict=True))}
            file.write(json.dumps(note) + "\n")
            file.flush()
            time.sleep(float(os.environ["LACLIP_CHAOS_PACE_S"]))
            return step(self, batch, number)

        setattr(Stepper, "step", noting_step)  # noqa: B010 - replaces a method for this process alone
        train_worker(config)


@dataclass
class Start:
    """One start of the worker group."""

    workers: int = 0
    steps: dict[int, list[Any]] = field(default_factory=dict)
    """The (epoch, id) of the samples of all workers, by step."""


def starts_of(notes: Path) -> list[Start]:
    """The notes of each start, in order. An incomplete last line is left out."""
    starts: dict[int, Start] = {}
    for path in sorted(notes.glob("*.jsonl")):
        start = starts.setdefault(int(path.name.partition("-")[0]), Start())
        start.workers += 1
        for line in path.read_text().split("\n")[:-1]:
            note = json.loads(line)
            start.steps.setdefault(note["step"], []).extend(note["samples"])
    return [starts[started_ns] for started_ns in sorted(starts)]


def trained_samples(output: str) -> list[Counter[str]]:
    """How often each id was trained on, by epoch, over the steps that lead to the final weights."""
    steps: dict[int, list[Any]] = {}
    for start in starts_of(Path(output, NOTES)):
        steps |= start.steps
    by_epoch: list[Counter[str]] = []
    for samples in steps.values():
        for epoch, sample_id in samples:
            while len(by_epoch) <= epoch:
                by_epoch.append(Counter())
            by_epoch[epoch][sample_id] += 1
    return by_epoch


def missing_or_repeated(output: str, everything: Counter[str], epochs: int) -> int:
    """How many samples the steps that lead to the final weights lack or repeat, over all epochs.

    Args:
        output: of the experiment.
        everything: each id as often as an epoch has it.
        epochs: of the run.
    """
    trained = trained_samples(output)
    wrong = sum((everything - epoch).total() + (epoch - everything).total() for epoch in trained)
    return wrong + (epochs - len(trained)) * everything.total()


@dataclass(frozen=True)
class Chaos:
    """The result of a run with kills."""

    kills: Counter[str]
    """By kind of process; each happened while training made steps."""
    exit_code: int
    """Of the last driver."""
    output: str


def run_chaos(
    experiment: Experiment,
    victims: Sequence[str],
    sizes: Sequence[int],
    pause_s: float,
    seed: int,
    directory: Path,
    engine_pace_s: float | None = None,
) -> Chaos:
    """Train in a separate process, and kill.

    Args:
        experiment: the configuration.
        victims: the processes to kill, in order: `worker`, `driver` or `engine`.
        sizes: number of workers at each start of the driver; the last one repeats.
        pause_s: mean time from the first step of a start to the next kill.
        seed: of the times.
        directory: for the config and the log.
        engine_pace_s: if given, rewriting runs beside training, with a scripted engine that takes this long to answer.
    """
    log = directory / "chaos.log"
    times = random.Random(seed)
    kills: Counter[str] = Counter()
    notes = Path(experiment.output, NOTES)
    notes.mkdir(parents=True, exist_ok=True)
    starts = 0

    def start() -> subprocess.Popen[bytes]:
        nonlocal starts
        config = directory / f"chaos-{starts}.yaml"
        size = sizes[min(starts, len(sizes) - 1)]
        config.write_text(to_yaml(with_overrides(experiment, {"train.workers": size})))
        starts += 1
        with log.open("ab") as file:
            command = [sys.executable, "-m", "tests.integration.training_chaos", str(config)]
            command += [] if engine_pace_s is None else [str(engine_pace_s)]
            environment = {"LACLIP_CHAOS_PACE_S": "0.15", **child_environment()}
            return subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=REPOSITORY)

    driver = start()
    victim_before = ""
    for victim in victims:
        seen = {*notes.iterdir()} if kills and victim_before != "engine" else set()
        victim_before = victim
        wait_for(lambda: _has_begun(notes, seen) or driver.poll() is not None, 180, "a step")  # noqa: B023
        time.sleep(times.uniform(0.0, 2.0) * pause_s)
        assert driver.poll() is None, f"the run ended before the kills did:\n{log.read_text()[-3000:]}"
        if victim == "driver":
            workers = _workers(driver.pid)
            driver.kill()
            driver.wait()
            reset_ray_address()  # else the next run asks the killed Ray whether its controller lives, for 12 seconds
            wait_for(lambda: not any(worker.is_running() for worker in workers), 60, "the end of the workers")  # noqa: B023
            driver = start()
        elif victim == "engine":
            for pid in _engine():
                os.kill(pid, signal.SIGKILL)
        else:
            wait_for(lambda: _workers(driver.pid), 60, "a worker to kill")  # noqa: B023
            os.kill(times.choice(_workers(driver.pid)).pid, signal.SIGKILL)
        kills[victim] += 1
    driver.wait(timeout=1_200)
    return Chaos(kills, driver.returncode, log.read_text())


def _has_begun(notes: Path, seen: set[Path]) -> bool:
    """Whether a start without a file in `seen` has noted a step."""
    return any(path.stat().st_size for path in {*notes.iterdir()} - seen)


def _engine() -> list[int]:
    """The processes of one engine. Waits for an engine."""
    pids: list[int] = []

    def look() -> bool:
        pids[:] = [pid for owner in engine_owners(0.0)[:1] for pid in engine_processes_of(owner.pid)]
        return bool(pids)

    wait_for(look, 60, "an engine to kill")
    return pids


def _workers(driver: int) -> list[psutil.Process]:
    """The training workers that a driver's Ray runs."""
    workers = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or a zombie, which has no command line
            if "RayTrainWorker" in " ".join(process.cmdline()):
                workers.append(process)
    return workers


def main() -> None:
    """The driver."""
    setattr(trainer, "train_worker", _noting_worker())  # noqa: B010 - replaces a function for this process alone
    config, *pace_s = sys.argv[1:]
    experiment = load_experiment(config, [])
    try:
        if pace_s:
            run_one_job(experiment, partial(ProcessEngine, pace_s=float(pace_s[0])))
        else:
            run.run_training(experiment)
    except (UserError, IncompleteError) as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(int(error.exit_code)) from error


def _noting_worker() -> Any:
    from tests.integration import training_chaos  # by name, as a worker imports it

    return training_chaos.train_and_note


if __name__ == "__main__":
    main()
