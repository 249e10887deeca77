"""TensorBoard has a run's curves, config, lineage and tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from laclip_ray.tracking.to_tensorboard import TensorBoardTracker
from laclip_ray.tracking.tracker import Outcome, Table
from tests.unit.tracking.recording import RUN


def events_in(output: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    return events


def texts(events: Any, name: str) -> list[tuple[int, str]]:
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors(name)]


def test_a_run_is_in_the_event_files(tmp_path: Path) -> None:
    tracker = TensorBoardTracker()
    run = replace(RUN, output=str(tmp_path), config={"train": {"epochs": 3}}, lineage={"rewrite_sets": ["f00d"]})
    assert tracker.begin(run) == 0
    tracker.table(Table("samples", ["caption"], [["a cat"]]))
    tracker.scalars(1, {"train/loss": 0.5})
    tracker.summary({"top1": 0.25})
    tracker.end(Outcome.FINISHED)
    events = events_in(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 0.5)]
    assert texts(events, "tables/samples") == [(0, "| caption |\n| --- |\n| a cat |")]
    assert "train.epochs | 3" in texts(events, "config")[0][1]
    assert "f00d" in texts(events, "lineage")[0][1]
    assert texts(events, "outcome") == [(1, "finished")]


def test_a_run_that_makes_no_more_steps_keeps_those_it_has(tmp_path: Path) -> None:
    run = replace(RUN, output=str(tmp_path))
    for after_step in (0, None):
        tracker = TensorBoardTracker()
        tracker.begin(replace(run, after_step=after_step))
        if after_step is not None:
            tracker.scalars(1, {"train/loss": 0.5})
        tracker.summary({"top1": 0.25})
        tracker.end(Outcome.FINISHED)
    events = events_in(tmp_path)
    assert [event.step for event in events.Scalars("train/loss")] == [1]
    assert len(texts(events, "summary")) == 2
    assert len(texts(events, "config")) == 1
