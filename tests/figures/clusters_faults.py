"""Figures of runs on a real S3 server whose requests fail: rewriting and training through a proxy that injects faults.

An undisturbed run gives the expected results. A run with many short bursts of faults has to give the same ones, without
anybody's help. A request that fails 50 times in a row outlasts every retry: the run ends with exit code 3 or 4, or
repairs itself, and the same command gives the same results in the end.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.endings.report import report_of
from laclip_ray.errors import ExitCode
from laclip_ray.models.files import MODEL_FILE
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets
from laclip_ray.training.checkpoint import newest_checkpoint, read_state
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run import run_training
from tests.figures.clusters_requests import counted_store, experiment_on, local_ray
from tests.figures.figure import Figure
from tests.integration.scripted_engine import SeededEngine
from tests.s3_proxy import Burst, FaultKind, S3Proxy, random_bursts

logger = logging.getLogger(__name__)

FAULTS = 100
IN_A_ROW = 50
SHARDS = 12
EPOCHS = 3
_REWRITING_REQUESTS: tuple[tuple[FaultKind, str], ...] = (
    ("reset", "/data/005.tar"),
    ("unavailable", "/cleaned/attempts/003.tar"),
    ("cut", "/crowd/draws/0/007.tar"),
    ("reset", "/recipe.json"),
)
"""What fails 50 times in a row, and where: at the start, before and after generation, at a commit."""
_TRAINING_REQUESTS: tuple[tuple[FaultKind, str], ...] = (
    ("cut", "/data/005.tar"),
    ("reset", "/verdicts/"),
    ("unavailable", "/open_clip_model.safetensors"),
    ("reset", "/metrics.jsonl"),
)
_ANSWERS = frozenset({ExitCode.COMPLETE, ExitCode.INCOMPLETE, ExitCode.ENVIRONMENT})

Results = dict[str, Any]


def faults(show: int) -> Iterator[Figure]:
    """Rewriting and training with many short bursts of faults, and with requests that fail 50 times in a row."""
    with tempfile.TemporaryDirectory() as name, counted_store(Path(name) / "store") as proxy, local_ray():
        directory = Path(name)
        calm = rewriting_on("calm", directory)
        run_rewriting(calm, SeededEngine)
        yield from _disturbed(
            show,
            "rewriting",
            proxy,
            lambda output: rewriting_on(output, directory),
            lambda experiment: run_rewriting(experiment, SeededEngine),
            rewrites_of,
            rewrites_of(calm),
            _REWRITING_REQUESTS,
        )
        trained = training_on("calm", directory)
        run_training(trained)
        yield from _disturbed(
            show,
            "training",
            proxy,
            lambda output: training_on(output, directory),
            run_training,
            model_of,
            model_of(trained),
            _TRAINING_REQUESTS,
        )


def rewriting_on(output: str, directory: Path) -> Experiment:
    """Rewriting of the shared data into an output of its own."""
    rewrite = {"output": f"s3://figures/{output}/rewrites", "rewrites_per_set": 2}
    return experiment_on("s3://figures/faults", directory, SHARDS, rewrite=rewrite)


def training_on(output: str, directory: Path) -> Experiment:
    """Training on the undisturbed rewrites into an output of its own."""
    train = {"output": f"s3://figures/{output}/train", "epochs": EPOCHS, "checkpoint": {"every_steps": 6}}
    rewrites = [f"s3://figures/calm/rewrites/{name}" for name in ("crowd", "cleaned")]
    return experiment_on(
        "s3://figures/faults",
        directory,
        SHARDS,
        train=train,
        text={"rewrites": rewrites},
        stream={"order": "exact"},
    )


def _disturbed(
    show: int,
    verb: str,
    proxy: S3Proxy,
    experiment_of: Callable[[str], Experiment],
    run: Callable[[Experiment], Any],
    results_of: Callable[[Experiment], Results],
    expected: Results,
    broken: tuple[tuple[FaultKind, str], ...],
) -> Iterator[Figure]:
    experiment = experiment_of(f"{verb}-bursts")
    proxy.inject(random_bursts(Random(0), FAULTS, most_after=1))
    code = exit_code_of(run, experiment)
    hits = proxy.hits.copy()
    proxy.clear()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(hits.items()))
    yield Figure(show, f"{verb}: random faults, 1 to 4 in a row ({kinds})", hits.total(), "faults", at_least=FAULTS)
    yield Figure(show, f"{verb}: exit code", code, "", 0, 0)
    yield Figure(show, f"{verb}: results that differ", differing(results_of(experiment), expected), "", 0, 0)
    torn = differ = 0
    codes = []
    for number, (kind, below) in enumerate(broken):
        experiment = experiment_of(f"{verb}-broken-{number}")
        proxy.inject([Burst(0, kind, IN_A_ROW, below)])
        codes.append(exit_code_of(run, experiment))
        logger.warning("%s, %s %s: exit code %d, %s", verb, kind, below, codes[-1], dict(proxy.hits))
        assert proxy.hits.total(), f"no request to {below}"
        proxy.clear()
        torn += torn_files(experiment)
        code = exit_code_of(run, experiment)
        differ += code != 0 or differing(results_of(experiment), expected) > 0
    names = ", ".join(map(str, codes))
    yield Figure(show, f"{verb}: runs with a request that fails {IN_A_ROW} times in a row (exit codes {names})",
                 len(broken), "runs")  # fmt: skip
    yield Figure(
        show, f"{verb}: of these, exit codes other than 0, 3 and 4", sum(c not in _ANSWERS for c in codes), "runs", 0, 0
    )
    yield Figure(show, f"{verb}: files in their outputs that cannot be read", torn, "files", 0, 0)
    yield Figure(show, f"{verb}: outputs that differ after the same command", differ, "runs", 0, 0)


def exit_code_of(run: Callable[[Experiment], Any], experiment: Experiment) -> int:
    """The exit code that the command line would give."""
    try:
        run(experiment)
    except Exception as error:  # noqa: BLE001 - as the command line reports errors
        report = report_of(error, {"output": experiment.output, "data.path": str(experiment.data.path)})
        logger.warning("exit code %d: %s", report.exit_code, report.message)
        return int(report.exit_code)
    return 0


def rewrites_of(experiment: Experiment) -> Results:
    """The draws and verdicts of all shards."""
    found: Results = {}
    for rewrite_set in configured_sets(SetSelection.of(experiment)).sets:
        for shard, revision in rewrite_set.committed_revisions().items():
            table = rewrite_set.read(shard, revision)
            found[f"{rewrite_set.name}/{shard}"] = table.replace_schema_metadata(None)
    assert len(found) <= SHARDS * len(experiment.rewrite.prompt_sets)
    return found


def model_of(experiment: Experiment) -> Results:
    """The weights, and what the last checkpoint says of the samples."""
    newest = newest_checkpoint(experiment.train_output)
    assert newest is not None
    state = read_state(newest)
    weights = load(storage.read_bytes(storage.join(RunPaths(experiment.train_output).export, MODEL_FILE)))
    return {**weights, **{name: state[name] for name in ("step", "samples", "position", "sources", "skipped")}}


def differing(found: Results, expected: Results) -> int:
    """How many results differ, or are missing."""
    names = found.keys() | expected.keys()
    return sum(name not in found or name not in expected or not _equal(found[name], expected[name]) for name in names)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, pa.Table):
        return bool(one.equals(other))
    return bool(one == other)


def torn_files(experiment: Experiment) -> int:
    """Files below the outputs that are not whole, as far as their formats tell."""
    torn = 0
    for output in (experiment.rewrite_output, experiment.train_output):
        for url in storage.list_files(output):
            try:
                if url.endswith(".parquet"):
                    storage.read_parquet(url)
                elif url.endswith(".json"):
                    json.loads(storage.read_bytes(url))
                elif url.endswith(".safetensors"):
                    load(storage.read_bytes(url))
            except Exception as error:  # noqa: BLE001 - each is a torn file
                logger.warning("%s: %r", url, error)
                torn += 1
    return torn
