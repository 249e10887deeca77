"""The doctor on a cluster of two nodes on this machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from laclip_ray.config import Experiment, inputs_on_nodes
from laclip_ray.doctor.examination import Here, cluster_checks, outputs_of
from laclip_ray.doctor.ray_cluster import Cluster
from laclip_ray.doctor.results import Result, run_checks
from laclip_ray.onejob.resources import planned_reservations

pytestmark = pytest.mark.ray


def examined(experiment: Experiment) -> dict[str, Result]:
    rewrite, train = experiment.rewrite, experiment.train
    joined = Cluster(
        experiment.ray, rewrite, lambda: planned_reservations(rewrite, train, experiment.stream, rewrites=True)
    )
    results = run_checks(cluster_checks(joined, Here(), outputs_of(experiment), inputs_on_nodes(experiment, "data")))
    joined.leave()
    return {result.name: result for result in results}


def test_every_node_is_asked_and_what_does_not_fit_is_named(
    two_nodes: str, tmp_path: Path, make_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", two_nodes)

    shared = {"shared_paths": [str(tmp_path)]}
    results = examined(make_experiment(ray=shared, train={"workers": 1, "batch_size": 16}))
    outcomes = {name: result.outcome for name, result in results.items() if name != "space on nodes"}
    assert outcomes.pop("language model on nodes") == "skipped"  # the demo's comes with the package
    assert outcomes == dict.fromkeys(outcomes, "passed"), results
    assert results["nodes"].detail == "a task ran on each of 2 nodes"
    assert results["versions on nodes"].detail.startswith("2 nodes have Python ")
    assert ray.is_initialized()  # the connection is the caller's

    results = examined(make_experiment(train={"gpus_per_worker": 1, "workers": 1, "batch_size": 16}))
    failed = {name for name, result in results.items() if result.outcome == "failed"}
    assert failed - {"space on nodes"} == {"room", "outputs on nodes", "inputs on nodes"}
    assert "needs 1 GPUs at once: 1 workers x 1; the cluster has 0" in results["room"].detail
