"""Outputs as runs leave them, written by hand."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.lease import LEASE_FILE, Holder
from laclip_ray.models.files import CONFIG_FILE
from laclip_ray.rewriting.storing.progress_file import PROGRESS_FILE, Counts, RewritingProgress
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import REGISTER_FILE, checkpoint_name
from laclip_ray.tuning.paths import SweepPaths

SHARDS = 10
SAMPLES = 1_000
EPOCHS = 4
BATCH = 100
GATE = "0123456789abcdef"


def experiment(output: Path, **tune: Any) -> Experiment:
    """The experiment of the outputs below."""
    return parse_experiment(
        {
            "name": "status",
            "output": str(output),
            "data": {"path": "nowhere/*.tar"},
            "train": {"epochs": EPOCHS, "batch_size": BATCH},
            "tune": {"p": [0.0, 0.5, 1.0], "seeds": [0, 1], **tune},
        }
    )


def leave_lease(location: str | Path, age_s: float = 0.0, **changes: Any) -> Path:
    """A lease, last renewed some time ago, of a process of another machine unless `changes` say otherwise."""
    holder = replace(Holder.of_this_process("run"), **{"machine": "elsewhere", "host": "gpu-7", "pid": 41, **changes})
    path = Path(location) / LEASE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(holder.to_bytes())
    return aged(path, age_s)


def aged(path: Path, age_s: float) -> Path:
    """The file, as if it had been written some time ago."""
    then_s = time.time() - age_s
    os.utime(path, (then_s, then_s))
    return path


def commit(location: str, name: str, shards: int, newest_age_s: float = 0.0, every_s: float = 60.0) -> None:
    """Commit shards of a set, one each `every_s`."""
    rewrite_set = RewriteSet(storage.join(location, name), GATE)
    storage.write_json(storage.join(rewrite_set.location, RECIPE_FILE), {"fingerprint": "f", "recipe": {"model": "m"}})
    for number in range(shards):
        for url in (rewrite_set.draws_url, rewrite_set.verdicts_url):
            path = Path(url(f"{number:05d}.tar", 0))
            storage.write_bytes(str(path), b"not read")
            aged(path, newest_age_s + every_s * (shards - 1 - number))


def write_summary(location: str, done: int, sets: Mapping[str, int]) -> None:
    """The summary of a rewriting run: by prompt set, its accepted rewrites of `SAMPLES`."""
    statistics = {
        name: {"captions": SAMPLES, "accepted": accepted, "unfilled": {"too_short": SAMPLES - accepted}}
        for name, accepted in sets.items()
    }
    missing = {f"{name}/{number:05d}.tar": "cannot be read: cut" for name in sets for number in range(done, SHARDS)}
    content = {"complete": not missing, "shards": SHARDS, "missing": missing, "prompt_sets": statistics}
    storage.write_json(storage.join(location, "summary.json"), content)


def write_progress(location: str, accepted: int, failures: Mapping[str, str] | None = None) -> None:
    """The progress of a rewriting run, over half of the captions of one set."""
    half = SAMPLES // 2
    progress = RewritingProgress(
        SHARDS, {"cleaned": Counts(half, accepted, half)}, len(failures or {}), dict(failures or {})
    )
    storage.write_json(storage.join(location, PROGRESS_FILE), asdict(progress))


def metrics_line(step: int, **changes: Any) -> dict[str, Any]:
    """A line of metrics, with the keys that the status reads."""
    samples = step * BATCH
    line = {"step": step, "epoch": samples / SAMPLES, "samples": samples, "batch_size": BATCH, "loss": 3.25}
    return {**line, "images_per_s": 50.0, **changes}


def write_metrics(paths: RunPaths, steps: int) -> None:
    """A line for each step."""
    lines = "".join(json.dumps(metrics_line(step)) + "\n" for step in range(1, steps + 1))
    storage.write_bytes(paths.metrics, lines.encode())


def write_register(paths: RunPaths, step: int) -> str:
    """Ray Train's register of one checkpoint; its name."""
    name = checkpoint_name(step, 7)
    result = {"checkpoint_dir_name": name, "metrics": {"step": step}}
    content = {
        "checkpoint_results": [result],
        "checkpoint_report_indices": [0],
        "latest_checkpoint_result": result,
    }
    storage.write_json(storage.join(paths.ray_run, REGISTER_FILE), content)
    return name


def begin_training(output: Path, steps: int) -> RunPaths:
    """A training run after some steps, with a checkpoint."""
    of = experiment(output)
    paths = RunPaths(of.train_output)
    storage.write_json(paths.experiment, of.as_written())
    write_metrics(paths, steps)
    write_register(paths, steps)
    return paths


def finish_training(output: Path) -> RunPaths:
    """A finished training run."""
    steps = EPOCHS * SAMPLES // BATCH
    paths = begin_training(output, steps)
    storage.write_json(storage.join(paths.export, CONFIG_FILE), {})
    storage.write_json(paths.summary, {"steps": steps, "epochs": EPOCHS, "samples": steps * BATCH})
    return paths


def begin_sweep(of: Experiment) -> SweepPaths:
    """A sweep that has recorded its settings."""
    paths = SweepPaths(of.tune_output)
    storage.write_json(paths.record, {"settings": {}, "rewrite_revisions": {}, "epochs": [EPOCHS]})
    return paths


def train_point(of: Experiment, point: str, seeds: int) -> None:
    """Begin a point, and train it to the end with some seeds."""
    paths = SweepPaths(of.tune_output)
    storage.write_json(paths.values(point), {"text.p": 0.5})
    storage.write_json(RunPaths(storage.join(paths.run(point, 0), "train")).experiment, of.as_written())
    for seed in range(seeds):
        storage.write_json(paths.stage(point, seed, EPOCHS), {})


def good_output(output: Path) -> Path:
    """Rewriting and training that are finished, and a sweep of which a third is done."""
    of = experiment(output)
    commit(of.rewrite_output, "cleaned", SHARDS)
    write_summary(of.rewrite_output, SHARDS, {"cleaned": 900})
    finish_training(output)
    begin_sweep(of)
    train_point(of, "p0.5", 2)
    return output
