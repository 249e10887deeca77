"""The main path with a real vLLM engine: killed in the middle, then finished as a submitted Ray job."""

from collections.abc import Callable
from pathlib import Path

import pytest

from laclip_ray.config import Experiment
from laclip_ray.demo.world import write_world
from laclip_ray.rewriting.running.backlog import find_backlog
from tests.integration.conftest import jpeg, write_shard
from tests.integration.procedures import kill_and_resume

pytestmark = [pytest.mark.vllm, pytest.mark.long]

SHARDS, CAPTIONS = 6, 25


def test_a_run_killed_in_the_middle_is_finished_by_a_job_and_leaves_no_engine_process(
    tmp_path: Path, make_experiment: Callable[..., Experiment]
) -> None:
    world = tmp_path / "world"
    write_world(world, train_count=SHARDS * CAPTIONS, test_count=1, retrieval_count=1, samples_per_shard=CAPTIONS)
    # More tokens than the model's context has, in fewer characters than a caption may have.
    write_shard(world / "train" / "long.tar", [("long", {"jpg": jpeg(0), "txt": ("雪地里的一只狗" * 100).encode()})])
    experiment = make_experiment(
        data={"path": str(world / "train")},
        rewrite={"prompt_sets": ["assistant_concise", "cleaned"], "engine": {"shards_in_flight": 1}},
    )
    ids = ["long", *(f"train-{number:06d}" for number in range(SHARDS * CAPTIONS))]
    run = kill_and_resume(experiment, ids, tmp_path)
    assert run.job_exit_code == 0, run.job_output[-4000:]
    assert "succeeded" in run.job_output
    assert "EngineDeadError" not in run.job_output, "a good end is logged as an error"
    assert 0 < run.committed_before < run.units, "the kill came too late to show anything"
    assert run.committed_after == run.units - run.committed_before, "committed shards were done again"
    assert (run.missing_ids, run.repeated_ids) == (0, 0)
    assert run.engine_processes_left == 0
    assert run.faithful_share > 0.7, "the engine does not write what the rewriter was trained to write"
    assert run.cached_tokens > 0, "no prompt head was found in the prefix cache"
    assert "the prefix cache gave" not in run.job_output, "the cache holds less than the heads promise"
    assert "output tokens/s an engine" in run.job_output
    for rewrite_set in find_backlog(experiment).sets.values():
        (row,) = rewrite_set.read("long.tar", 0).to_pylist()
        assert row["reason"] == "prompt_too_long"
