"""Rewriting, training and evaluation wholly on a real S3 server: data, rewrites, checkpoints and results."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.creation import create_bytes
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.onejob.run import RUN_FILE, run_one_job
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets
from laclip_ray.status.outputs import find_locations, look_at
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.run import run_training
from tests.integration.conftest import good_samples, write_shard
from tests.integration.scripted_engine import ScriptedEngine, SeededEngine
from tests.s3_proxy import FaultKind, Request, S3Proxy, random_bursts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SHARDS, SAMPLES = 2, 16
FAULTS = 12
QUICK_FAULTS: tuple[FaultKind, ...] = ("reset", "lost", "cut")
"""A 503 costs a retry some seconds."""


@pytest.fixture
def on_store(bucket: str, tmp_path: Path, make_experiment: Callable[..., Experiment]) -> Experiment:
    """An experiment whose data and outputs are in the bucket."""
    location = f"{bucket}/{tmp_path.name}"
    for number in range(SHARDS):
        write_shard(tmp_path / "tars" / f"{number}.tar", good_samples(number * SAMPLES, SAMPLES))
        storage.write_bytes(f"{location}/data/{number}.tar", (tmp_path / "tars" / f"{number}.tar").read_bytes())
    return make_experiment(
        output=f"{location}/out",
        data={"path": f"{location}/data"},
        rewrite={"delivery": "ahead"},
        text={"p": "uniform"},
        train={"workers": 1, "epochs": 1},
        evaluate={"retrieval": [{"name": "own", "data": {"path": f"{location}/data"}}]},
    )


def assert_few_requests(requests: Sequence[Request]) -> None:
    """Five requests for each (set, shard), besides the shard's data, and what the run's end reads: metadata, and a few
    draws that trackers show."""
    for part, kinds in (("attempts", ("GET", "PUT", "DELETE")), ("draws", ("PUT",)), ("verdicts", ("PUT",))):
        of_part = Counter(r.kind for r in requests if f"/{part}/" in r.key and ".tar" in r.key)
        if part == "verdicts":
            del of_part["GET"]
        if part == "draws":
            assert of_part.pop("GET", 0) <= 2 * SHARDS
        assert of_part == dict.fromkeys(kinds, 2 * SHARDS)


def test_an_experiment_runs_on_an_object_store_and_a_rerun_has_nothing_to_do(
    on_store: Experiment, s3_faults: S3Proxy
) -> None:
    s3_faults.take()
    rewritten = run_rewriting(on_store, ScriptedEngine)
    assert_few_requests(s3_faults.take())
    assert (rewritten.commits, rewritten.missing) == (2 * SHARDS, {})
    for rewrite_set in configured_sets(SetSelection.of(on_store)).sets:
        accepted = [text for n in range(SHARDS) for text in (rewrite_set.accepted(f"{n}.tar") or {}).values()]
        assert len(accepted) == SHARDS * SAMPLES
        assert all(accepted)
        assert len(rewrite_set.committed()) == SHARDS
    assert run_rewriting(on_store, ScriptedEngine).commits == 0

    trained = run_one_job(on_store, ScriptedEngine).training
    assert trained.summary["samples"] == SHARDS * SAMPLES
    assert trained.summary["p"] == pytest.approx(2 / 3)  # two sets with a rewrite each
    timeline = storage.read_json(storage.join(on_store.output, RUN_FILE))["timeline"]
    assert [event["event"] for event in timeline] == ["rewriting has ended", "training has ended"]
    assert read_metrics(on_store.train_output)[-1]["step"] == trained.summary["steps"]
    assert storage.list_files(storage.join(on_store.train_output, "tensorboard"))
    status = look_at(find_locations(on_store.output))
    assert status.problems == ()
    assert status.training is not None
    assert (status.training.state, status.training.epochs) == ("finished", 1)
    assert status.training.step == trained.summary["steps"]
    assert status.training.loss is not None
    assert status.training.checkpoint is not None
    assert trained.summary["checkpoint"].endswith(status.training.checkpoint)
    before = {url: storage.identity(url) for url in storage.list_files(on_store.train_output)}
    again = run_training(on_store)
    assert json.loads(json.dumps(again.summary)) == json.loads(json.dumps(trained.summary))
    assert {url: storage.identity(url) for url in storage.list_files(on_store.train_output)} == before

    (result,) = run_evaluation(on_store)["results"]
    assert result["images"] == SHARDS * SAMPLES
    assert storage.exists(storage.join(on_store.evaluate_output, "results.json"))


def test_rewriting_that_meets_faults_gives_the_rewrites_of_a_local_run(
    on_store: Experiment, s3_faults: S3Proxy, tmp_path: Path
) -> None:
    local = with_overrides(on_store, {"output": str(tmp_path / "out"), "data.path": str(tmp_path / "tars")})
    run_rewriting(local, SeededEngine)
    s3_faults.inject(random_bursts(Random(1), FAULTS, most_after=3, longest=2, kinds=QUICK_FAULTS))
    try:
        run_rewriting(on_store, SeededEngine)
        assert s3_faults.left == 0
    finally:
        s3_faults.clear()
    assert rewrites_of(on_store) == rewrites_of(local)


def rewrites_of(experiment: Experiment) -> dict[str, list[dict[str, Any]]]:
    """Draws and verdicts by set and shard."""
    return {
        f"{rewrite_set.name}/{number}.tar": rewrite_set.read(f"{number}.tar", 0).to_pylist()
        for rewrite_set in configured_sets(SetSelection.of(experiment)).sets
        for number in range(SHARDS)
    }


def test_of_two_creators_of_a_file_on_the_store_one_succeeds(bucket: str) -> None:
    url = f"{bucket}/created"
    assert create_bytes(url, b"first")
    assert not create_bytes(url, b"second")
    assert storage.read_bytes(url) == b"first"
