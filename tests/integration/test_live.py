"""What processes of a real Ray tell of their work reaches the driver, and the lines of libraries reach the log."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from laclip_ray import progress
from laclip_ray.config import Experiment
from laclip_ray.live.board import Board
from laclip_ray.live.capture import Capture
from laclip_ray.live.wording import lines_of
from laclip_ray.progress.messages import EngineStart, EngineWork, Message, Rewriting, RewritingEnd
from laclip_ray.rewriting.running.pipeline import run_rewriting
from tests.integration.conftest import good_samples, write_shard
from tests.integration.procedures import wait_for
from tests.integration.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_a_watched_run_tells_its_captions_before_a_shard_is_committed(
    tmp_path: Path, make_experiment: Callable[..., Experiment]
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 1_500))
    experiment = make_experiment(rewrite={"prompt_sets": ["cleaned"]})
    told: list[Message] = []
    capture = Capture("rewrite", told.append)
    with capture.open(), progress.watched_by(told.append):
        capture.settle(experiment.output)
        run_rewriting(experiment, partial(ScriptedEngine, delay_s=3.0))  # 1,024 requests at a time
        wait_for(lambda: any(isinstance(message, EngineWork) for message in told), 10, "a message of the engine")
    capture.close(keeps=False)

    starts = [message.state for message in told if isinstance(message, EngineStart)]
    assert starts == ["began", "ended"]
    committed = [message for message in told if isinstance(message, Rewriting)]
    assert (committed[0].units_done, committed[-1].units_done, committed[-1].captions_done) == (0, 1, 1_500)
    assert told.index(RewritingEnd()) > told.index(committed[-1])
    board = Board(0.0)
    before = told[: told.index(committed[-1])]
    for second, message in enumerate(before):
        board.take(message, float(second))
    (line,) = [line for line in lines_of(board, float(len(before))) if line.name == "rewriting"]
    assert "1,024 of 1,500 captions" in line.details
    assert "1 engine" in line.details

    (log,) = (Path(experiment.output) / "logs").iterdir()
    assert progress.MARK not in log.read_text()
