"""`laclip status` of the files that real runs write."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from laclip_ray import lease
from laclip_ray.config import Experiment
from laclip_ray.rewriting.engines.engine import Answer
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.rewriting.running.hooks import RunHooks
from laclip_ray.rewriting.running.pipeline import claim_sets, finish_rewriting, run_rewriting
from laclip_ray.rewriting.running.result import StoppedError
from laclip_ray.status.outputs import OutputStatus, find_locations, look_at
from tests.integration.conftest import good_samples, write_shard
from tests.integration.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


ROWS = 22
"""Of a shard."""


@dataclass
class StuckEngine(ScriptedEngine):
    """Answers the captions of one shard, and no more."""

    asked: int = 0

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        self.asked += 1
        if self.asked > ROWS:
            await asyncio.Event().wait()
        return await super().generate(prompt, count, request_id)


def status_of(experiment: Experiment) -> OutputStatus:
    """The status, of an output without damage."""
    status = look_at(find_locations(experiment.output))
    assert status.problems == ()
    return status


def test_a_stopped_run_is_incomplete_and_continues_later_and_the_status_follows_it(
    tmp_path: Path, make_experiment: Callable[..., Experiment]
) -> None:
    for number in range(3):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * ROWS, ROWS))
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"], "engine": {"shards_in_flight": 1}})
    seen: list[OutputStatus] = []

    def look_and_stop() -> bool:
        seen.append(status_of(experiment))
        return True

    with lease.hold(experiment.rewrite_output, "rewrite.output", "rewrite"):
        backlog = find_backlog(experiment)
        claim_sets(backlog)
        result = finish_rewriting(backlog, StuckEngine, RunHooks(should_stop=look_and_stop))
    assert result.incomplete is not None
    assert isinstance(result.incomplete.__cause__, StoppedError)
    running, stopped = seen[0].rewriting, status_of(experiment).rewriting
    assert running is not None
    assert (running.state, running.units_done, running.units, running.failed) == ("running", 1, 3, 0)
    assert stopped is not None
    assert (stopped.state, stopped.units_done, stopped.units, stopped.failed) == ("incomplete", 1, 3, 2)

    result = run_rewriting(experiment, ScriptedEngine)
    assert (result.commits, result.shards_done_before) == (2, 1)
    rewritten = status_of(experiment).rewriting
    assert rewritten is not None
    assert (rewritten.state, rewritten.units_done, rewritten.failed) == ("finished", 3, 0)
    counts = rewritten.sets[0].counts
    assert counts is not None
    assert (counts.captions, counts.accepted) == (3 * ROWS, result.statistics["crowd"].accepted)
