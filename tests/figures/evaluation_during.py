"""Figures of evaluation while training: what training waits for it, and the best model kept and resumed."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from laclip_ray.demo.world import write_world
from laclip_ray.training.metrics import read_metrics
from tests.figures.figure import Figure, exit_code
from tests.integration.procedures import REPOSITORY, child_environment

RUNS = 3
EPOCHS, BATCH = 6, 50
METRIC = "zero-shot/world/top1"


def during(show: int) -> Iterator[Figure]:
    """Train with an evaluation after each epoch, and without."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_world(directory / "world", train_count=1_500, test_count=300, retrieval_count=1)
        waits = []
        for run in range(RUNS):
            without, with_it = (_train(directory, f"{run}-{epochs}", epochs) for epochs in (None, 1))
            waits.append(1 - without / with_it)
        yield Figure(show, f"share of training's time that evaluation costs, median of {RUNS}",
                     statistics.median(waits), "", at_most=0.02)  # fmt: skip
        yield from _killed(show, directory, directory / "0-1")


def _config(directory: Path, name: str, every_epochs: int | None) -> Path:
    """Write a config; the worker's thread and the evaluation have a core each."""
    world = directory / "world"
    evaluate: dict[str, Any] = {"labelled": [{"name": "world", "path": str(world)}]}
    train: dict[str, Any] = {
        "epochs": EPOCHS, "batch_size": BATCH, "workers": 1, "learning_rate": 1e-3, "log_every_steps": 5,
        "checkpoint": {"every_steps": 30, "keep": 1},
    }  # fmt: skip
    if every_epochs:
        evaluate["during"] = {"every_epochs": every_epochs}
        train["checkpoint"]["keep_best"] = METRIC
    content = {
        "name": "during",
        "output": str(directory / name),
        "data": {"path": str(world / "train")},
        "model": {"name": str(REPOSITORY / "laclip_ray" / "demo" / "clip.json")},
        "text": {"p": 0.0},
        "train": train,
        "ray": {"local_cpus": 4},
        "evaluate": evaluate,
    }
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _start(config: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "laclip_ray", "train", str(config)],
        cwd=REPOSITORY, env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _train(directory: Path, name: str, every_epochs: int | None) -> float:
    """Seconds of the training loop, from its first line of metrics to its last."""
    config = _config(directory, name, every_epochs)
    assert _start(config).wait() == 0
    rows = read_metrics(str(directory / name / "train"))
    windows = ((now["step"] - before["step"]) * BATCH / now["images_per_s"] for before, now in itertools.pairwise(rows))
    return float(sum(windows))


def _killed(show: int, directory: Path, undisturbed: Path) -> Iterator[Figure]:
    """Kill the command after an epoch was evaluated; the same command ends with the same best model."""
    config, output = _config(directory, "killed", 1), directory / "killed"
    process = _start(config)
    while process.poll() is None and not (output / "train" / "best.json").exists():
        time.sleep(0.1)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    yield Figure(show, "killed while training, with a best model", int(was_running), "", at_least=1)
    yield exit_code(show, "the same command again: exit code", _start(config).wait())
    best = [json.loads((each / "train" / "best.json").read_text()) for each in (output, undisturbed)]
    lines = (output / "train" / "evaluations.jsonl").read_text().splitlines()
    values = [json.loads(line)[METRIC] for line in lines]
    yield Figure(show, f"epochs of {EPOCHS} with an evaluation", len(values), "", at_least=EPOCHS, at_most=EPOCHS)
    yield Figure(show, "best value kept, less the best of all epochs", best[0]["value"] - max(values), "",
                 at_least=0, at_most=0)  # fmt: skip
    yield Figure(show, "best value kept, less that of a run without a kill",
                 best[0]["value"] - best[1]["value"], "")  # fmt: skip
