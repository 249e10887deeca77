"""Kill workers and drivers of a training run at random, and start it again until it ends; what was trained is noted.

A worker notes the samples of each step before it makes it, in a file of its own for each start of its group. The steps
that lead to the final weights are those that no later start made again.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from torch import distributed

from laclip_ray.config import Experiment, load_experiment, to_yaml, with_overrides
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.training import run
from laclip_ray.training.loop import LoopInput, train_worker
from laclip_ray.training.step import Stepper
from tests.integration.procedures import REPOSITORY, child_environment, wait_for

NOTES = "notes"


def train_and_note(config: dict[str, LoopInput]) -> None:
    """Train as usual, at a pace, and note the samples of each step."""
    given = config["input"]
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    started = [time.time_ns()]
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        distributed.broadcast_object_list(started, src=0)
    directory = Path(given.experiment.output) / NOTES
    directory.mkdir(exist_ok=True)
    step = Stepper.step
    with (directory / f"{started[0]}-{rank}.jsonl").open("a") as file:

        def noting_step(self: Stepper, batch: Mapping[str, Any], number: int) -> Any:
            epochs = (batch["schedule_index"] // given.shard_count).tolist()
            note = {"step": number, "samples": list(zip(epochs, batch["id"].tolist(), strict=True))}
            file.write(json.dumps(note) + "\n")
            file.flush()
            time.sleep(float(os.environ["LACLIP_CHAOS_PACE_S"]))
            return step(self, batch, number)

        setattr(Stepper, "step", noting_step)  # noqa: B010 - replaces a method for this process alone
        train_worker(config)


def trained_samples(output: str) -> list[Counter[str]]:
    """By epoch, how often each id was trained on, over the steps that lead to the final weights."""
    last: dict[int, tuple[int, list[Any]]] = {}
    for path in sorted(Path(output, NOTES).iterdir()):
        started = int(path.name.partition("-")[0])
        for line in path.read_text().splitlines():
            note = json.loads(line)
            known = last.get(note["step"])
            samples = known[1] if known is not None and known[0] == started else []
            last[note["step"]] = (started, [*samples, *note["samples"]])
    found: list[Counter[str]] = []
    for _, samples in last.values():
        for epoch, sample_id in samples:
            while len(found) <= epoch:
                found.append(Counter())
            found[epoch][sample_id] += 1
    return found


@dataclass(frozen=True)
class Chaos:
    """What came of it."""

    kills: Counter[str]
    """By what was killed; each while steps were being made."""
    exit_code: int
    """Of the last driver."""
    output: str


def run_chaos(
    experiment: Experiment, victims: Sequence[str], sizes: Sequence[int], pause_s: float, seed: int, directory: Path
) -> Chaos:
    """Train in a process of its own and kill.

    Args:
        experiment: what is trained.
        victims: what is killed, one after the other: `worker` or `driver`.
        sizes: the number of workers, one after the other, of the driver's starts; the last one stays.
        pause_s: mean time from a step of a new start to the next kill.
        seed: of the times.
        directory: for the config and the log.
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
            environment = {"LACLIP_CHAOS_PACE_S": "0.15", **child_environment()}
            return subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=REPOSITORY)

    driver = start()
    for victim in victims:
        seen = {*notes.iterdir()} if kills else set()
        wait_for(lambda: _has_begun(notes, seen) or driver.poll() is not None, 180, "a step")  # noqa: B023
        time.sleep(times.uniform(0.0, 2.0) * pause_s)
        assert driver.poll() is None, f"the run ended before the kills did:\n{log.read_text()[-3000:]}"
        if victim == "driver":
            workers = _workers(driver.pid)
            driver.kill()
            driver.wait()
            wait_for(lambda: not any(each.is_running() for each in workers), 60, "the end of the workers")  # noqa: B023
            driver = start()
        else:
            os.kill(times.choice(_workers(driver.pid)).pid, signal.SIGKILL)
        kills[victim] += 1
    driver.wait(timeout=1_200)
    return Chaos(kills, driver.returncode, log.read_text())


def _has_begun(notes: Path, seen: set[Path]) -> bool:
    """Whether a start that is not among the seen ones has noted a step."""
    return any(path.stat().st_size for path in {*notes.iterdir()} - seen)


def _workers(driver: int) -> list[psutil.Process]:
    """The training workers that a driver's Ray runs."""
    children = psutil.Process(driver).children(recursive=True)
    return [each for each in children if "RayTrainWorker" in " ".join(each.cmdline())]


def main() -> None:
    """The driver."""
    setattr(run, "train_worker", _noting_worker())  # noqa: B010 - replaces a function for this process alone
    try:
        run.run_training(load_experiment(sys.argv[1], []))
    except (UserError, IncompleteError) as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(int(error.exit_code)) from error


def _noting_worker() -> Any:
    from tests.integration import training_chaos  # by name, as a worker imports it

    return training_chaos.train_and_note


if __name__ == "__main__":
    main()
