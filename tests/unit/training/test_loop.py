"""What workers agree on is the sum of what each has done, and a loss that is not finite has a name."""

from collections import Counter

import pytest
import torch
from torch import distributed

from laclip_ray.data.augment import TextSource
from laclip_ray.data.schedule import Position
from laclip_ray.data.stream import Consumption
from laclip_ray.training.checkpoint import TrainingState
from laclip_ray.training.loop import Report, Window, merge


def consumption(rows: list[int], source: TextSource, skipped: str | None = None) -> Consumption:
    taken = Consumption(Position(), 1, {0: Counter([source] * len(rows))})
    taken.position.consume(0, rows, 4)
    if skipped is not None:
        taken.skipped[skipped] += 1
        taken.skipped_names[skipped] = ["a"]
    return taken


@pytest.fixture
def _two_workers(monkeypatch: pytest.MonkeyPatch) -> Report:
    """Another worker, whose report is gathered beside this one's."""
    other = Report(
        consumption([1, 3], TextSource.CAPTION, "image_unreadable"), 1, False, {"step": 7, "ids": ["x", "y"]}
    )

    def gather(parts: list[object], mine: object) -> None:
        parts[:] = [mine, other.to_json()]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    return other


@pytest.mark.usefixtures("_two_workers")
def test_what_is_merged_is_what_all_workers_took_since_the_start() -> None:
    start = TrainingState(4, 2, Position(), {0: {TextSource.CAPTION: 2}}, {"image_unreadable": 2}, {}, 3)
    merged = merge(start, Report(consumption([0, 2], TextSource.REWRITE), 1, True, None), 8)
    assert merged.state.position.is_done(0)
    assert merged.state.sources == {0: {TextSource.CAPTION: 4, TextSource.REWRITE: 2}}
    assert (merged.state.step, merged.state.samples, merged.state.skipped_batches) == (8, 6, 4)
    assert merged.state.skipped == {"image_unreadable": 3}
    assert merged.state.skipped_names == {"image_unreadable": ["a"]}


@pytest.mark.usefixtures("_two_workers")
def test_the_first_workers_clock_decides_on_a_checkpoint() -> None:
    for is_due in (True, False):
        report = Report(consumption([0], TextSource.REWRITE), 0, is_due, None)
        assert merge(TrainingState(), report, 1).is_save_due == is_due


@pytest.mark.usefixtures("_two_workers")
@pytest.mark.parametrize(("step", "ids"), [(7, ["b", "x", "y"]), (6, ["b"]), (8, ["x", "y"])])
def test_the_first_batch_whose_loss_is_not_finite_is_named_whole(step: int, ids: list[str]) -> None:
    report = Report(consumption([0], TextSource.REWRITE), 0, False, {"step": step, "ids": ["b"]})
    assert merge(TrainingState(), report, 9).non_finite == {"step": min(step, 7), "ids": ids}


def test_a_window_names_the_first_loss_that_is_not_finite() -> None:
    window = Window(2)
    assert window.non_finite_batch() is None
    for step, loss in enumerate([1.0, float("nan"), float("inf")], start=1):
        window.add(step, torch.tensor(loss), True, [f"a{step}", f"b{step}"])
    assert window.non_finite_batch() == {"step": 2, "ids": ["a2", "b2"]}


def test_a_batch_that_was_left_out_is_counted_and_not_averaged() -> None:
    window = Window(2)
    window.add(1, torch.tensor(2.0), True, ["a"])
    window.add(2, torch.tensor(float("nan")), False, ["b"])
    assert window.skipped_batches == 1
    assert window.non_finite_batch() is None
    assert window.mean_since_save() == 2.0
    assert window.mean_since_save() is None
