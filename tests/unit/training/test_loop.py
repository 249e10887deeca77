"""What workers agree on is the sum of what each has done, and a loss that is not finite has a name."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import TrainConfig
from laclip_ray.data.consumption import Consumption
from laclip_ray.data.schedule import Position
from laclip_ray.data.text_choice import ShownText
from laclip_ray.training.checkpoint import TrainingState
from laclip_ray.training.loop import Window, made_ahead, merge, worker_batch_size


def part_of(
    counts: dict[int, int], skipped: int = 0, is_due: bool = False, non_finite: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a worker tells."""
    taken = Consumption(Position(), 1, {0: Counter(counts)})
    if skipped:
        taken.skipped.counts["image_unreadable"] = skipped
        taken.skipped.names["image_unreadable"] = ["a"]
    return {**Window(2).report(taken, is_due), "non_finite": non_finite, "loss": float(sum(counts.values()))}


def test_what_is_merged_is_what_all_workers_took_since_the_start() -> None:
    start = TrainingState(4, 2, Position(), {0: {ShownText.CAPTION: 2}}, {"image_unreadable": 2}, {}, 3)
    parts = [{**part_of({ShownText.REWRITE: 3}), "skipped_batches": 1}, part_of({ShownText.CAPTION: 1}, skipped=1)]
    merged = merge(start, parts, 8)
    assert merged.state.shown_counts == {0: {ShownText.CAPTION: 3, ShownText.REWRITE: 3}}
    assert (merged.state.step, merged.state.samples, merged.state.skipped_batches) == (8, 6, 4)
    assert merged.state.skipped == {"image_unreadable": 3}
    assert merged.state.skipped_names == {"image_unreadable": ["a"]}
    assert merged.loss == 2.0


def test_the_first_workers_clock_decides_on_a_checkpoint() -> None:
    for is_due in (True, False):
        parts = [part_of({}, is_due=is_due), part_of({}, is_due=not is_due)]
        assert merge(TrainingState(), parts, 1).is_save_due == is_due


@pytest.mark.parametrize(("step", "ids"), [(7, ["b", "x", "y"]), (6, ["b"]), (8, ["x", "y"])])
def test_the_first_batch_whose_loss_is_not_finite_is_named_whole(step: int, ids: list[str]) -> None:
    parts = [
        part_of({}, non_finite={"step": step, "ids": ["b"]}),
        part_of({}, non_finite={"step": 7, "ids": ["x", "y"]}),
        part_of({}),
    ]
    assert merge(TrainingState(), parts, 9).non_finite == {"step": min(step, 7), "ids": ids}


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


def test_batches_that_are_all_left_out_are_in_the_end_taken_for_the_weights_fault() -> None:
    window = Window(2)
    for step in range(1, 21):
        assert window.non_finite_batch() is None
        window.add(step, torch.tensor(float("nan")), False, [f"a{step}"])
    assert window.non_finite_batch() == {"step": 1, "ids": ["a1"]}
    window.add(21, torch.tensor(1.0), True, ["b"])
    assert window.non_finite_batch() is None


@given(batch_size=st.integers(1, 20_000), world_size=st.integers(1, 200))
def test_workers_shares_are_the_batch_or_the_next_smaller_one_that_they_can_share(
    batch_size: int, world_size: int
) -> None:
    if world_size > batch_size:
        return
    share = worker_batch_size(TrainConfig(batch_size=batch_size), world_size, "fast")
    assert batch_size - world_size < share * world_size <= batch_size
    exact = worker_batch_size(TrainConfig(batch_size=batch_size), world_size, "exact")
    assert batch_size - 32 * world_size < exact * world_size <= batch_size
    assert exact * world_size == batch_size or exact < 32 or exact % 32 == 0


def test_the_first_batch_is_made_before_it_is_asked_for_and_all_come_in_order() -> None:
    was_made = threading.Event()

    def batches() -> Iterator[dict[str, Any]]:
        was_made.set()
        yield from ({"number": number} for number in range(3))

    found = made_ahead(batches(), 2)
    assert was_made.wait(timeout=5)
    assert [batch["number"] for batch in found] == [0, 1, 2]


def test_a_stream_without_a_batch_ends_at_once() -> None:
    assert list(made_ahead(iter(()), 2)) == []


def test_an_error_of_the_stream_is_raised_where_the_first_batch_is_asked_for() -> None:
    def fail(number: int) -> dict[str, Any]:
        raise OSError(f"storage is gone at {number}")

    found = made_ahead(map(fail, range(2)), 2)
    with pytest.raises(OSError, match="storage is gone at 0"):
        next(found)


def test_no_more_batches_are_made_ahead_than_were_asked_for() -> None:
    made: list[int] = []

    def batches() -> Iterator[dict[str, Any]]:
        for number in range(10):
            made.append(number)
            yield {"number": number}

    found = made_ahead(batches(), 2)
    assert next(found) == {"number": 0}
    threading.Event().wait(0.2)  # the thread would make the others in far less
    assert len(made) <= 4  # the one that was taken, two that wait, and one in hand
    assert [batch["number"] for batch in found] == list(range(1, 10))
