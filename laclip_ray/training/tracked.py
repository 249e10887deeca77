"""Trackers of a training run: rank 0's worker tells them, so they are checked on the nodes that may have it."""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray import cluster
from laclip_ray.config import Experiment, TrackConfig
from laclip_ray.endings.causes import describe
from laclip_ray.errors import UserError
from laclip_ray.rewriting.sample_table import sample_table
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.tally import first_names
from laclip_ray.tracking.choice import NEEDS_NOTHING, begin_trackers, check_trackers
from laclip_ray.tracking.tracker import Table
from laclip_ray.tracking.trackers import Trackers

_NODE_TIMEOUT_S = 120.0


def track_training(
    experiment: Experiment, rewrite_sets: Sequence[Mapping[str, Any]], shards: int, from_step: int
) -> Trackers:
    """Begin the run in its trackers, or continue it.

    Args:
        experiment: the configuration.
        rewrite_sets: the lineage of the rewrites that the run reads.
        shards: of the dataset.
        from_step: the step of the checkpoint that it resumes from; 0 at the start.
    """
    trackers = begin_trackers(experiment, "train", experiment.train_output, {"rewrite_sets": rewrite_sets}, from_step)
    of_data = experiment.data, shards, experiment.output

    def samples() -> Table | None:
        sets = [RewriteSet(each["location"], each["gate"], each["newest_revision"]) for each in rewrite_sets]
        committed = {rewrite_set: rewrite_set.committed_revisions() for rewrite_set in sets}
        return sample_table(committed, *of_data, experiment.track, experiment.seed)

    trackers.table(samples, only_first=True)
    return trackers


def check_trackers_on_nodes(track: TrackConfig, output: str, workers: cluster.ResourceGroup) -> None:
    """Refuse trackers that would not work on a node that may have rank 0's worker. This process's node is left out.

    Args:
        track: which trackers.
        output: `output` of the experiment.
        workers: where workers may run.

    Raises:
        UserError: with the nodes and what each one lacks.
    """
    if {*track.report_to} <= NEEDS_NOTHING:
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    nodes = [
        node for node in cluster.alive_nodes() if node["NodeID"] != here and cluster.count_fitting(workers, [node], 1)
    ]
    task = ray.remote(num_cpus=0, max_retries=0)(_problem)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            track, output
        ): node["NodeManagerAddress"]
        for node in nodes
    }
    answered, silent = ray.wait([*asked], num_returns=len(asked), timeout=_NODE_TIMEOUT_S) if asked else ([], [])
    problems = {asked[each]: f"no answer within {_NODE_TIMEOUT_S:.0f} s" for each in silent}
    for each in answered:
        try:
            problem = ray.get(each)
        except Exception as error:  # noqa: BLE001 - a node without this package raises any type
            problem = describe(error)
        if problem is not None:
            problems[asked[each]] = problem
    if problems:
        raise UserError(
            f"trackers would not work on {len(problems)} of {len(nodes)} nodes that may report: "
            + first_names((f"{node}: {text}" for node, text in problems.items()), separator="; ")
        )


def _problem(track: TrackConfig, output: str) -> str | None:
    """Why the trackers would not work here; None if they would."""
    try:
        check_trackers(track, output)
    except UserError as error:
        return str(error)
    return None
