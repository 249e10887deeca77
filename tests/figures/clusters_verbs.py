"""Figures of whole jobs on a real S3 server: `laclip run` and `laclip tune`, whose data and outputs are there alone."""

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

from laclip_ray import storage
from laclip_ray.config import load_experiment
from laclip_ray.onejob.run import RUN_FILE, run_one_job
from laclip_ray.tuning.sweep import run_sweep
from tests.figures.clusters_requests import SAMPLES, counted_store, experiment_on, local_ray
from tests.figures.figure import Figure
from tests.integration.scripted_engine import ScriptedEngine

SHARDS = 4
EPOCHS = 2


def verbs_on_s3(show: int) -> Iterator[Figure]:
    """A job and a sweep from nothing, and their reruns, which have nothing to do."""
    with tempfile.TemporaryDirectory() as name, counted_store(Path(name) / "store") as proxy, local_ray():
        train = {"epochs": EPOCHS, "checkpoint": {"every_steps": 3}}
        job = experiment_on("s3://figures/job", Path(name), SHARDS, train=train, rewrite={"delivery": "inline"})
        run_one_job(job, ScriptedEngine)
        content = storage.read_json(storage.join(job.output, RUN_FILE))
        samples = content["training"]["samples"]
        expected = SHARDS * SAMPLES * EPOCHS
        yield Figure(show, "laclip run on S3: samples trained on", samples, "samples", expected, expected)
        before = identities(job.output)
        run_one_job(job, ScriptedEngine)
        again = changed(before, identities(job.output))
        yield Figure(show, "laclip run on S3: files that a rerun changes", again, "files", at_most=0)
        data = {"path": f"{job.output.rpartition('/')[0]}/data"}
        sweep = experiment_on(
            "s3://figures/job",
            Path(name),
            SHARDS,
            train=train,
            tune={"p": [0.0, 1.0], "evaluate_every_epochs": 1},
            evaluate={"retrieval": [{"name": "itself", "data": data}]},
        )
        run_sweep(sweep)
        rows = list(csv.DictReader(storage.read_bytes(f"{sweep.tune_output}/sweep.csv").decode().splitlines()))
        yield Figure(show, "laclip tune on S3: evaluated epochs of two points", len(rows), "epochs", 4, 4)
        copy = Path(name) / "best.yaml"  # configs are read from local files
        copy.write_bytes(storage.read_bytes(f"{sweep.tune_output}/best.yaml"))
        best = load_experiment(str(copy)).text.p in (0.0, 1.0)
        yield Figure(show, "laclip tune on S3: best.yaml is one of the points", best, "", at_least=1)
        trials = identities(f"{sweep.tune_output}/trials")
        run_sweep(sweep)
        again = changed(trials, identities(f"{sweep.tune_output}/trials"))
        yield Figure(show, "laclip tune on S3: files of runs that a rerun changes", again, "files", at_most=0)
        yield Figure(show, "requests of all", len(proxy.take()), "requests")


def identities(location: str) -> dict[str, str]:
    """The identity of every file below a URL, apart from the summaries that each start writes anew."""
    urls = storage.list_files(location)
    return {url: storage.identity(url) for url in urls if not url.endswith(("/summary.json", f"/{RUN_FILE}"))}


def changed(before: dict[str, str], after: dict[str, str]) -> int:
    """How many files are new, gone or replaced."""
    return len(set(before.items()) ^ set(after.items()))
