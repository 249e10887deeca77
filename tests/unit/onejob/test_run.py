"""What becomes of the halves of a job is decided by what each has done."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import parse_experiment
from laclip_ray.errors import IncompleteError
from laclip_ray.onejob.run import RUN_FILE, _ahead, _Rewriting
from laclip_ray.rewriting.backlog import Backlog, find_backlog
from laclip_ray.rewriting.pipeline import RewritingResult, RunHooks
from laclip_ray.training.run import TrainingResult
from tests.unit.conftest import picture, write_tar


@pytest.fixture
def work(tmp_path: Path) -> Backlog:
    """Two shards to be drawn."""
    for name in ("a", "b"):
        write_tar(tmp_path / "data" / f"{name}.tar", [(f"{name}.jpg", picture("JPEG")), (f"{name}.txt", b"a cup")])
    content = {"name": "job", "output": str(tmp_path / "out"), "data": {"path": str(tmp_path / "data")}}
    return find_backlog(parse_experiment({**content, "rewrite": {"prompt_sets": ["human"]}}))


def no_engine(*_: object) -> Any:
    """An engine that nobody asks for."""
    raise AssertionError


class Told:
    """A board's actor that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self.calls.append((name, arguments)))


@pytest.mark.parametrize("settled", [1, 2])
def test_an_error_of_rewriting_stops_training_only_while_it_waits_for_text(
    work: Backlog, settled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(work: Backlog, _: object, companion: RunHooks) -> RewritingResult:
        for unit in work.units[:settled]:
            companion.settled(unit.shard, 4)
        raise OSError("storage does not answer")

    monkeypatch.setattr("laclip_ray.onejob.run.finish_rewriting", fail)
    board = Told()
    rewriting = _Rewriting(work, no_engine, board, stops_training=True)
    rewriting.run()
    assert rewriting.stop_training.is_set() == (settled == 1)
    assert (("end_rewriting", ()) in board.calls) == (settled == 2)
    assert isinstance(rewriting.error, IncompleteError)
    assert "storage does not answer" in str(rewriting.error)


def test_the_timeline_of_a_job_is_kept_only_beside_its_own_training(
    work: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.to_draw.clear()
    monkeypatch.setattr("laclip_ray.onejob.run.finish_rewriting", lambda *_: RewritingResult(shards=2))
    url = storage.join(work.experiment.output, RUN_FILE)
    before = [{"s": 1.0, "event": "as it was", "rewritten_shards": 2}]
    storage.write_json(url, {"timeline": before, "rewriting": None, "training": {"steps": 7}})
    storage.write_json(storage.join(work.experiment.rewrite_output, "summary.json"), {})

    def trained(steps: int) -> Callable[[object], TrainingResult]:
        return lambda _: TrainingResult({"steps": steps}, "export")

    monkeypatch.setattr("laclip_ray.onejob.run.run_training", trained(7))
    assert _ahead(work, no_engine).timeline == before
    monkeypatch.setattr("laclip_ray.onejob.run.run_training", trained(8))
    events = [each["event"] for each in _ahead(work, no_engine).timeline]
    assert events == ["rewriting has ended", "training has ended"]
