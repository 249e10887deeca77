"""Figures of rewriting and training in one job."""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, to_yaml, with_overrides
from laclip_ray.demo.run import demo_experiment
from laclip_ray.demo.world import write_world
from laclip_ray.randomness import uniform
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.training.metrics import read_metrics
from tests.figures.figure import Figure, exit_code
from tests.integration.chaos import contents
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment
from tests.integration.training_chaos import missing_or_repeated, run_chaos

DELIVERIES = ("ahead", "inline", "follow")
PAIRS = 5
"""Interleaved pairs of a ratio; the median counts."""


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Those of the numbered shows, or all; one run can be of several."""
    measure = ((real_engine, {1, 2, 4}), (scripted_engine, {1}), (follow, {3}), (kills, {5}), (refused, {6}))
    for show, numbers in measure:
        if not shows or numbers & set(shows):
            with tempfile.TemporaryDirectory() as name:
                yield from show(Path(name))


def run_job(experiment: Experiment, directory: Path, engine: str) -> dict[str, Any]:
    """`laclip run` in a process of its own (`onejob_run`); what it wrote, and what its observer saw."""
    config, seen = directory / "job.yaml", directory / "seen.json"
    config.write_text(to_yaml(experiment))
    command = [sys.executable, "-m", "tests.figures.onejob_run", str(config), engine, str(seen)]
    done = subprocess.run(command, env=child_environment(), cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run: dict[str, Any] = storage.read_json(storage.join(experiment.output, "run.json"))
    return run | {"seen": json.loads(seen.read_text())}


def real_engine(directory: Path) -> Iterator[Figure]:
    """Shows 1, 2 and 4: the demo's world in 50 shards, with a real engine, by each delivery.

    Training that does not wait has a larger model, so that rewriting takes less than two of its epochs, and small
    blocks, so that reading does not run ahead of it by an epoch.
    """
    write_world(directory / "world", seed=0, train_count=4_000, test_count=12, retrieval_count=12, samples_per_shard=80)
    demo = demo_experiment(str(directory))
    slower = directory / "slower.json"
    clip = json.loads(Path(demo.model.name).read_text())
    slower.write_text(json.dumps(clip | {"vision_cfg": {**clip["vision_cfg"], "width": 48}}))
    epochs = 3
    changes = {
        "train.epochs": epochs,
        "train.workers": 1,
        "rewrite.prompt_sets": ["crowd", "cleaned"],
        "ray.local_cpus": 6,
    }
    base = with_overrides(demo, changes)
    ids: list[dict[str, set[str]]] = []
    for delivery in DELIVERIES:
        experiment = with_overrides(base, {"output": str(directory / delivery), "rewrite.delivery": delivery})
        if delivery == "follow":
            experiment = with_overrides(experiment, {"model.name": str(slower), "stream.rows_per_block": 16})
        run = run_job(experiment, directory, "vllm")
        rewriting, training, seen = run["rewriting"], run["training"], run["seen"]
        ids.append({name: {key[0] for key in rows} for name, rows in contents(experiment).items()})
        yield Figure(1, f"shards, {delivery}, vLLM", rewriting["shards"], "shards", at_least=24)
        wrong = training["not_trained_on"] - training["samples_per_epoch"] * epochs % experiment.train.batch_size
        yield Figure(1, f"samples not trained on, beyond the last batch, {delivery}, vLLM", wrong, "samples", at_most=0)
        by_epoch = [training["by_epoch"][str(epoch)]["p_effective"] for epoch in range(epochs)]
        yield Figure(1, f"effective p in the first epoch, {delivery}, vLLM", by_epoch[0], "share")
        yield Figure(1, f"effective p in the last epoch, {delivery}, vLLM", by_epoch[-1], "share")
        if delivery == "inline":
            first = next(each for each in run["timeline"] if "first step" in each["event"])
            share = first["rewritten_shards"] / rewriting["shards"]
            yield Figure(2, "shards rewritten at the first step, inline", share, "share", at_most=1 / 3)
        yield Figure(
            4,
            f"engine actors alive at the end of the second epoch, {delivery}",
            _engines_at(2.0, experiment, seen["alive"]),
            "actors",
            at_most=0,
        )
        yield Figure(4, f"engine actors that there were, {delivery}", seen["engines"], "actors", at_least=1)
        if delivery == "inline":
            again = with_overrides(experiment, {"train.output": str(directory / "again")})
            run = run_job(again, directory, "vllm")
            yield Figure(2, "engine actors of a second run on the set", run["seen"]["engines"], "actors", at_most=0)
    differing = sum(len(one[name] ^ ids[0][name]) for one in ids[1:] for name in one)
    yield Figure(1, "captions of one set and not of another, vLLM", differing, "captions", at_most=0)


def _engines_at(epoch: float, experiment: Experiment, alive: list[tuple[float, int]]) -> int:
    """The engines' actors when so many epochs were trained."""
    reached_s = next(row["unix_time_s"] for row in read_metrics(experiment.train_output) if row["epoch"] >= epoch)
    return next(count for time_s, count in alive if time_s >= reached_s)


def _experiment(directory: Path, name: str, **changes: Any) -> Experiment:
    model = directory / "model.json"
    model.write_text(json.dumps(MODEL))
    return with_overrides(
        parse_experiment(
            {
                "name": name,
                "output": str(directory / name),
                "data": {"path": str(directory / "data")},
                "text": {"p": 0.8},
                "rewrite": {
                    "model": "demo-rewriter",
                    "prompt_sets": ["crowd"],
                    "gate": {"min_shared_words": 0},
                },
                "model": {"name": str(model)},
                "stream": {"rows_per_block": 16, "shuffle_buffer_rows": 64},
                "train": {
                    "epochs": 3,
                    "batch_size": 16,
                    "workers": 1,
                    "max_failures": 100,
                    "log_every_steps": 4,
                    "checkpoint": {"every_steps": 4},
                },
                "ray": {"local_cpus": 8},
            }
        ),
        changes,
    )


def _write_data(directory: Path, shards: int, samples: int) -> Counter[str]:
    for number in range(shards):
        write_shard(directory / "data" / f"{number:03d}.tar", good_samples(number * samples, samples))
    return Counter(f"s{number:05d}" for number in range(shards * samples))


def scripted_engine(directory: Path) -> Iterator[Figure]:
    """Show 1: with a scripted engine the sets are equal."""
    _write_data(directory, 24, 40)
    written = []
    for delivery in DELIVERIES:
        experiment = _experiment(directory, delivery, **{"rewrite.delivery": delivery})
        training = run_job(experiment, directory, "process:0.005")["training"]
        written.append(contents(experiment)["crowd"])
        yield Figure(1, f"samples not trained on, {delivery}", training["not_trained_on"], "samples", at_most=0)
    differing = sum(len(written[0].items() ^ each.items()) for each in written[1:])
    yield Figure(1, "rows that differ between deliveries, scripted engine", differing, "rows", at_most=0)


def follow(directory: Path) -> Iterator[Figure]:
    """Show 3: training beside an engine that sleeps, against training alone.

    The second epoch counts: rewriting goes on beside it, and most processes have started. A model whose step is slower
    than reading stands for that of a GPU; what rewriting and processes that start take of the cores counts against it.
    Which of a pair comes first alternates, as a machine's speed drifts; the third epoch, when rewriting has ended in
    both, says how much of a ratio is the machine's.

    How long the engine sleeps is set so that half of the first epoch is late, by a run that counts for nothing else and
    then by each before: what is in time falls with about the square of it. A run that is late as a whole says only that
    it was too long, and is taken for one of which a tenth was in time.
    """
    shards, samples, p = 24, 150, 0.8
    ids = _write_data(directory, shards, samples)
    model = directory / "slower.json"
    model.write_text(json.dumps(MODEL | {"vision_cfg": {**_VISION, "width": 256, "layers": 4}}))
    settings = {**_PACED, "model.name": str(model), "text.p": p}

    def late_share(run: dict[str, Any]) -> float:
        return float(run["training"]["by_epoch"]["0"]["fallbacks"]["not_rewritten"] / (p * len(ids)))

    def next_sleep_s(slept_s: float, late: float) -> float:
        return slept_s * math.sqrt(max(1 - late, 0.1) / 0.5)

    finished = _experiment(directory, "calibrating", **settings)
    sleep_s = next_sleep_s(4.0, late_share(run_job(finished, directory, "sleeping:4.0")))
    ratios: dict[str, list[float]] = {"second epoch": [], "third epoch": [], "all epochs": []}
    shares, late, unlike = [], [], []
    for pair in range(PAIRS):
        beside = _experiment(directory, f"beside-{pair}", **settings)
        alone = with_overrides(finished, {"train.output": str(directory / f"alone-{pair}")})
        runs = {}
        for each in (beside, alone) if pair % 2 == 0 else (alone, beside):
            runs[each.train_output] = run_job(each, directory, f"sleeping:{sleep_s}")
        run = runs[beside.train_output]
        late.append(late_share(run))
        sleep_s = next_sleep_s(sleep_s, late[-1])
        by_epoch = [run["training"]["by_epoch"][str(epoch)] for epoch in range(3)]
        for epoch in (0, 1):  # of the last, the incomplete batch is not trained on
            drawn = sum(uniform("text", beside.seed, epoch, sample_id) < p for sample_id in ids)
            counted = drawn - sum(by_epoch[epoch]["fallbacks"].values())
            unlike.append(abs(counted - round(by_epoch[epoch]["p_effective"] * len(ids))))
        shares.append([each["p_effective"] for each in by_epoch])
        for name, first, last in (("second epoch", 1, 2), ("third epoch", 2, 3), ("all epochs", 0, 3)):
            ratios[name].append(_images_per_s(beside, first, last) / _images_per_s(alone, first, last))
    steady = ratios["second epoch"]
    yield Figure(
        3,
        "images a second beside rewriting, against alone, in the second epoch",
        statistics.median(steady),
        "ratio",
        at_least=0.95,
    )
    for name, value in (
        ("in the lowest pair", min(steady)),
        ("in the highest pair", max(steady)),
        ("in the third epoch, when nothing is rewritten", statistics.median(ratios["third epoch"])),
        ("in all epochs, with the start of all processes", statistics.median(ratios["all epochs"])),
    ):
        yield Figure(3, f"the same {name}", value, "ratio")
    for epoch in range(3):
        yield Figure(3, f"effective p in epoch {epoch}", statistics.median(each[epoch] for each in shares), "share")
    yield Figure(
        3, "samples by which effective p differs from the draws less what was late", max(unlike), "samples", at_most=0
    )
    falls = sum(each != sorted(each) for each in shares)
    yield Figure(3, "runs whose effective p falls from an epoch to the next", falls, "runs", at_most=0)
    for name, value in (("median", statistics.median(late)), ("lowest", min(late)), ("highest", max(late))):
        yield Figure(3, f"share of texts late in the first epoch, {name}", value, "share")


_VISION: dict[str, int] = MODEL["vision_cfg"]  # type: ignore[assignment]
_PACED = {
    "rewrite.delivery": "follow",
    "stream.read_ahead_rows": 128,
    "train.batch_size": 64,
    "train.log_every_steps": 5,
    "train.checkpoint.every_steps": 1_000,
}


def _images_per_s(experiment: Experiment, first_epoch: int, end_epoch: int) -> float:
    """Over the lines of some epochs but the first of all, in which workers and stream start."""
    rows = [row for row in read_metrics(experiment.train_output)[1:] if first_epoch < row["epoch"] <= end_epoch]
    return float(len(rows) / sum(1 / row["images_per_s"] for row in rows))


def kills(directory: Path) -> Iterator[Figure]:
    """Show 5: twenty kills of driver, engine and worker with `inline`."""
    everything = _write_data(directory, 40, 60)
    experiment = _experiment(directory, "killed", **{"rewrite.delivery": "inline"})
    victims = ["engine", "worker", "engine", "driver"] * 5
    found = run_chaos(experiment, victims, [1], 1.0, 8, directory, engine_pace_s=0.12)
    for victim, count in found.kills.items():
        yield Figure(5, f"kills of {victim}", count, "kills")
    yield exit_code(5, "exit code", found.exit_code)
    wrong = missing_or_repeated(experiment.output, everything, experiment.train.epochs)
    yield Figure(5, "samples missing or repeated", wrong, "samples", at_most=0)
    rows = contents(experiment)["crowd"]
    lost = everything.keys() ^ {key[0] for key in rows}
    yield Figure(5, "captions without an outcome", len(lost), "captions", at_most=0)
    yield Figure(5, "units left to do", len(find_backlog(experiment).units), "units", at_most=0)


def refused(directory: Path) -> Iterator[Figure]:
    """Show 6: a plan that cannot fit."""
    _write_data(directory, 2, 20)
    experiment = _experiment(
        directory, "refused", **{"rewrite.delivery": "inline", "train.workers": 8, "train.batch_size": 64}
    )
    config = directory / "refused.yaml"
    config.write_text(to_yaml(experiment))
    started_s = time.monotonic()
    command = [sys.executable, "-m", "laclip_ray", "run", str(config)]
    done = subprocess.run(command, env=child_environment(), cwd=REPOSITORY, check=False, capture_output=True, text=True)
    elapsed_s = time.monotonic() - started_s
    print(done.stderr[-500:])
    assert "laclip run needs" in done.stderr, done.stderr[-2000:]
    yield exit_code(6, "exit code of a plan that cannot fit", done.returncode, 2)
    yield Figure(6, "refused after", elapsed_s, "s", at_most=5)
