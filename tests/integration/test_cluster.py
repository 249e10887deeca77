"""A cluster of two nodes on this machine."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laclip_ray.config import Experiment, to_yaml
from tests.integration.conftest import good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment

pytestmark = pytest.mark.ray

PROGRAM = """
import os, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
try:
    cluster.add_node(num_cpus=2)
    os.environ["RAY_ADDRESS"] = cluster.address
    from laclip_ray.cli import main
    for verb in ("rewrite", "train"):
        try:
            main([verb, sys.argv[1]])
        except SystemExit as exit:
            print(verb, exit.code)
finally:
    import ray
    ray.shutdown()
    cluster.shutdown()
"""


def test_a_local_output_on_several_nodes_is_refused_before_anything_is_written(
    tmp_path: Path, make_experiment: Callable[..., Experiment]
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 20))
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(make_experiment(text={"p": 0.0})))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(config)],
        cwd=REPOSITORY, env=child_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    refusals = [line for line in run.stderr.splitlines() if "the cluster has 2 nodes that may not see it" in line]
    for verb, refusal in zip(("rewrite", "train"), refusals, strict=True):
        assert f"{verb} 2" in run.stdout
        assert f"{verb}.output" in refusal
    assert not (tmp_path / "out").exists()
