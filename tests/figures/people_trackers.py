"""Figures of trackers: what W&B (offline), Trackio, MLflow (local) and TensorBoard hold of one experiment.

    python -m tests.figures.people_trackers CONFIG    # rewrites with the scripted engine

A small real experiment: rewriting with scripted engines, training that is killed with all its processes and resumed, an
evaluation and a sweep, each a command in a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ray._common.utils import reset_ray_address

from laclip_ray.config import Experiment, load_experiment, parse_experiment, to_yaml
from laclip_ray.evaluation.results import METRICS_FILE
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.sample_table import sample_table
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets
from laclip_ray.training.checkpoint import newest_checkpoint, read_state
from laclip_ray.training.metrics import read_metrics
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.stages import read_stages
from tests.figures.figure import Figure, exit_code
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, wait_for
from tests.integration.scripted_engine import SeededEngine
from tests.tracked_stores import StoredRun, mlflow_runs, tensorboard_run, trackio_runs, wandb_runs
from tests.tracker_packages import DIRECTORY, install, with_trackers

KEPT = "LACLIP_TRACKED_RUNS"
"""Environment variable: a directory that keeps the experiment; without it the experiment is removed."""
_SECRETS = {"HF_TOKEN": "hf_seen_in_no_tracker", "AWS_SECRET_ACCESS_KEY": "aws-seen-in-no-tracker"}
_SIGNATURE = "signature-seen-in-no-tracker"
"""In the URL that is a caption, and in the config."""
_SAMPLES, _PER_SHARD, _EPOCHS, _BATCH = 120, 40, 120, 16
_PROJECT = "laclip-ray"
_ROWS = 30
"""Of a sample table."""
_TEXTS = ("caption", "rewrite", "prompt_set", "outcome")
_TIMEOUT_S = 400


def _experiment(directory: Path) -> Experiment:
    """The experiment; writes its data and model."""
    samples = good_samples(0, _SAMPLES)
    samples[3][1]["txt"] = f"seen at https://host/p.jpg?X-Amz-Signature={_SIGNATURE} by a dog".encode()
    for start in range(0, _SAMPLES, _PER_SHARD):
        write_shard(directory / "data" / f"{start:05d}.tar", samples[start : start + _PER_SHARD])
    (directory / "model.json").write_text(json.dumps(MODEL))
    return parse_experiment(
        {
            "name": "tracked",
            "output": str(directory / "out"),
            "data": {"path": str(directory / "data")},
            "rewrite": {"model": "demo-rewriter", "prompt_sets": ["crowd", "cleaned"]},
            "model": {"name": str(directory / "model.json")},
            "text": {"p": 0.5},
            "train": {
                **{"epochs": _EPOCHS, "batch_size": _BATCH, "warmup_epochs": 1, "log_every_steps": 4},
                "checkpoint": {"every_steps": 30},
            },
            "evaluate": {"retrieval": [{"name": "own", "data": {"path": str(directory / "data" / "00000.tar")}}]},
            "tune": {"p": [0.0, 0.5], "seeds": [0]},
            "track": {
                **{"report_to": ["tensorboard", "wandb", "trackio", "mlflow"], "sample_rows": _ROWS},
                "tags": [f"https://me:{_SIGNATURE}@host"],
            },
        }
    )


@dataclass
class _Commands:
    """Runs the experiment's commands."""

    directory: Path
    config: Path

    def environment(self) -> dict[str, str]:
        own = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "WANDB_CACHE_DIR": str(self.directory / "cache")}
        return with_trackers(child_environment()) | own | _SECRETS

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.directory / f"{arguments[-1].rpartition('/')[2]}-{arguments[1]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments], env=self.environment(), cwd=REPOSITORY, stdout=log, stderr=log
            )

    def run(self, *arguments: str) -> int:
        process = self.start(*arguments)
        try:
            return process.wait(_TIMEOUT_S)
        finally:
            _kill(process)

    def verb(self, verb: str, *overrides: str) -> int:
        return self.run("-m", "laclip_ray", verb, str(self.config), *overrides)


def trackers(show: int) -> Iterator[Figure]:
    """What each tracker holds of the experiment's runs."""
    install()
    sys.path.insert(0, str(DIRECTORY))  # W&B's protocol, to read its files
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(kept or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        experiment = _experiment(directory)
        config = directory / "config.yaml"
        config.write_text(to_yaml(experiment))
        commands = _Commands(directory, config)
        yield exit_code(show, "rewriting", commands.run("-m", "tests.figures.people_trackers", str(config)))
        yield from _killed_training(show, experiment, commands)
        yield exit_code(show, "training, resumed", commands.verb("train"))
        yield exit_code(show, "evaluation", commands.verb("evaluate"))
        yield exit_code(show, "sweep", commands.verb("tune", "train.epochs=6"))
        yield from _training_figures(show, experiment)
        yield from _other_figures(show, experiment)
        yield from _secret_figures(show, experiment, directory)


def _killed_training(show: int, experiment: Experiment, commands: _Commands) -> Iterator[Figure]:
    """Kill training, with every process of its Ray, once every tracker has steps after the newest checkpoint."""
    process = commands.start("-m", "laclip_ray", "train", str(commands.config))
    ahead: list[int] = []

    def is_ahead() -> bool:
        assert process.poll() is None, "training ended before it was killed"
        newest = newest_checkpoint(experiment.train_output)
        if newest is None:
            return False
        with suppress(Exception):  # a store in the making
            stored = _stores(experiment)
            steps = [max(_of_kind(stored[name], "train")[0].steps) for name in ("trackio", "mlflow")]
            saved = int(read_state(newest)["step"])
            ahead[:] = [min(steps) - saved] if min(steps) > saved else []
        return bool(ahead)

    try:
        wait_for(is_ahead, _TIMEOUT_S, "a step after a checkpoint in every tracker")
    finally:
        _kill(process)
    yield Figure(
        show, "killed training: steps in Trackio and MLflow after its newest checkpoint", ahead[0], "", None, 1
    )


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a command and every process below it, as a machine that loses its power."""
    with suppress(psutil.NoSuchProcess):
        for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()
    reset_ray_address()


def _stores(experiment: Experiment) -> dict[str, dict[str, StoredRun]]:
    store = Path(experiment.output, "tracking")
    return {
        "W&B": wandb_runs(store),
        "trackio": trackio_runs(store / "trackio", _PROJECT),
        "mlflow": mlflow_runs(store),
    }


def _of_kind(runs: Mapping[str, StoredRun], kind: str, group: str = "tracked") -> list[StoredRun]:
    return [run for run in runs.values() if (run.kind, run.group) == (kind, group)]


def _training_figures(show: int, experiment: Experiment) -> Iterator[Figure]:
    lines = [row["step"] for row in read_metrics(experiment.train_output)]
    state = read_state(newest_checkpoint(experiment.train_output) or "")
    fingerprints = {each["fingerprint"] for each in state["lineage"]["rewrite_sets"]}
    expected = _expected_rows(experiment)
    found = {name: _of_kind(runs, "train") for name, runs in _stores(experiment).items()}
    found["TensorBoard"] = [tensorboard_run(Path(experiment.train_output))]
    for name, runs in found.items():
        yield _exactly(show, f"{name}: training runs", len(runs), 1)
        run = runs[0]
        yield _exactly(show, f"{name}: points of a curve (lines of metrics.jsonl)", len(run.steps), len(lines))
        yield _exactly(show, f"{name}: steps missing, repeated or out of order", sum(_differ(run.steps, lines)), 0)
        missing = [fingerprint for fingerprint in fingerprints if fingerprint not in str(run.lineage)]
        yield _exactly(show, f"{name}: rewrite sets missing in the lineage", len(missing), 0)
        samples = run.tables.get("samples", [])
        yield _exactly(show, f"{name}: rows of the sample table", len(samples), len(expected))
        if name == "TensorBoard":
            yield _exactly(show, f"{name}: config has train.epochs", run.config["train.epochs"] == str(_EPOCHS), 1)
            continue
        texts = [tuple(row[column] for column in _TEXTS) for row in samples]
        yield _exactly(show, f"{name}: rows that differ from the rewrite sets", sum(_differ(texts, expected)), 0)
        shown = len({row["id"] for row in samples})  # W&B keeps equal pictures once
        yield Figure(show, f"{name}: picture files of the sample table", run.pictures, "", at_least=shown)
        config = {key: value for key, value in run.config.items() if not key.startswith("_") and key != "tags"}
        yield _exactly(show, f"{name}: config is the experiment's", config == experiment.as_written(), 1)


def _differ(one: list[Any], two: list[Any]) -> Iterator[bool]:
    yield from (a != b for a, b in zip(one, two, strict=False))
    yield from [True] * abs(len(one) - len(two))


def _exactly(show: int, name: str, value: float, expected: float) -> Figure:
    return Figure(show, name, value, "", at_most=expected, at_least=expected)


def _expected_rows(experiment: Experiment) -> list[tuple[Any, ...]]:
    """Caption, rewrite, set and outcome of the sampled draws, without the signature in a caption."""
    sets = configured_sets(SetSelection.of(experiment)).sets
    committed = {each: each.committed_revisions() for each in sets}
    table = sample_table(committed, experiment.data, 3, experiment.output, experiment.track, experiment.seed)
    assert table is not None
    columns = [table.columns.index(column) for column in _TEXTS]
    rows = [tuple(row[column] for column in columns) for row in table.rows]
    return [tuple(str(cell).replace(_SIGNATURE, "***") if cell is not None else None for cell in row) for row in rows]


def _other_figures(show: int, experiment: Experiment) -> Iterator[Figure]:
    """Rewriting, evaluation and the sweep."""
    metrics = len(Path(experiment.evaluate_output, METRICS_FILE).read_text().splitlines()) - 1
    stages = read_stages(SweepPaths(experiment.tune_output))
    for name, runs in _stores(experiment).items():
        (rewriting,) = _of_kind(runs, "rewrite")
        yield Figure(show, f"{name}: outcomes by set and reason", len(rewriting.tables["outcomes"]), "", at_least=4)
        counted = sum(row["count"] for row in rewriting.tables["outcomes"])
        yield _exactly(show, f"{name}: slots in these outcomes", counted, 2 * _SAMPLES)
        (evaluation,) = _of_kind(runs, "evaluate")
        rows = evaluation.tables["evaluation"]
        yield _exactly(show, f"{name}: metrics of the evaluation (rows of metrics.csv)", len(rows), metrics)
        yield Figure(
            show, f"{name}: metrics with an interval", sum(row["low"] is not None for row in rows), "", None, 1
        )
        trials = _of_kind(runs, "train", "tracked-tune")
        yield _exactly(show, f"{name}: runs of the sweep in one group", len(trials), len(stages))
        judged = sum("retrieval/own/text_to_image_r1" in trial.summary for trial in trials)
        yield _exactly(show, f"{name}: of these, with their evaluation", judged, len(stages))
        (sweep,) = _of_kind(runs, "tune", "tracked-tune")
        yield _exactly(show, f"{name}: rows of the sweep's table", len(sweep.tables["stages"]), len(stages))


def _secret_figures(show: int, experiment: Experiment, directory: Path) -> Iterator[Figure]:
    """Files of trackers that hold a secret of the environment, of a caption's URL or of the config."""
    roots = [Path(experiment.output, "tracking"), directory / "cache"]
    events = [*Path(experiment.output).rglob("events.out.tfevents.*")]
    files = [*(path for root in roots for path in root.rglob("*") if path.is_file()), *events]
    secrets = [secret.encode() for secret in (*_SECRETS.values(), _SIGNATURE)]
    holding = [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
    for path in holding:
        print(f"{path} holds a secret")
    yield Figure(show, "files of trackers", len(files), "", at_least=20)
    yield Figure(show, "files of trackers that hold a secret", len(holding), "", at_most=0)


if __name__ == "__main__":
    run_rewriting(load_experiment(sys.argv[1]), SeededEngine)
