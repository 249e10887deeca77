"""How each half of a job reacts to the end of the other, and which timeline is kept."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from laclip_ray import cluster, storage
from laclip_ray.config import parse_experiment
from laclip_ray.errors import IncompleteError
from laclip_ray.onejob import run
from laclip_ray.onejob.run import RUN_FILE, RewritingThread, _run_ahead
from laclip_ray.rewriting.running.backlog import Backlog, find_backlog
from laclip_ray.rewriting.running.hooks import RunHooks
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.running.shortfall import ShortfallError
from laclip_ray.training.summary import TrainingResult
from tests.cases import case
from tests.unit.conftest import picture, write_tar


@pytest.fixture
def backlog(tmp_path: Path) -> Backlog:
    """Two shards without rewrites."""
    for name in ("a", "b"):
        write_tar(tmp_path / "data" / f"{name}.tar", [(f"{name}.jpg", picture("JPEG")), (f"{name}.txt", b"a cup")])
    content = {"name": "job", "output": str(tmp_path / "out"), "data": {"path": str(tmp_path / "data")}}
    return find_backlog(
        parse_experiment({**content, "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned"]}})
    )


def no_engine(*_: object) -> Any:
    """An engine builder that must not be called."""
    raise AssertionError


class FakeCoordinator:
    """A coordinator's actor that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self.calls.append((name, arguments)))


@pytest.mark.parametrize("settled", [1, 2])
def test_an_error_in_rewriting_stops_training_only_while_training_waits_for_rewrites(
    backlog: Backlog, settled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(backlog: Backlog, _: object, hooks: RunHooks) -> RewritingResult:
        for unit in backlog.units[:settled]:
            hooks.on_settled(unit.shard, 4)
        raise OSError("storage does not answer")

    monkeypatch.setattr("laclip_ray.onejob.run.finish_rewriting", fail)
    coordinator = FakeCoordinator()
    rewriting = RewritingThread(backlog, no_engine, coordinator, stops_training=True)
    rewriting.run()
    assert rewriting.stop_training.is_set() == (settled == 1)
    assert (("end_rewriting", ()) in coordinator.calls) == (settled == 2)
    assert isinstance(rewriting.error, IncompleteError)
    assert "storage does not answer" in str(rewriting.error)


def test_a_timeline_is_kept_only_with_the_training_that_it_describes(
    backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog.to_draw.clear()
    monkeypatch.setattr("laclip_ray.onejob.run.finish_rewriting", lambda *_: RewritingResult(shards=2))
    url = storage.join(backlog.experiment.output, RUN_FILE)
    before = [{"s": 1.0, "event": "as it was", "rewritten_shards": 2}]
    storage.write_json(url, {"timeline": before, "rewriting": None, "training": {"steps": 7}})
    storage.write_json(storage.join(backlog.experiment.rewrite_output, "summary.json"), {})

    def trained(steps: int) -> Callable[[object], TrainingResult]:
        return lambda _: TrainingResult({"steps": steps}, "export")

    monkeypatch.setattr("laclip_ray.onejob.run.run_training", trained(7))
    assert _run_ahead(backlog, no_engine).timeline == before
    monkeypatch.setattr("laclip_ray.onejob.run.run_training", trained(8))
    events = [event["event"] for event in _run_ahead(backlog, no_engine).timeline]
    assert events == ["rewriting has ended", "training has ended"]


def test_a_finished_job_joins_no_cluster(backlog: Backlog, monkeypatch: pytest.MonkeyPatch) -> None:
    backlog.to_draw.clear()
    finished = TrainingResult({"steps": 7}, "export", was_finished=True)
    monkeypatch.setattr(run, "find_backlog", lambda _: backlog)
    monkeypatch.setattr(run, "finish_rewriting", lambda *_: RewritingResult(shards=2))
    monkeypatch.setattr(run, "check_training", lambda _: None)
    monkeypatch.setattr(run, "finished_result", lambda _: finished)
    monkeypatch.setattr(run, "run_training", lambda _: finished)
    monkeypatch.setattr(cluster, "connect", lambda *_: pytest.fail("a cluster was joined"))
    storage.write_json(storage.join(backlog.experiment.rewrite_output, "summary.json"), {})
    assert run.run_one_job(backlog.experiment, no_engine).training == finished


@case(
    "Reading data",
    "`laclip run` on data whose rewrites are all refused",
    "training does not start",
    exit_code=3,
    counted_as="the gate's reasons",
)
def test_training_does_not_start_without_an_accepted_rewrite(backlog: Backlog, monkeypatch: pytest.MonkeyPatch) -> None:
    result = RewritingResult(shards=2, incomplete=ShortfallError("no rewrite was accepted"))
    monkeypatch.setattr("laclip_ray.onejob.run.finish_rewriting", lambda *_: result)
    monkeypatch.setattr("laclip_ray.onejob.run.run_training", lambda _: pytest.fail("training was started"))
    with pytest.raises(ShortfallError):
        _run_ahead(backlog, no_engine)
    rewriting = RewritingThread(backlog, no_engine, FakeCoordinator(), stops_training=True)
    rewriting.run()
    assert rewriting.stop_training.is_set()
