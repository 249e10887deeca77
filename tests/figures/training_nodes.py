"""A cluster whose spot node is announced to go, goes, and comes back: `python -m tests.figures.training_nodes CONFIG`.

One node has the driver and reads, two have a worker each; the second of them is taken without its processes being told.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from laclip_ray.config import load_experiment
from tests.integration.procedures import REPOSITORY, child_environment, wait_for
from tests.integration.training_chaos import NOTES, starts_of

ACCELERATOR = "L4"
"""As far as Ray is told, so that workers are on those nodes only."""
PACE_S = 0.15
"""Of a step."""
NOTICE_S = 15
STEPS_BEFORE = 20
"""Before the notice."""


def main() -> int:
    """Run the training in a process of its own; its exit code."""
    config = sys.argv[1]
    notes = Path(load_experiment(config, []).output, NOTES)
    os.environ["LACLIP_CHAOS_PACE_S"] = str(PACE_S)  # of the nodes, which the workers have it from
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    worker: dict[str, Any] = {"num_cpus": 1, "resources": {f"accelerator_type:{ACCELERATOR}": 1}}
    try:
        cluster.add_node(**worker)
        spot = cluster.add_node(**worker)
        cluster.wait_for_nodes()
        environment = {**child_environment(), "RAY_ADDRESS": cluster.address}
        program = [sys.executable, "-m", "tests.integration.training_chaos", config]
        with subprocess.Popen(program, cwd=REPOSITORY, env=environment) as driver:

            def reached(starts: int, steps: int) -> bool:
                found = starts_of(notes)
                return driver.poll() is not None or (len(found) >= starts and len(found[-1].steps) >= steps)

            wait_for(lambda: reached(1, STEPS_BEFORE), 180, "a run of both workers")
            subprocess.run([
                sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address,
                "--node-id", spot.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
                "--deadline-remaining-seconds", str(NOTICE_S),
            ], check=True)  # fmt: skip
            before = len(starts_of(notes))
            try:
                driver.wait(NOTICE_S)
            except subprocess.TimeoutExpired:
                cluster.remove_node(spot, allow_graceful=False)
            wait_for(lambda: reached(before + 1, 5), 240, "a run of one worker")
            cluster.add_node(**worker)
            return driver.wait(600)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
